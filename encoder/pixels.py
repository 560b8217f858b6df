"""From a group of frames to one `Clip` in physical units.

Owns: which frames are decoded, what they may cost, stacking them. Does not own: grouping and order
(`series`), decoding (`codecs`, `video`), the meaning of values (`photometry`, `regions`), the size
and range the network sees (`normalise`).
Files are hostile: every failure becomes `UnreadableImage` with one line of reason.
"""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import groupby
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from pydicom import Dataset, dcmread

from encoder import foreground, regions
from encoder.clip import Clip, Kind
from encoder.codecs import DECODERS, PYAV, SIMPLEITK, decode, decoder_name
from encoder.errors import UnreadableImage
from encoder.headers import (
    READ_ERRORS,
    evenly,
    frame_count,
    frame_times,
    quiet,
    raise_if_missing,
)
from encoder.laterality import is_mirrored_picture, mirrored
from encoder.photometry import Picture, colour, picture
from encoder.series import Frame, Group
from encoder.subtraction import Mask, masks, moved
from encoder.video import read_video

MAX_CINE_FRAMES = 64  # decoded of one loop, evenly through its time
MAX_DECODED_BYTES = 4 * 2**30
MAX_REASON_CHARACTERS = 200
_QUOTED = re.compile(r"(['\"]).*?\1")  # what pydicom quotes is a value, and may be a name


@dataclass(frozen=True, slots=True)
class _Part:
    """What one file gives: pictures in the order of T, and spacing that only the pixels tell."""

    pictures: list[Picture]
    decoder: str
    step_s: float | None = None
    in_plane_mm: tuple[float, float] | None = None


def read(group: Group, *, max_bytes: int = MAX_DECODED_BYTES) -> Clip:
    """Decode a group into one clip, (C, T, H, W) float32.

    A volume has all its slices; a cine at most `MAX_CINE_FRAMES`, evenly in time, with `spacing`
    adapted; a video is a cine if its stream has more than one frame. Ultrasound is cut to its 2D
    regions. More is brighter, whatever the file calls black.
    Raises UnreadableImage where a file is damaged, unsupported, larger than `max_bytes` once
    decoded, or unlike the others of its group; OSError where it cannot be opened.
    """
    pictures: list[Picture] = []
    decoders: set[str] = set()
    step, in_plane_mm = group.spacing[0], group.spacing[1:]
    with quiet():
        for path, frames in groupby(group.frames, key=lambda frame: frame.path):
            wanted = list(frames)
            instance = wanted[0].sop_instance_uid
            try:
                part = _load(_opened(path, group.kind), wanted, group, max_bytes)
            except READ_ERRORS as error:
                raise_if_missing(error)
                raise UnreadableImage(instance, _reason(error)) from error
            pictures.extend(part.pictures)
            decoders.add(part.decoder)
            step = step if part.step_s is None else part.step_s
            in_plane_mm = part.in_plane_mm or in_plane_mm
    clip = _clip(pictures, group, (step, *in_plane_mm))
    return replace(clip, decoder=" ".join(sorted(decoders)))


def _opened(path: Path, kind: Kind) -> Dataset:
    """Read a file; of a loop the header alone, for its frames come one by one from the disk."""
    if kind is Kind.CINE:
        header = dcmread(path, stop_before_pixels=True)
        if DECODERS.get(header.file_meta.TransferSyntaxUID) not in (SIMPLEITK, PYAV):
            return header
    return dcmread(path)


def _load(dataset: Dataset, wanted: Sequence[Frame], group: Group, max_bytes: int) -> _Part:
    """Decode what is wanted of one file; what is no slice of a volume is cut to its tissue."""
    syntax = dataset.file_meta.TransferSyntaxUID
    if syntax not in DECODERS:
        reason = f"transfer syntax {syntax} is not supported"
        raise UnreadableImage(wanted[0].sop_instance_uid, reason)
    if DECODERS[syntax] == PYAV:
        part = _video(dataset, max_bytes)
    else:
        indices = _indices(dataset, wanted)
        frames = max(len(indices), len(group.frames))
        _guard(dataset, wanted[0].sop_instance_uid, frames, max_bytes)
        is_loop = group.kind is Kind.CINE and len(indices) > 1
        step_s = _step_s(dataset, indices) if is_loop else None
        pictures = list(_pictures(dataset, indices))
        part = _Part(pictures, decoder_name(syntax), step_s)
    return part if group.kind is Kind.VOLUME else _framed(part, dataset, group)


