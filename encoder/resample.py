"""Brings samples from one regular grid to another, without aliasing and without padding bleeding.

Owns: `Grid`, resampling. Does not own: which grid (`normalise`, `volume`), intensities.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import SimpleITK
from numpy.typing import NDArray

from encoder.clip import Clip
from encoder.config import Extent

sitk: Any = SimpleITK  # typed, but with most of its calls left untyped

# A new sample is real where at least half of what it was made of was (nearest neighbour's rule).
MIN_WEIGHT = 0.5
_ROUNDING = 1e-6  # far below a sample, far above what binary fractions lose

Size = tuple[int, int, int]
Spacing = tuple[float, float, float]


@dataclass(frozen=True, slots=True)
class Grid:
    """Two grids of samples (T, H, W) with one centre: the old and the new one."""

    size: Size
    old: Spacing
    new_size: Size
    new: Spacing


def fit(clip: Clip, extent: Extent, *, frames: int) -> Grid:
    """Fit the longer side in mm into the extent; T has a scale of its own, counted in old frames.

    The unit of T is not that of H and W, and a long stack must not make its planes small.
    """
    size = clip.array.shape[1:]
    _, row_mm, column_mm = clip.spacing
    fitted_mm = max(size[1] * row_mm / extent.height, size[2] * column_mm / extent.width)
    return Grid(
        size=(size[0], size[1], size[2]),
        old=(1.0, row_mm, column_mm),
        new_size=(frames, extent.height, extent.width),
        new=(size[0] / frames, fitted_mm, fitted_mm),
    )


def resample(
    array: NDArray[np.float32], valid: NDArray[np.bool_] | None, grid: Grid
) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """Resample (C, T, H, W); padding has no weight. Also says (T, H, W) what lies in the image.

    What does not is unspecified. Normalised convolution (Knutsson & Westin, CVPR 1993).
    """
    inside = _inside(grid)
    if valid is None or valid.all():
        return np.stack([_resample(channel, grid) for channel in array]), inside
    weight = _resample(valid.astype(np.float32), grid)
    safe = np.maximum(weight, np.float32(_ROUNDING))
    real = np.where(valid, array, np.float32(0))
    values = np.stack([_resample(channel, grid) for channel in real])
    values /= safe
    return values, inside & (weight >= MIN_WEIGHT)


def _resample(values: NDArray[np.float32], grid: Grid) -> NDArray[np.float32]:
    """Resample one channel (T, H, W); beyond its border it repeats the outermost values.

    Shrinking averages whole blocks first, then interpolates linearly: no aliasing, and the
    result does not depend on the number of threads.
    """
    image = sitk.GetImageFromArray(np.ascontiguousarray(values))
    image.SetSpacing(grid.old[::-1])  # ITK counts axes from the fastest
    image.SetOrigin(_first_centre(grid.size, grid.old)[::-1])
    # A quotient a rounding error below a whole number is meant to be that number.
    ratios = np.divide(grid.new, grid.old) + _ROUNDING
    image = sitk.BinShrink(image, np.clip(ratios, 1, grid.size).astype(int)[::-1].tolist())
    resample = sitk.ResampleImageFilter()
    resample.SetSize(grid.new_size[::-1])
    resample.SetOutputSpacing(grid.new[::-1])
    resample.SetOutputOrigin(_first_centre(grid.new_size, grid.new)[::-1])
    resample.SetInterpolator(sitk.sitkLinear)
    resample.UseNearestNeighborExtrapolatorOn()
    array: NDArray[np.float32] = sitk.GetArrayFromImage(resample.Execute(image))
    return array


def _first_centre(size: Size, spacing: Spacing) -> Spacing:
    """Place the first sample so that the middle of the grid is the origin."""
    t, h, w = (-(n - 1) / 2 * step for n, step in zip(size, spacing, strict=True))
    return t, h, w


def _inside(grid: Grid) -> NDArray[np.bool_]:
    """Mark the new samples whose centre lies within the old image, at least one along each axis."""
    inside = np.ones(grid.new_size, dtype=np.bool_)
    firsts = _first_centre(grid.new_size, grid.new)
    for axis, (first, step, count) in enumerate(zip(firsts, grid.new, grid.new_size, strict=True)):
        centres = first + step * np.arange(count)
        half = max(grid.size[axis] * grid.old[axis], step) / 2
        within = np.abs(centres) <= half * (1 + _ROUNDING)
        inside &= np.expand_dims(within, [other for other in range(3) if other != axis])
    return inside
