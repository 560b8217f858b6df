"""From a clip of any size and unit to what the network sees: one extent, three channels, 0..1.

Owns: resampling in space and time, intensity ranges. Below this file nobody knows the unit.
Does not own: decoding (`pixels`), cutting into tokens (`tokens`).
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import SimpleITK
from numpy.typing import NDArray

from encoder.clip import Clip, Kind, Unit
from encoder.config import Extent

sitk: Any = SimpleITK  # typed, but with most of its calls left untyped

FIXED_RANGES: dict[Unit, tuple[float, float]] = {
    # As CT-CLIP (Hamamci et al., arXiv:2403.17834): air to dense bone in one window.
    Unit.HOUNSFIELD: (-1000.0, 1000.0),
    Unit.COLOUR: (0.0, 255.0),
}
# For any other unit, as nnU-Net and torchio: robust against a few hot pixels
# (Isensee et al., arXiv:1809.10486).
PERCENTILES = (0.5, 99.5)

_Size = tuple[int, int, int]
_Spacing = tuple[float, float, float]


@dataclass(frozen=True, slots=True)
class _Grid:
    """Two grids of samples (T, H, W) with one centre: the old and the new one."""

    size: _Size
    old: _Spacing
    new_size: _Size
    new: _Spacing


def normalise(clip: Clip, extent: Extent) -> Clip:
    """Bring a clip to (3, T, H, W) of the extent, with values in [0, 1].

    The aspect in mm is kept: the longer side fills the extent, the rest is padded with 0 and
    False in `valid`. A volume is resampled along T, a cine sampled evenly. Same clip, same result.
    """
    if clip.kind is Kind.CINE:
        clip = _sample_frames(clip, extent.frames)
    grid = _grid(clip, extent)
    array = np.stack([_resample(channel, grid) for channel in _without_padding(clip)])
    inside = _inside(grid)
    if clip.valid is not None:
        inside &= _resample(clip.valid.astype(np.float32), grid) > 0.5
    values = _to_unit_range(array, inside, clip.unit)
    return Clip(
        array=np.repeat(values, 3 // len(values), axis=0),
        spacing=(clip.spacing[0] * grid.new[0] / grid.old[0], *grid.new[1:]),
        kind=clip.kind,
        unit=clip.unit,
        valid=inside,
        sources=clip.sources,
    )


def _sample_frames(clip: Clip, count: int) -> Clip:
    """Pick `count` frames evenly from first to last, repeating some of a short loop."""
    available = clip.array.shape[1]
    indices = np.linspace(0, available - 1, count).round().astype(int)
    step_s = clip.spacing[0] * (available - 1) / max(count - 1, 1)
    return Clip(
        array=clip.array[:, indices],
        spacing=(step_s, *clip.spacing[1:]),
        kind=clip.kind,
        unit=clip.unit,
        valid=None if clip.valid is None else clip.valid[indices],
        sources=clip.sources,
    )


def _without_padding(clip: Clip) -> NDArray[np.float32]:
    """Replace padding by the lowest real value, so that it does not bleed into its neighbours."""
    if clip.valid is None or not clip.valid.any():
        return clip.array
    lowest = clip.array[:, clip.valid].min()
    return np.where(clip.valid, clip.array, lowest)


def _grid(clip: Clip, extent: Extent) -> _Grid:
    """Fit the longer side in mm; T has a scale of its own, for its unit is not that of H and W."""
    size = clip.array.shape[1:]
    _, row_mm, column_mm = clip.spacing
    fitted_mm = max(size[1] * row_mm / extent.height, size[2] * column_mm / extent.width)
    frames = extent.frames if clip.kind is Kind.VOLUME else size[0]
    return _Grid(
        size=(size[0], size[1], size[2]),
        old=(1.0, row_mm, column_mm),
        new_size=(frames, extent.height, extent.width),
        new=(size[0] / frames, fitted_mm, fitted_mm),
    )


def _resample(values: NDArray[np.float32], grid: _Grid) -> NDArray[np.float32]:
    """Resample one channel (T, H, W); beyond its border it repeats the outermost values.

    Shrinking averages whole blocks first, then interpolates linearly: no aliasing, and the
    result does not depend on the number of threads.
    """
    image = sitk.GetImageFromArray(np.ascontiguousarray(values))
    image.SetSpacing(grid.old[::-1])  # ITK counts axes from the fastest
    image.SetOrigin(_first_centre(grid.size, grid.old)[::-1])
    # A quotient a rounding error below a whole number is meant to be that number.
    ratios = np.divide(grid.new, grid.old) + 1e-6
    image = sitk.BinShrink(image, np.clip(ratios, 1, grid.size).astype(int)[::-1].tolist())
    resample = sitk.ResampleImageFilter()
    resample.SetSize(grid.new_size[::-1])
    resample.SetOutputSpacing(grid.new[::-1])
    resample.SetOutputOrigin(_first_centre(grid.new_size, grid.new)[::-1])
    resample.SetInterpolator(sitk.sitkLinear)
    resample.UseNearestNeighborExtrapolatorOn()
    array: NDArray[np.float32] = sitk.GetArrayFromImage(resample.Execute(image))
    return array


def _first_centre(size: _Size, spacing: _Spacing) -> _Spacing:
    """Place the first sample so that the middle of the grid is the origin."""
    t, h, w = (-(n - 1) / 2 * step for n, step in zip(size, spacing, strict=True))
    return t, h, w


def _inside(grid: _Grid) -> NDArray[np.bool_]:
    """Mark the new samples whose centre lies within the old image, at least one along each axis."""
    inside = np.ones(grid.new_size, dtype=np.bool_)
    firsts = _first_centre(grid.new_size, grid.new)
    for axis, (first, step, count) in enumerate(zip(firsts, grid.new, grid.new_size, strict=True)):
        centres = first + step * np.arange(count)
        half = max(grid.size[axis] * grid.old[axis], step) / 2
        within = np.abs(centres) <= half * (1 + 1e-6)
        inside &= np.expand_dims(within, [other for other in range(3) if other != axis])
    return inside


def _to_unit_range(
    array: NDArray[np.float32], inside: NDArray[np.bool_], unit: Unit
) -> NDArray[np.float32]:
    """Map the range of the unit to 0..1; a constant image and what is not `inside` become 0."""
    low, high = FIXED_RANGES.get(unit) or _robust_range(array[:, inside])
    if high <= low:
        return np.zeros_like(array)
    scaled: NDArray[np.float32] = np.where(inside, (array - low) / (high - low), 0)
    return scaled.clip(0, 1).astype(np.float32)


def _robust_range(values: NDArray[np.float32]) -> tuple[float, float]:
    if values.size == 0:
        return 0.0, 0.0
    low, high = np.percentile(values, PERCENTILES)
    return float(low), float(high)