def _framed(part: _Part, dataset: Dataset, group: Group) -> _Part:
    """Cut pictures to what they show; mirror them where the other organ of the pair is not."""
    pictures = part.pictures
    shown = regions.tissue(dataset, pictures[0].values.shape[1:])
    shown = shown or foreground.tissue(dataset, pictures)
    if shown is not None:
        pictures = [regions.crop(whole, shown) for whole in pictures]
    if group.geometry is None and is_mirrored_picture(dataset, group.frames[0].index):
        pictures = [mirrored(whole) for whole in pictures]
    in_plane_mm = None if shown is None else shown.spacing_mm
    return replace(part, pictures=pictures, in_plane_mm=in_plane_mm)


def _video(dataset: Dataset, max_bytes: int) -> _Part:
    video = read_video(dataset, most=MAX_CINE_FRAMES, max_bytes=max_bytes)
    pictures = [regions.shut(colour(frame), dataset, 0) for frame in video.frames]
    return _Part(pictures, PYAV, video.step_s)


def _indices(dataset: Dataset, wanted: Sequence[Frame]) -> list[int]:
    """Name the frames to decode: those asked for, or a whole instance sampled through its time."""
    if indices := [frame.index for frame in wanted if frame.index is not None]:
        return indices
    count = frame_count(dataset)
    times = frame_times(dataset)
    shown = sorted(masks(dataset)) or list(range(count))  # frames without mask would stand out
    picked = evenly(
        np.arange(float(count))[shown] if times is None else times[shown], MAX_CINE_FRAMES
    )
    return [shown[number] for number in picked]


def _step_s(dataset: Dataset, indices: Sequence[int]) -> float:
    times = frame_times(dataset)
    return 0.0 if times is None else float(np.ptp(times[indices]) / (len(indices) - 1))


def _guard(dataset: Dataset, instance: str, frames: int, max_bytes: int) -> None:
    """Refuse before decoding what would not fit."""
    samples = 3 if dataset.PhotometricInterpretation == "PALETTE COLOR" else dataset.SamplesPerPixel
    sample_bytes = max(4, dataset.BitsAllocated // 8)
    needed = dataset.Rows * dataset.Columns * samples * frames * sample_bytes
    if needed > max_bytes:
        raise UnreadableImage(
            instance, f"{needed / 2**30:.1f} GiB decoded, the limit is {max_bytes / 2**30:.1f} GiB"
        )


def _reason(error: BaseException) -> str:
    text = _QUOTED.sub("…", " ".join(str(error).split()))
    return f"{type(error).__name__}: {text}"[:MAX_REASON_CHARACTERS]


def _pictures(dataset: Dataset, indices: Sequence[int]) -> Iterator[Picture]:
    """Decode frames in the order asked for; a frame asked for twice is decoded once."""
    once = sorted(set(indices))
    frames = dict(zip(once, decode(dataset, once), strict=True))
    subtracted = masks(dataset)
    mask: Mask | None = None
    for index in indices:
        whole = picture(dataset, frames[index], index)
        if index in subtracted:
            if mask != subtracted[index]:  # most frames have that of the frame before
                mask = subtracted[index]
                mask_values = _mean(dataset, mask)
            whole = Picture(whole.values - mask_values, whole.valid, whole.unit)
        yield regions.shut(whole, dataset, index)


def _mean(dataset: Dataset, mask: Mask) -> NDArray[np.float32]:
    """Average the frames of a mask, one in memory at a time, and move it to its place."""
    decoded = zip(mask.frames, decode(dataset, mask.frames), strict=True)
    total = sum(picture(dataset, stored, number).values for number, stored in decoded)
    return moved(np.asarray(total / len(mask.frames), dtype=np.float32), mask.shift_px)


def _clip(pictures: Sequence[Picture], group: Group, spacing: tuple[float, float, float]) -> Clip:
    """Stack the frames along T; a loop in which nothing changes is a still."""
    sources = tuple(dict.fromkeys(frame.sop_instance_uid for frame in group.frames))
    if len({(picture.values.shape, picture.unit) for picture in pictures}) != 1:
        raise UnreadableImage(sources[0], "the frames of its group differ in size or meaning")
    frozen = all(np.array_equal(each.values, pictures[0].values) for each in pictures)
    if group.kind is Kind.CINE and frozen:
        pictures, spacing = pictures[:1], (0.0, *spacing[1:])
    valid = None
    if any(picture.valid is not None for picture in pictures):
        whole = np.ones(pictures[0].values.shape[1:], dtype=np.bool_)
        valid = np.stack([whole if p.valid is None else p.valid for p in pictures])
    kind = group.kind
    if kind is not Kind.VOLUME:  # a video is what its stream is, whatever its header counts
        kind = Kind.CINE if len(pictures) > 1 else Kind.STILL
    return Clip(
        array=np.stack([picture.values for picture in pictures], axis=1),
        spacing=spacing,
        kind=kind,
        unit=pictures[0].unit,
        valid=valid,
        sources=sources,
    )
