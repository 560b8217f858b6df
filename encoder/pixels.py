"""From a group of frames to one `Clip` in physical units.

Owns: decoding, modality transformation, photometric interpretation, padding, what a frame may cost.
Does not own: grouping and order (`series`), the size and range the network sees (`normalise`).
Files are hostile: every failure becomes `UnreadableImage` with one line of reason.
"""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby

import numpy as np
from numpy.typing import NDArray
from pydicom import Dataset, dcmread, uid
from pydicom.pixels.processing import apply_color_lut, apply_modality_lut
from pydicom.pixels.utils import iter_pixels

from encoder.clip import Clip, Kind, Unit
from encoder.errors import UnreadableImage
from encoder.headers import (
    READ_ERRORS,
    floats,
    frame_count,
    frame_times,
    macro,
    quiet,
    raise_if_missing,
)
from encoder.series import Frame, Group

# One decoder a transfer syntax, so that a vector does not depend on what else is installed.
# "" is pydicom itself, for pixels that are not compressed. RLE is pydicom's too: pylibjpeg's is
# faster, but a damaged frame makes it panic, which no except clause for errors catches.
DECODERS: dict[str, str] = {
    uid.ImplicitVRLittleEndian: "",
    uid.ExplicitVRLittleEndian: "",
    uid.ExplicitVRBigEndian: "",
    uid.DeflatedExplicitVRLittleEndian: "",
    uid.JPEGBaseline8Bit: "pillow",
    uid.JPEGLSLossless: "pyjpegls",
    uid.JPEGLSNearLossless: "pyjpegls",
    uid.JPEG2000Lossless: "pylibjpeg",
    uid.JPEG2000: "pylibjpeg",
    uid.HTJ2KLossless: "pylibjpeg",
    uid.HTJ2KLosslessRPCL: "pylibjpeg",
    uid.HTJ2K: "pylibjpeg",
    uid.RLELossless: "pydicom",
}

_NO_FREE_DECODER = "has no decoder here yet; send it uncompressed or as JPEG 2000"
NOT_DECODED: dict[str, str] = {
    uid.JPEGExtended12Bit: f"JPEG Extended (12 bit) {_NO_FREE_DECODER}",
    uid.JPEGLossless: f"JPEG Lossless {_NO_FREE_DECODER}",
    uid.JPEGLosslessSV1: f"JPEG Lossless {_NO_FREE_DECODER}",
    **dict.fromkeys(uid.MPEGTransferSyntaxes, "video is not decoded yet"),
}

CT_CLASSES: frozenset[str] = frozenset(
    {
        uid.CTImageStorage,
        uid.EnhancedCTImageStorage,
        uid.LegacyConvertedEnhancedCTImageStorage,
    }
)

MAX_CINE_FRAMES = 64  # decoded of one loop, evenly through its time
MAX_DECODED_BYTES = 4 * 2**30
MAX_REASON_CHARACTERS = 200
_QUOTED = re.compile(r"(['\"]).*?\1")  # what pydicom quotes is a value, and may be a name


@dataclass(frozen=True, slots=True)
class _Picture:
    """One decoded frame: `values` (C, H, W), `valid` (H, W) or None where nothing is padding."""

    values: NDArray[np.float32]
    valid: NDArray[np.bool_] | None
    unit: Unit


def read(group: Group, *, max_bytes: int = MAX_DECODED_BYTES) -> Clip:
    """Decode a group into one clip, (C, T, H, W) float32.

    A volume has all its slices; a cine at most `MAX_CINE_FRAMES`, evenly in time, with `spacing`
    adapted. MONOCHROME1 comes out inverted, so that more is brighter.
    Raises UnreadableImage where a file is damaged, unsupported, larger than `max_bytes` once
    decoded, or unlike the others of its group; OSError where it cannot be opened.
    """
    pictures: list[_Picture] = []
    step = group.spacing[0]
    with quiet():
        for path, frames in groupby(group.frames, key=lambda frame: frame.path):
            wanted = list(frames)
            instance = wanted[0].sop_instance_uid
            try:
                dataset = dcmread(path)
                indices = _indices(dataset, wanted)
                if group.kind is Kind.CINE and len(indices) > 1:
                    step = _step_s(dataset, indices)
                _guard(dataset, instance, max(len(indices), len(group.frames)), max_bytes)
                pictures.extend(_pictures(dataset, indices))
            except READ_ERRORS as error:
                raise_if_missing(error)
                raise UnreadableImage(instance, _reason(error)) from error
    return _clip(pictures, group, step)


def _indices(dataset: Dataset, wanted: Sequence[Frame]) -> list[int]:
    """Name the frames to decode: those asked for, or a whole instance sampled through its time."""
    if indices := [frame.index for frame in wanted if frame.index is not None]:
        return indices
    count = frame_count(dataset)
    times = frame_times(dataset)
    if times is None:
        times = np.arange(count, dtype=np.float64)
    targets = np.linspace(times[0], times[-1], min(count, MAX_CINE_FRAMES))
    return [int(np.abs(times - target).argmin()) for target in targets]


def _step_s(dataset: Dataset, indices: Sequence[int]) -> float:
    times = frame_times(dataset)
    return 0.0 if times is None else float(np.ptp(times[indices]) / (len(indices) - 1))


def _guard(dataset: Dataset, instance: str, frames: int, max_bytes: int) -> None:
    """Refuse before decoding what has no decoder or would not fit."""
    syntax = dataset.file_meta.TransferSyntaxUID
    if syntax not in DECODERS:
        unknown = f"transfer syntax {syntax} is not supported"
        raise UnreadableImage(instance, NOT_DECODED.get(syntax, unknown))
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


