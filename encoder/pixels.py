"""From a group of frames to one `Clip` in physical units.

Owns: reading files side by side, stacking what they give. Does not own: grouping and order
(`series`), what one file gives (`frames`), the size and range the network sees (`normalise`).
Files are hostile: every failure becomes `UnreadableImage` with one line of reason.
"""

import re
from collections import Counter, deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, replace
from itertools import chain, groupby
from pathlib import Path

import numpy as np
from pydicom import Dataset

from encoder.clip import Clip, Kind
from encoder.codecs import decodes_beside_others
from encoder.errors import UnreadableImage
from encoder.frames import MAX_CINE_FRAMES, Part, load, opened
from encoder.headers import READ_ERRORS, evenly, quiet, raise_if_missing
from encoder.origin import Origin
from encoder.slices import Frame, Group

MAX_DECODED_BYTES = 4 * 2**30
MAX_OPEN_FILES = 4  # of which frames alternate
RUN_FRAMES = 8  # of a volume in one file, decoded by one thread at a time
MAX_REASON_CHARACTERS = 200
_QUOTED = re.compile(r"(['\"]).*?\1")  # what pydicom quotes is a value, and may be a name


@dataclass(frozen=True, slots=True)
class _Job:
    """Frames of one open file that are decoded together."""

    file: Dataset
    frames: list[Frame]


def read(group: Group, *, threads: int = 1, max_bytes: int = MAX_DECODED_BYTES) -> Clip:
    """Decode a group into one clip, (C, T, H, W) float32.

    A volume has all its slices; a cine at most `MAX_CINE_FRAMES`, evenly in time, with `spacing`
    adapted and all its instances in `sources`; a video is a cine if its stream has more than one
    frame. Ultrasound is cut to its 2D regions. More is brighter, whatever the file calls black.
    Raises UnreadableImage where a file is damaged, unsupported, larger than `max_bytes` once
    decoded, or unlike the others of its group; OSError where it cannot be opened.
    """
    taken = _sampled(group)
    step, in_plane_mm = taken.spacing[0], taken.spacing[1:]
    read_parts: list[Part] = []
    read_bytes = 0
    with quiet():
        for part in parts(taken, threads=threads, max_bytes=max_bytes):
            read_parts.append(part)
            read_bytes += sum(picture.values.nbytes for picture in part.pictures)
            if read_bytes > max_bytes:
                limit = f"more than {max_bytes / 2**30:.1f} GiB decoded, which is the limit"
                raise UnreadableImage(group.frames[0].sop_instance_uid, limit)
    for part in read_parts:
        step = step if part.step_s is None else part.step_s
        in_plane_mm = part.in_plane_mm or in_plane_mm
    return stack(read_parts, group, (step, *in_plane_mm))


def _sampled(group: Group) -> Group:
    """Take at most `MAX_CINE_FRAMES` frames of a loop that is made of slices."""
    count = len(group.frames)
    if group.kind is not Kind.CINE or count <= MAX_CINE_FRAMES:
        return group
    picked = evenly(np.arange(float(count)), MAX_CINE_FRAMES)
    step = group.spacing[0] * (count - 1) / (MAX_CINE_FRAMES - 1)
    frames = tuple(group.frames[number] for number in picked)
    return replace(group, frames=frames, spacing=(step, *group.spacing[1:]))


def parts(group: Group, *, threads: int = 1, max_bytes: int = MAX_DECODED_BYTES) -> Iterator[Part]:
    """Decode a group bit by bit, in order of T; what is not taken yet is `threads` parts at most.

    A volume comes in parts of at most `RUN_FRAMES`, and each part has `max_bytes` to itself;
    anything else comes file by file. A file is opened once, but where the frames of more than
    `MAX_OPEN_FILES` alternate. The number of threads changes no value: it is only decoders that run
    side by side, where they can. Raises as `read` does; warnings are the caller's to silence, for
    filters belong to no thread.
    """

    def decoded(job: _Job) -> Part:
        with _reading(job.frames[0]):
            return load(job.file, job.frames, group, max_bytes)

    others = _jobs(group)
    first = next(others)
    jobs = chain((first,), others)
    if threads == 1 or not decodes_beside_others(first.file):
        yield from map(decoded, jobs)
        return
    with ThreadPoolExecutor(threads) as executor:
        ahead: deque[Future[Part]] = deque()
        for job in jobs:
            ahead.append(executor.submit(decoded, job))
            if len(ahead) > threads:
                yield ahead.popleft().result()
        while ahead:
            yield ahead.popleft().result()


def _jobs(group: Group) -> Iterator[_Job]:
    runs = [(path, list(run)) for path, run in groupby(group.frames, key=lambda each: each.path)]
    still_to_come = Counter(path for path, _ in runs)
    kept: dict[Path, Dataset] = {}
    for path, wanted in runs:
        if (file := kept.pop(path, None)) is None:
            with _reading(wanted[0]):
                file = opened(path, group)
        still_to_come[path] -= 1
        if still_to_come[path] and len(kept) < MAX_OPEN_FILES:
            kept[path] = file
        count = RUN_FRAMES if group.kind is Kind.VOLUME else len(wanted)
        for start in range(0, len(wanted), count):
            yield _Job(file, wanted[start : start + count])


@contextmanager
def _reading(frame: Frame) -> Iterator[None]:
    """Turn what a damaged file raises into `UnreadableImage`."""
    try:
        yield
    except READ_ERRORS as error:
        raise_if_missing(error)
        raise UnreadableImage(frame.sop_instance_uid, _reason(error)) from error


def _reason(error: BaseException) -> str:
    text = _QUOTED.sub("…", " ".join(str(error).split()))
    return f"{type(error).__name__}: {text}"[:MAX_REASON_CHARACTERS]


def stack(parts: Sequence[Part], group: Group, spacing: tuple[float, float, float]) -> Clip:
    """Stack the frames along T; a loop in which nothing changes is a still."""
    pictures = [picture for part in parts for picture in part.pictures]
    sources = tuple(dict.fromkeys(frame.sop_instance_uid for frame in group.frames))
    if len({(picture.values.shape, picture.unit) for picture in pictures}) != 1:
        raise UnreadableImage(sources[0], "the frames of its group differ in size or meaning")
    kind, first, origin = group.kind, pictures[0].values, _origin(parts, spacing)
    if kind is not Kind.VOLUME:  # a video is what its stream is, whatever its header counts
        kind = Kind.CINE
        if all(np.array_equal(each.values, first) for each in pictures):
            kind, pictures, spacing = Kind.STILL, pictures[:1], (0.0, *spacing[1:])
            origin = origin and replace(origin, frames=origin.frames[:1])
    valid = None
    if any(picture.valid is not None for picture in pictures):
        whole = np.ones(pictures[0].values.shape[1:], dtype=np.bool_)
        valid = np.stack([whole if p.valid is None else p.valid for p in pictures])
    return Clip(
        array=np.stack([picture.values for picture in pictures], axis=1),
        spacing=spacing,
        kind=kind,
        unit=pictures[0].unit,
        valid=valid,
        sources=sources,
        decoder=" ".join(sorted({part.decoder for part in parts})),
        origin=origin,
    )


def _origin(parts: Sequence[Part], spacing: tuple[float, float, float]) -> Origin | None:
    """Join the places of parts along T."""
    known = [part.origin for part in parts if part.origin is not None]
    if len(known) < len(parts):
        return None
    frames = tuple(frame for origin in known for frame in origin.frames)
    return replace(known[0], frames=frames, pixel=spacing[1:])
