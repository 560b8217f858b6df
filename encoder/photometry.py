"""From stored values of one frame to what they mean: physical units, grey or colour, padding.

Owns: modality and palette transformation, the direction of grey, padding values.
Does not own: decoding (`codecs`), what part of a picture is shown (`regions`), DSA masks
(`subtraction`). VOI windows are how a viewer looks at an image, not what it is: never applied.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from pydicom import Dataset, uid
from pydicom.pixels.processing import apply_color_lut, apply_modality_lut

from encoder.clip import Unit
from encoder.headers import floats, macro
from encoder.subtraction import ANGIOGRAMS
from encoder.suv import suv

CT_CLASSES: frozenset[str] = frozenset(
    {
        uid.CTImageStorage,
        uid.EnhancedCTImageStorage,
        uid.LegacyConvertedEnhancedCTImageStorage,
    }
)


@dataclass(frozen=True, slots=True)
class Picture:
    """One decoded frame: `values` (C, H, W), `valid` (H, W) or None where nothing is padding."""

    values: NDArray[np.float32]
    valid: NDArray[np.bool_] | None
    unit: Unit


def picture(dataset: Dataset, stored: NDArray[np.generic], index: int) -> Picture:
    """Apply to stored values, (H, W) or (H, W, 3), what the file says about them.

    Grey comes out so that more is brighter: MONOCHROME1 and Presentation LUT Shape INVERSE say the
    same thing (PS3.3 C.8.11.3.1.2), so either or both invert once. Numbers with a physical unit
    are never inverted.
    """
    if dataset.PhotometricInterpretation == "PALETTE COLOR":
        palette, first = _palette(dataset)
        entry = np.clip(stored.astype(np.int64) - first, 0, len(palette) - 1)
        return colour(palette[entry])
    if stored.ndim == 3:
        return colour(stored, highest=2**dataset.BitsStored - 1)
    values = _modality(dataset, stored, index)
    unit = _unit(dataset, index)
    if unit is Unit.STORED and (uptake := suv(dataset, stored, values, index)) is not None:
        values, unit = uptake, Unit.SUV
    if unit is Unit.STORED and is_inverse(dataset):
        values = _modality(dataset, _stored_range(dataset), index).sum() - values
    return Picture(values[np.newaxis], unpadded(dataset, stored), unit)


def colour(samples: NDArray[np.generic], *, highest: int = 255) -> Picture:
    """Bring (H, W, 3) samples of 0..highest to 0..255."""
    values = np.ascontiguousarray(np.moveaxis(samples, -1, 0), dtype=np.float32)
    return Picture(values * np.float32(255 / highest), None, Unit.COLOUR)


def is_inverse(dataset: Dataset) -> bool:
    """Say whether more is darker."""
    return bool(
        dataset.PhotometricInterpretation == "MONOCHROME1"
        or dataset.get("PresentationLUTShape") == "INVERSE"
    )


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
    """Return `rescaled` values on one scale for a SOP class.

    Angiograms that store X-ray intensity itself become logarithmic like all others: only then
    subtraction leaves the contrast medium alone (PS3.3 C.8.7.1.1.2).
    """
    values = rescaled(dataset, stored, index)
    if dataset.SOPClassUID in ANGIOGRAMS and dataset.get("PixelIntensityRelationship") == "LIN":
        values = np.log1p(values.clip(0))
    return values


def rescaled(dataset: Dataset, stored: NDArray[np.generic], index: int) -> NDArray[np.float32]:
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


def unpadded(dataset: Dataset, stored: NDArray[np.generic]) -> NDArray[np.bool_] | None:
    """Mark what is no padding, which is given as stored value or range of them (PS3.3 C.7.5.1.1.2).

    The attributes may have been written with the other signedness, or wider than Bits Stored: they
    are wrapped to the range of the pixels.
    """
    value = floats(dataset.get("PixelPaddingValue"), 1)
    if value is None:
        return None
    limit = floats(dataset.get("PixelPaddingRangeLimit"), 1) or value
    lowest, highest = _stored_range(dataset)
    ends = np.array([value[0], limit[0]], dtype=np.int64)
    ends = (ends - lowest) % (highest - lowest + 1) + lowest
    valid: NDArray[np.bool_] = (stored < ends.min()) | (stored > ends.max())
    return None if valid.all() else valid
