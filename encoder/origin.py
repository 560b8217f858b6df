"""Where the pixels of a clip lie in the stored images, so that one can point back at them.

Owns: `Box`, `Origin`, the way from a clip to stored pixels and back. Does not own: what is read,
cut or turned (`frames`, `volume`), which parts of a clip are told apart (`parts`).
A place is right to about a pixel of the clip; resampling and interpolation along T blur it.
"""

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from encoder.geometry import AS_STORED, View


@dataclass(frozen=True, slots=True)
class Box:
    """Rows `top` to `bottom` and columns `left` to `right`, the ends not included."""

    top: int
    bottom: int
    left: int
    right: int

    @property
    def area(self) -> int:
        """Number of pixels, 0 where an end lies before its start."""
        return max(self.bottom - self.top, 0) * max(self.right - self.left, 0)

    def inside(self, other: "Box") -> "Box":
        """Return what both share; its area is 0 where that is nothing."""
        return Box(
            max(self.top, other.top),
            min(self.bottom, other.bottom),
            max(self.left, other.left),
            min(self.right, other.right),
        )


@dataclass(frozen=True, slots=True)
class FrameOrigin:
    """A frame of an instance, counted from 1.

    `shift_mm`: how far its middle lies from that of the clip, along H and W of the clip.
    """

    sop_instance_uid: str
    number: int
    shift_mm: tuple[float, float] = (0.0, 0.0)


@dataclass(frozen=True, slots=True)
class Grid:
    """The plane of a clip: its size H, W in pixels and their spacing."""

    size: tuple[int, int]
    spacing: tuple[float, float]


@dataclass(frozen=True, slots=True)
class Origin:
    """What a clip was made of; of a clip that was resampled the middle stays where it was.

    `frames` has one for each T of the clip. Of stored images of `size` (rows, columns) the box
    `cut` was read, with pixels of `pixel` (rows, columns) in the unit of the clip's spacing, and
    turned as `view` says.
    """

    frames: tuple[FrameOrigin, ...]
    size: tuple[int, int]
    cut: Box
    pixel: tuple[float, float] = (1.0, 1.0)
    view: View = AS_STORED

    def stored(self, box: Box, frame: int, grid: Grid) -> Box:
        """Return where a box of a clip lies in the stored image of one of its frames."""
        apart = (_corners(box) - np.array(grid.size) / 2) * grid.spacing
        apart = (apart - self.frames[frame].shift_mm) * self._signs
        if self.view.transposed:
            apart = apart[:, ::-1]
        found = _box(apart / self.pixel + _corners(self.cut).mean(axis=0))
        return found.inside(self.cut)

    def shown(self, box: Box, frame: int, grid: Grid) -> Box:
        """Return where a box of the stored image lies in a clip: the inverse of `stored`."""
        apart = (_corners(box.inside(self.cut)) - _corners(self.cut).mean(axis=0)) * self.pixel
        if self.view.transposed:
            apart = apart[:, ::-1]
        apart = apart * self._signs + self.frames[frame].shift_mm
        found = _box(apart / grid.spacing + np.array(grid.size) / 2)
        return found.inside(Box(0, grid.size[0], 0, grid.size[1]))

    def taken(self, numbers: NDArray[np.intp]) -> "Origin":
        """Return the origin of a clip of these frames."""
        return replace(self, frames=tuple(self.frames[number] for number in numbers))

    @property
    def _signs(self) -> NDArray[np.float64]:
        return np.where([self.view.reversed_h, self.view.reversed_w], -1.0, 1.0)


def nearest_frame(origin: Origin, number: int) -> int:
    """Return which T of a clip is nearest to a frame of its instance, counted from 1."""
    return min(range(len(origin.frames)), key=lambda t: abs(origin.frames[t].number - number))


def _corners(box: Box) -> NDArray[np.float64]:
    return np.array([[box.top, box.left], [box.bottom, box.right]], dtype=np.float64)


def _box(corners: NDArray[np.float64]) -> Box:
    """Round to whole pixels, at least one."""
    first, last = np.sort(corners, axis=0).round().astype(int)
    last = np.maximum(last, first + 1)
    return Box(int(first[0]), int(last[0]), int(first[1]), int(last[1]))