def _pictures(dataset: Dataset, indices: Sequence[int]) -> Iterator[_Picture]:
    """Decode frames in the order asked for; a frame asked for twice is decoded once."""
    plugin = DECODERS[dataset.file_meta.TransferSyntaxUID]
    once = sorted(set(indices))
    frames = dict(
        zip(once, iter_pixels(dataset, indices=once, decoding_plugin=plugin), strict=True)
    )
    for index in indices:
        yield _picture(dataset, frames[index], index)


def _picture(dataset: Dataset, stored: NDArray[np.generic], index: int) -> _Picture:
    """Apply to stored values, (H, W) or (H, W, 3), what the file says about them."""
    if dataset.PhotometricInterpretation == "PALETTE COLOR":
        palette, first = _palette(dataset)
        entry = np.clip(stored.astype(np.int64) - first, 0, len(palette) - 1)
        return _Picture(_channels_first(palette[entry]), None, Unit.COLOUR)
    if stored.ndim == 3:
        scale = 255 / (2**dataset.BitsStored - 1)
        return _Picture(_channels_first(stored) * np.float32(scale), None, Unit.COLOUR)
    values = _modality(dataset, stored, index)
    unit = _unit(dataset, index)
    if dataset.PhotometricInterpretation == "MONOCHROME1" and unit is Unit.STORED:
        values = _modality(dataset, _stored_range(dataset), index).sum() - values
    return _Picture(values[np.newaxis], _valid(dataset, stored), unit)


def _channels_first(colours: NDArray[np.generic]) -> NDArray[np.float32]:
    return np.ascontiguousarray(np.moveaxis(colours, -1, 0), dtype=np.float32)


def _palette(dataset: Dataset) -> tuple[NDArray[np.generic], int]:
    """Expand the palette to (entries, 3) in 0..255, and the stored value of its first entry.

    PS3.3 C.7.6.3.1.5: 16 bit entries carry the colour in their high byte, yet some writers put 8
    bit colours into 16 bit entries. pydicom reads big-endian entries as little-endian.
    """
    count, first, _ = dataset.RedPaletteColorLookupTableDescriptor
    entries = np.arange(count or 2**16, dtype=np.int64) + first
    colours = apply_color_lut(entries, dataset)[:, :3]
    plain = "RedPaletteColorLookupTableData" in dataset
    if colours.dtype == np.uint16 and plain and not dataset.original_encoding[1]:
        colours = colours.byteswap()
    return (colours >> 8 if colours.max() > 255 else colours), first


def _modality(dataset: Dataset, stored: NDArray[np.generic], index: int) -> NDArray[np.float32]:
    """Apply the modality LUT or the rescale of this very frame (PS3.3 C.11.1, C.7.6.16.2.9)."""
    if dataset.get("ModalityLUTSequence"):
        return apply_modality_lut(stored, dataset).astype(np.float32)
    rescale = macro(dataset, "PixelValueTransformationSequence", index)
    values = stored.astype(np.float32)
    slope = floats(rescale.get("RescaleSlope"), 1)
    intercept = floats(rescale.get("RescaleIntercept"), 1)
    if slope and intercept:
        values *= np.float32(slope[0])
        values += np.float32(intercept[0])
    return values


def _unit(dataset: Dataset, index: int) -> Unit:
    """Only CT speaks of HU, and there an absent Rescale Type means HU (PS3.3 C.8.2.1)."""
    rescale = macro(dataset, "PixelValueTransformationSequence", index)
    is_hu = (
        dataset.SOPClassUID in CT_CLASSES
        and rescale.get("RescaleIntercept") is not None
        and (rescale.get("RescaleType") or "HU") == "HU"
    )
    return Unit.HOUNSFIELD if is_hu else Unit.STORED


def _stored_range(dataset: Dataset) -> NDArray[np.int64]:
    """Lowest and highest value that Bits Stored and Pixel Representation allow."""
    span = 2**dataset.BitsStored
    low = -span // 2 if dataset.PixelRepresentation else 0
    return np.array([low, low + span - 1], dtype=np.int64)


def _valid(dataset: Dataset, stored: NDArray[np.generic]) -> NDArray[np.bool_] | None:
    """Mark padding, given as stored value or range of them (PS3.3 C.7.5.1.1.2).

    The attributes may have been written with the other signedness: they are wrapped to that of
    the pixels.
    """
    value = floats(dataset.get("PixelPaddingValue"), 1)
    if value is None:
        return None
    limit = floats(dataset.get("PixelPaddingRangeLimit"), 1) or value
    ends = np.array([value[0], limit[0]], dtype=np.int64).astype(stored.dtype)
    valid: NDArray[np.bool_] = (stored < ends.min()) | (stored > ends.max())
    return None if valid.all() else valid


def _clip(pictures: Sequence[_Picture], group: Group, step: float) -> Clip:
    """Stack the frames along T."""
    sources = tuple(dict.fromkeys(frame.sop_instance_uid for frame in group.frames))
    if len({(picture.values.shape, picture.unit) for picture in pictures}) != 1:
        raise UnreadableImage(sources[0], "the frames of its group differ in size or meaning")
    valid = None
    if any(picture.valid is not None for picture in pictures):
        whole = np.ones(pictures[0].values.shape[1:], dtype=np.bool_)
        valid = np.stack([whole if p.valid is None else p.valid for p in pictures])
    return Clip(
        array=np.stack([picture.values for picture in pictures], axis=1),
        spacing=(step, *group.spacing[1:]),
        kind=group.kind,
        unit=pictures[0].unit,
        valid=valid,
        sources=sources,
    )
