"""The one tokeniser: a normalised clip as a sequence of space-time patches.

Owns: how pixels map to tokens and back. Does not own: what the network makes of them (`model`).
"""

import numpy as np
from numpy.typing import NDArray

from encoder.clip import Clip, Kind

Patch = tuple[int, int, int]


def tokenise(clip: Clip, patch: Patch) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Cut a clip into patches (L, P) and their places (L, 3) on the patch grid, T slowest.

    P = C * t * p * p in that order, t = 1 for a still: the model gives it the kernel summed over
    t, which equals repeating the frame t times. Places count patches along T, H and W from 0.
    Raises ValueError where the clip is no multiple of the patch.
    """
    t, h, w = (1, *patch[1:]) if clip.kind is Kind.STILL else patch
    channels, frames, height, width = clip.array.shape
    if frames % t or height % h or width % w:
        raise ValueError(f"a clip of {clip.array.shape} does not divide into patches {(t, h, w)}")
    grid = (frames // t, height // h, width // w)
    cut = clip.array.reshape(channels, grid[0], t, grid[1], h, grid[2], w)
    patches = cut.transpose(1, 3, 5, 0, 2, 4, 6).reshape(-1, channels * t * h * w)
    positions = np.indices(grid, dtype=np.float32).reshape(3, -1).T
    return np.ascontiguousarray(patches), np.ascontiguousarray(positions)


def untokenise(
    patches: NDArray[np.float32], shape: tuple[int, int, int, int], patch: Patch
) -> NDArray[np.float32]:
    """Put patches (L, P) back into an array of `shape` (C, T, H, W); inverse of `tokenise`."""
    channels, frames, height, width = shape
    t, h, w = (1, *patch[1:]) if patches.shape[1] == channels * patch[1] * patch[2] else patch
    grid = (frames // t, height // h, width // w)
    cut = patches.reshape(*grid, channels, t, h, w)
    return cut.transpose(3, 0, 4, 1, 5, 2, 6).reshape(shape)
