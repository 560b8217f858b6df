"""The one tokeniser: a normalised clip as a sequence of space-time patches.

Owns: how pixels map to tokens and back. Does not own: what the network makes of them (`model`).
"""

from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from encoder.clip import Clip, Kind

Patch = tuple[int, int, int]
Value = TypeVar("Value", bound=np.generic)


def tokenise(clip: Clip, patch: Patch) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Cut a clip into patches (L, P) and their places (L, 3) on the patch grid, T slowest.

    P = C * t * p * p in that order, t = 1 for a still: the model gives it the kernel summed over
    t, which equals repeating the frame t times. Places count patches along T, H and W from 0.
    Raises ValueError where the clip is no multiple of the patch.
    """
    patch = patch_of(clip.kind, patch)
    _, *sizes = clip.array.shape
    frames, height, width = (size // p for size, p in zip(sizes, patch, strict=True))
    return patches_of(clip.array[None], patch)[0], places_of((frames, height, width))


def patch_of(kind: Kind, patch: Patch) -> Patch:
    """Return the patch of a clip of this kind: of a still one frame deep."""
    return (1, *patch[1:]) if kind is Kind.STILL else patch


def patches_of(array: NDArray[Value], patch: Patch) -> NDArray[Value]:
    """Cut (N, C, T, H, W) into patches (N, L, P); ValueError where it does not divide."""
    n, channels, *sizes = array.shape
    if any(size % p for size, p in zip(sizes, patch, strict=True)):
        raise ValueError(f"{tuple(sizes)} does not divide into patches {patch}")
    (t, h, w), (frames, height, width) = patch, sizes
    cut = array.reshape(n, channels, frames // t, t, height // h, h, width // w, w)
    ordered = cut.transpose(0, 2, 4, 6, 1, 3, 5, 7)
    return np.ascontiguousarray(ordered).reshape(n, -1, channels * t * h * w)


def places_of(grid: Patch) -> NDArray[np.float32]:
    """Number the places (L, 3) of a grid of patches along T, H and W, T slowest."""
    return np.ascontiguousarray(np.indices(grid, dtype=np.float32).reshape(3, -1).T)


def untokenise(
    patches: NDArray[np.float32], shape: tuple[int, int, int, int], patch: Patch
) -> NDArray[np.float32]:
    """Put patches (L, P) back into an array of `shape` (C, T, H, W); inverse of `tokenise`."""
    channels, frames, height, width = shape
    t, h, w = (1, *patch[1:]) if patches.shape[1] == channels * patch[1] * patch[2] else patch
    grid = (frames // t, height // h, width // w)
    cut = patches.reshape(*grid, channels, t, h, w)
    return cut.transpose(3, 0, 4, 1, 5, 2, 6).reshape(shape)
