"""From a group of frames to one `Clip` in physical units.

Owns: which frames are decoded, what they may cost, stacking them. Does not own: grouping and order
(`series`), decoding (`codecs`, `video`), the meaning of values (`photometry`, `regions`), the size
and range the network sees (`normalise`).
Files are hostile: every failure becomes `UnreadableImage` with one line of reason.
"""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from pydicom import Dataset, dcmread

from encoder import regions, waveform
from encoder.clip import Clip, Kind
from encoder.codecs import DECODERS, PYAV, decode
from encoder.errors import UnreadableImage
from encoder.headers import (
    READ_ERRORS,
    evenly,
    frame_count,
    frame_times,
    quiet,
    raise_if_missing,
)
from encoder.photometry import Picture, colour, mask_frames, picture
from encoder.series import Frame, Group
from encoder.tiles import read_tile
from encoder.video import read_video

MAX_CINE_FRAMES = 64  # decoded of one loop, evenly through its time
MAX_DECODED_BYTES = 4 * 2**30
MAX_REASON_CHARACTERS = 200
_QUOTED = re.compile(r"(['\"]).*?\1")  # what pydicom quotes is a value, and may be a name


@dataclass(frozen=True, slots=True)
class _Part:
    """What one file gives: pictures in the order of T, and spacing that only the pixels tell."""

    pictures: list[Picture]
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
    step, in_plane_mm = group.spacing[0], group.spacing[1:]
    with quiet():
        for path, frames in groupby(group.frames, key=lambda frame: frame.path):
            wanted = list(frames)
            instance = wanted[0].sop_instance_uid
            try:
                part = _load(path, wanted, group, max_bytes)
            except READ_ERRORS as error:
                raise_if_missing(error)
                raise UnreadableImage(instance, _reason(error)) from error
            pictures.extend(part.pictures)
            step = step if part.step_s is None else part.step_s
            in_plane_mm = part.in_plane_mm or in_plane_mm
    return _clip(pictures, group, (step, *in_plane_mm))


def _load(path: Path, wanted: Sequence[Frame], group: Group, max_bytes: int) -> _Part:
    """Decode what is wanted of one file; what is no slice of a volume is cut to its tissue."""
    if group.box is not None:
        return _Part([read_tile(path, each.index or 0, group.box) for each in wanted])
    dataset = dcmread(path)
    if dataset.get("SOPClassUID") in waveform.ECG_CLASSES:
        return _Part([waveform.draw(dataset)], in_plane_mm=(waveform.PIXEL_MM, waveform.PIXEL_MM))
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
        part = _Part(list(_pictures(dataset, indices)), step_s)
    shown = regions.tissue(dataset, part.pictures[0].values.shape[1:])
    if group.kind is Kind.VOLUME or shown is None:
        return part
    cropped = [regions.crop(whole, shown) for whole in part.pictures]
    return _Part(cropped, part.step_s, shown.spacing_mm)


def _video(dataset: Dataset, max_bytes: int) -> _Part:
    video = read_video(dataset, most=MAX_CINE_FRAMES, max_bytes=max_bytes)
    pictures = [regions.shut(colour(frame), dataset, 0) for frame in video.frames]
    return _Part(pictures, video.step_s)


def _indices(dataset: Dataset, wanted: Sequence[Frame]) -> list[int]:
    """Name the frames to decode: those asked for, or a whole instance sampled through its time."""
    if indices := [frame.index for frame in wanted if frame.index is not None]:
        return indices
    count = frame_count(dataset)
    times = frame_times(dataset)
    return evenly(np.arange(float(count)) if times is None else times, MAX_CINE_FRAMES)


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
    mask = _mask(dataset) if len(once) > 1 else None
    for index in indices:
        whole = picture(dataset, frames[index], index)
        if mask is not None:
            whole = Picture(whole.values - mask, whole.valid, whole.unit)
        yield regions.shut(whole, dataset, index)


def _mask(dataset: Dataset) -> NDArray[np.float32] | None:
    """Return the mean of the mask frames of a subtraction angiogram, None where it is none."""
    numbers = mask_frames(dataset)
    if not numbers:
        return None
    decoded = zip(numbers, decode(dataset, numbers), strict=True)
    total = sum(picture(dataset, stored, number).values for number, stored in decoded)
    return np.asarray(total / len(numbers), dtype=np.float32)


def _clip(pictures: Sequence[Picture], group: Group, spacing: tuple[float, float, float]) -> Clip:
    """Stack the frames along T."""
    sources = tuple(dict.fromkeys(frame.sop_instance_uid for frame in group.frames))
    if len({(picture.values.shape, picture.unit) for picture in pictures}) != 1:
        raise UnreadableImage(sources[0], "the frames of its group differ in size or meaning")
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
