"""What one file gives to a clip: decoded frames, in physical units, cut to what they show.

Owns: which frames of a file are decoded, what they may cost, subtraction. Does not own: decoding
(`codecs`, `video`), the meaning of values (`photometry`, `regions`), stacking files (`pixels`).
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from pydicom import Dataset, dcmread

from encoder import foreground, regions, waveform
from encoder.clip import Kind
from encoder.codecs import DECODERS, PYAV, decode, decoder_name, index_frames, is_read_by_frame
from encoder.errors import UnreadableImage
from encoder.geometry import MIRRORED
from encoder.headers import evenly, frame_count, frame_times
from encoder.laterality import is_mirrored_picture, mirrored
from encoder.origin import Box, FrameOrigin, Origin
from encoder.photometry import Picture, colour, picture
from encoder.slices import Frame, Group
from encoder.subtraction import Mask, masks, moved
from encoder.tiles import read_tile
from encoder.video import read_video

MAX_CINE_FRAMES = 64  # decoded of one loop, evenly through its time


@dataclass(frozen=True, slots=True)
class Part:
    """Some pictures in the order of T, what decoded them, and spacing that only pixels tell.

    `origin` has their places but not yet the size of a pixel; None for what was drawn here.
    """

    pictures: list[Picture]
    decoder: str
    origin: Origin | None = None
    step_s: float | None = None
    in_plane_mm: tuple[float, float] | None = None


def load(file: Dataset, wanted: Sequence[Frame], group: Group, max_bytes: int) -> Part:
    """Decode what is wanted of one file; what is no slice of a volume is cut to its tissue.

    Raises UnreadableImage for what is not supported or too large, and `headers.READ_ERRORS`.
    """
    if group.tile_file is not None and group.box is not None:
        indices = [each.index or 0 for each in wanted]
        tiles = [read_tile(group.tile_file, index, group.box) for index in indices]
        origin = _origin(wanted, indices, (int(file.Rows), int(file.Columns)), group.box)
        return Part(tiles, decoder_name(file.file_meta.TransferSyntaxUID), origin)
    if file.get("SOPClassUID") in waveform.ECG_CLASSES:
        in_plane_mm = (waveform.PIXEL_MM, waveform.PIXEL_MM)
        return Part([waveform.draw(file)], "pydicom", in_plane_mm=in_plane_mm)
    syntax = file.file_meta.TransferSyntaxUID
    if syntax not in DECODERS:
        reason = f"transfer syntax {syntax} is not supported"
        raise UnreadableImage(wanted[0].sop_instance_uid, reason)
    if DECODERS[syntax] == PYAV:
        part = _video(file, wanted, max_bytes)
    else:
        indices = _indices(file, wanted)
        is_volume = group.kind is Kind.VOLUME  # is shrunk bit by bit: only this bit is decoded
        frames = len(indices) if is_volume else max(len(indices), len(group.frames))
        _guard(file, wanted[0].sop_instance_uid, frames, max_bytes)
        is_loop = group.kind is Kind.CINE and len(indices) > 1
        step_s = _step_s(file, indices) if is_loop else None
        pictures = list(_pictures(file, indices))
        origin = _origin(wanted, indices, pictures[0].values.shape[1:])
        part = Part(pictures, decoder_name(syntax), origin, step_s)
    return part if group.kind is Kind.VOLUME else _framed(part, file, group)


def opened(path: Path, group: Group) -> Dataset:
    """Read a file; only the header of a loop whose frames can come one by one, nothing of a slide.

    The header of a slide tells the place of a hundred thousand tiles: it was read once.
    """
    if group.tile_file is not None:
        return group.tile_file.header
    if group.kind is Kind.CINE:
        header = dcmread(path, stop_before_pixels=True)
        if is_read_by_frame(header.file_meta.TransferSyntaxUID):
            return header
    file = dcmread(path)
    index_frames(file)
    return file


def _framed(part: Part, dataset: Dataset, group: Group) -> Part:
    """Cut pictures to what they show; mirror them where the other organ of the pair is not."""
    pictures, origin = part.pictures, part.origin
    shown = regions.tissue(dataset, pictures[0].values.shape[1:])
    shown = shown or foreground.tissue(dataset, pictures)
    if shown is not None:
        pictures = [regions.crop(whole, shown) for whole in pictures]
        origin = origin and replace(origin, cut=shown.around.inside(origin.cut))
    if group.geometry is None and is_mirrored_picture(dataset, group.frames[0].index):
        pictures = [mirrored(whole) for whole in pictures]
        origin = origin and replace(origin, view=MIRRORED)
    in_plane_mm = None if shown is None else shown.spacing_mm
    return replace(part, pictures=pictures, origin=origin, in_plane_mm=in_plane_mm)


def _origin(
    wanted: Sequence[Frame], indices: Sequence[int], size: tuple[int, ...], box: Box | None = None
) -> Origin:
    """Tell which frames of one file pictures of `size` (H, W) are, and the box that was read."""
    uid, (height, width) = wanted[0].sop_instance_uid, size
    frames = tuple(FrameOrigin(uid, index + 1) for index in indices)
    return Origin(frames, (height, width), box or Box(0, height, 0, width))


def _video(dataset: Dataset, wanted: Sequence[Frame], max_bytes: int) -> Part:
    video = read_video(dataset, most=MAX_CINE_FRAMES, max_bytes=max_bytes)
    pictures = [regions.shut(colour(frame), dataset, 0) for frame in video.frames]
    origin = _origin(wanted, video.numbers, pictures[0].values.shape[1:])
    return Part(pictures, PYAV, origin, video.step_s)


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


def _step_s(dataset: Dataset, indices: Sequence[int]) -> float | None:
    times = frame_times(dataset)
    return None if times is None else float(np.ptp(times[indices]) / (len(indices) - 1))


def _guard(dataset: Dataset, instance: str, frames: int, max_bytes: int) -> None:
    """Refuse before decoding what would not fit."""
    samples = 3 if dataset.PhotometricInterpretation == "PALETTE COLOR" else dataset.SamplesPerPixel
    sample_bytes = max(4, dataset.BitsAllocated // 8)
    needed = dataset.Rows * dataset.Columns * samples * frames * sample_bytes
    if needed > max_bytes:
        raise UnreadableImage(
            instance, f"{needed / 2**30:.1f} GiB decoded, the limit is {max_bytes / 2**30:.1f} GiB"
        )


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
