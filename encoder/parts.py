"""The parts of a clip: slabs of a volume, frames of a cine, regions of a picture, as vectors.

Owns: which tokens make a part, and where in the stored images it lies. Does not own: the network,
centring and whitening (`embedder`), the way back to stored pixels (`origin`).
Source: late interaction keeps several vectors of a document instead of one (ColBERT,
arXiv:2004.12832); here they are means over the output tokens of neighbouring patches.
"""

from dataclasses import dataclass
from math import isqrt

import numpy as np
from numpy.typing import NDArray

from encoder.clip import Clip
from encoder.origin import Box, Grid, Origin
from encoder.tokens import Patch

MAX_PARTS = 32  # of one clip


@dataclass(frozen=True, slots=True)
class Place:
    """A box of a stored frame, which counts from 1; of a slab the frame in its middle."""

    sop_instance_uid: str
    frame: int
    box: Box


@dataclass(frozen=True, slots=True, eq=False)
class Parts:
    """Unit vectors (P, D), at least one, and the place of each, None where it is not known."""

    vectors: NDArray[np.float32]
    places: tuple[Place | None, ...]


@dataclass(frozen=True, slots=True)
class Layout:
    """How the tokens of a normalised clip lie in it: `tokens` (T, H, W) of `patch` pixels."""

    tokens: Patch
    patch: Patch
    spacing: tuple[float, float]
    origin: Origin | None

    def place(self, first: NDArray[np.intp], last: NDArray[np.intp]) -> Place | None:
        """Return where the tokens from `first` to `last` (T, H, W), not included, come from."""
        if self.origin is None:
            return None
        _, *size = (count * side for count, side in zip(self.tokens, self.patch, strict=True))
        (start, top, left), (stop, bottom, right) = first * self.patch, last * self.patch
        frame = int(start + stop) // 2
        box = Box(int(top), int(bottom), int(left), int(right))
        stored = self.origin.stored(box, frame, Grid((size[0], size[1]), self.spacing))
        if stored.area == 0:
            return None
        source = self.origin.frames[frame]
        return Place(source.sop_instance_uid, source.number, stored)


def layout_of(clip: Clip, patch: Patch) -> Layout:
    """Describe the tokens that `tokenise` makes of a clip with patches of this size."""
    _, *sizes = clip.array.shape
    frames, height, width = (size // side for size, side in zip(sizes, patch, strict=True))
    return Layout((frames, height, width), patch, (clip.spacing[1], clip.spacing[2]), clip.origin)


def part_means(
    tokens: NDArray[np.float32], shown: NDArray[np.bool_], layout: Layout, *, most: int = MAX_PARTS
) -> tuple[NDArray[np.float32], tuple[Place | None, ...]]:
    """Average tokens (L, D) over at most `most` cells: means (P, D) and their places.

    Every step of T is apart as far as `most` goes; what is left divides each into square regions, a
    power of 2 along either side. Tokens of black or padding (not `shown`) do not count, and cells
    of nothing else are no parts; where nothing is shown at all, everything counts.
    """
    counted = shown if shown.any() else np.ones_like(shown)
    edges = [
        np.linspace(0, size, count + 1).round().astype(np.intp)
        for size, count in zip(layout.tokens, _cells(layout.tokens, most), strict=True)
    ]
    sums = (tokens * counted[:, None]).reshape(*layout.tokens, -1)
    counts = counted.astype(np.float32).reshape(layout.tokens)
    for axis, along in enumerate(edges):
        sums = np.add.reduceat(sums, along[:-1], axis=axis)
        counts = np.add.reduceat(counts, along[:-1], axis=axis)
    cells = np.argwhere(counts > 0)
    firsts = np.column_stack([along[at] for along, at in zip(edges, cells.T, strict=True)])
    lasts = np.column_stack([along[at + 1] for along, at in zip(edges, cells.T, strict=True)])
    means = sums[counts > 0] / counts[counts > 0][:, None]
    return means, tuple(map(layout.place, firsts, lasts))


def _cells(tokens: Patch, most: int) -> Patch:
    frames = min(tokens[0], most)
    side = 1 << (isqrt(most // frames).bit_length() - 1)
    return frames, min(side, tokens[1]), min(side, tokens[2])
