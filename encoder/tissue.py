"""Where on a slide there is tissue: a small map, drawn from its smallest level.

Owns: the map and the threshold. Does not own: what is taken of the tissue (`slide`).

Stained tissue has colour and glass has none, so the saturation of HSV is cut where Otsu says (IEEE
Trans. Syst. Man Cybern. 9, 1979), as in CLAM (Lu et al., doi:10.1038/s41551-020-00682-w). Grey
slides are fluorescence: bright is tissue.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from encoder.clip import Unit
from encoder.origin import Box
from encoder.photometry import Picture
from encoder.tiles import Tiles, read_tile

MAX_TILES, MAX_MAP_PIXELS = 256, 512  # decoded for a map, evenly spread; its longer side
MIN_SIGNAL = 0.05  # of full saturation or brightness: less is glass, dust, the colour of the lamp


@dataclass(frozen=True, slots=True)
class Tissue:
    """A map of a slide: `below[y, x]` counts the tissue above and left of a map pixel (y, x).

    (A summed-area table, so that a million tiles cost no more than four look-ups each.)
    """

    below: NDArray[np.int64]

    def share(
        self, corners: NDArray[np.float64], extent: tuple[float, float]
    ) -> NDArray[np.float64]:
        """Give the share of tissue in boxes with `corners` (N, 2), in parts of the slide's size."""
        size = np.array(self.below.shape) - 1
        first = np.floor(corners * size).astype(int).clip(0, size - 1)
        last = np.ceil((corners + extent) * size).astype(int).clip(first + 1, size)
        inside = (
            self.below[last[:, 0], last[:, 1]]
            - self.below[first[:, 0], last[:, 1]]
            - self.below[last[:, 0], first[:, 1]]
            + self.below[first[:, 0], first[:, 1]]
        )
        shares: NDArray[np.float64] = inside / (last - first).prod(axis=1)
        return shares


def find_tissue(level: Sequence[Tiles]) -> Tissue:
    """Map the tissue of a level, given as the instances that hold its frames.

    Of a level with more than `MAX_TILES` frames the map knows only as many: elsewhere it has no
    tissue. Raises one of `headers.READ_ERRORS` where a frame is damaged.
    """
    size = np.array(level[0].size)
    scale = min(1.0, MAX_MAP_PIXELS / size.max())
    shape = np.ceil(size * scale).astype(int)
    signal = np.zeros(shape, dtype=np.float32)
    seen = np.zeros(shape, dtype=np.bool_)
    owners = np.repeat(np.arange(len(level)), [len(tiles.index) for tiles in level])
    numbers = np.concatenate([np.arange(len(tiles.index)) for tiles in level])
    chosen = np.linspace(0, len(owners) - 1, min(len(owners), MAX_TILES)).round().astype(int)
    for tiles, number in ((level[owners[each]], numbers[each]) for each in chosen):
        corner = np.array([tiles.top[number], tiles.left[number]])
        real = np.minimum(tiles.tile, size - corner)  # the rest is beyond the edge
        box = Box(0, int(real[0]), 0, int(real[1]))
        whole = read_tile(tiles.file, int(tiles.index[number]), box)
        first = np.floor(corner * scale).astype(int)
        last = np.ceil((corner + real) * scale).astype(int).clip(first + 1, shape)
        there = (slice(first[0], last[0]), slice(first[1], last[1]))
        signal[there] = _shrunk(_signal(whole), *(last - first))
        seen[there] = True
    mask = seen & (signal > max(_otsu(signal[seen]), MIN_SIGNAL))
    below = np.pad(mask.astype(np.int64).cumsum(axis=0).cumsum(axis=1), ((1, 0), (1, 0)))
    return Tissue(below)


def _signal(whole: Picture) -> NDArray[np.float32]:
    """Return what tissue has more of than glass, (H, W) in 0..1."""
    if whole.unit is not Unit.COLOUR:
        values = whole.values[0].clip(0, None)
        return np.asarray(values / (255 if values.max() < 256 else 65535), dtype=np.float32)
    highest, lowest = whole.values.max(axis=0), whole.values.min(axis=0)
    saturation: NDArray[np.float32] = (highest - lowest) / np.maximum(highest, 1)
    return saturation


def _shrunk(values: NDArray[np.float32], rows: int, columns: int) -> NDArray[np.float32]:
    """Average over boxes."""
    small = Image.fromarray(values).resize((columns, rows), Image.Resampling.BOX)
    return np.asarray(small, dtype=np.float32)


def _otsu(values: NDArray[np.float32]) -> float:
    """Find the value that parts two classes of which each is as much alike as can be."""
    counts, edges = np.histogram(values, bins=256, range=(0, 1))
    weight = np.cumsum(counts)
    total = np.cumsum(counts * (edges[:-1] + edges[1:]) / 2)
    apart = (total[-1] * weight - total * weight[-1]) ** 2
    between = apart / np.maximum(weight * (weight[-1] - weight), 1)
    return float(edges[1:][between.argmax()])
