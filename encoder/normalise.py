"""From a clip of any size and unit to what the network sees: one extent, three channels, 0..1.

Owns: the fixed extent, sampling in time, intensity ranges. Below this file nobody knows the unit.
Does not own: decoding (`pixels`), orientation (`volume`), interpolation (`resample`), tokens.
"""

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from encoder.clip import Clip, Kind, Unit
from encoder.config import Extent
from encoder.resample import fit, resample

# Counted up with every change of what the network sees of the same file: part of a model's id, so
# that vectors made before and after never meet in one ranking.
RULES = 1

# One window for all three channels, or one for each. A CT in the windows of the reading room: lung
# (W 1500, L -600), mediastinum (W 400, L 40), bone (W 1800, L 400), as in Pillar-0's multi-window
# tokens (arXiv:2511.17803). Bodies differ by soft tissue, which one wide window squeezes together.
WINDOWS: dict[Unit, tuple[tuple[float, float], ...]] = {
    Unit.HOUNSFIELD: ((-1350.0, 150.0), (-160.0, 240.0), (-500.0, 1300.0)),
    # As the baseline of the autoPET challenge (github.com/lab-midas/autoPET, monai_unet.py): only
    # brain, bladder and the hottest lesions take up more than 15 times their share.
    Unit.SUV: ((0.0, 15.0),),
    Unit.COLOUR: ((0.0, 255.0),),
}
# For any other unit, as nnU-Net and torchio: robust against a few hot pixels
# (Isensee et al., arXiv:1809.10486).
PERCENTILES = (0.5, 99.5)


def normalise(clip: Clip, extent: Extent) -> Clip:
    """Bring a clip to (3, T, H, W) of the extent, with values in [0, 1].

    The aspect in mm is kept: the longer side fills the extent, the rest is padded with 0 and
    False in `valid`. A volume is resampled along T, a cine sampled evenly. Same clip, same result.
    """
    if clip.kind is Kind.CINE:
        clip = _sample_frames(clip, extent.frames)
    frames = extent.frames if clip.kind is Kind.VOLUME else clip.array.shape[1]
    grid = fit(clip, extent, frames=frames)
    array, inside = resample(clip.array, clip.valid, grid)
    values = _to_unit_range(array, inside, clip.unit)
    nearest = (np.arange(frames) + 0.5) * clip.array.shape[1] / frames
    return replace(
        clip,
        array=np.repeat(values, 3 // len(values), axis=0),
        spacing=(clip.spacing[0] * grid.new[0] / grid.old[0], *grid.new[1:]),
        valid=inside,
        origin=clip.origin and clip.origin.taken(nearest.astype(np.intp)),
    )


def _sample_frames(clip: Clip, count: int) -> Clip:
    """Pick `count` frames evenly from first to last, repeating some of a short loop."""
    available = clip.array.shape[1]
    indices = np.linspace(0, available - 1, count).round().astype(int)
    step_s = clip.spacing[0] * (available - 1) / max(count - 1, 1)
    return replace(
        clip,
        array=clip.array[:, indices],
        spacing=(step_s, *clip.spacing[1:]),
        valid=None if clip.valid is None else clip.valid[indices],
        origin=clip.origin and clip.origin.taken(indices),
    )


def _to_unit_range(
    array: NDArray[np.float32], inside: NDArray[np.bool_], unit: Unit
) -> NDArray[np.float32]:
    """Map each window of the unit to 0..1; a constant image and what is not `inside` become 0."""
    windows = WINDOWS.get(unit) or (_robust_range(array[:, inside]),)
    return np.concatenate([_shown(array, inside, *window) for window in windows])


def _shown(
    array: NDArray[np.float32], inside: NDArray[np.bool_], low: float, high: float
) -> NDArray[np.float32]:
    if high <= low:
        return np.zeros_like(array)
    scaled: NDArray[np.float32] = np.where(inside, (array - low) / (high - low), 0)
    return scaled.clip(0, 1).astype(np.float32)


def _robust_range(values: NDArray[np.float32]) -> tuple[float, float]:
    if values.size == 0:
        return 0.0, 0.0
    low, high = np.percentile(values, PERCENTILES)
    return float(low), float(high)
