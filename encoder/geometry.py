"""Where the slices of a stack stand in the patient, and on which regular grid they belong.

Owns: directions, order, tilt, gaps and steps along the normal: vectors only.
Does not own: which slices make a stack (`grouping`), pixels (`volume`).
All positions are mm in the patient's frame, x to the left, y to the back, z to the head (LPS,
PS3.3 C.7.6.2.1.1).
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Vector = tuple[float, float, float]

# By the patient axis (x, y, z) nearest to the normal: patient axis and sign of W, then of H.
# These are the usual hanging directions: axial from below, coronal from the front, sagittal with
# the face to the left; the head is up.
_VIEWS: tuple[tuple[tuple[int, int], tuple[int, int]], ...] = (
    ((1, 1), (2, -1)),  # sagittal: W to the back, H to the feet
    ((0, 1), (2, -1)),  # coronal: W to the left, H to the feet
    ((0, 1), (1, 1)),  # axial: W to the left, H to the back
)
_TIE = 1e-3  # direction cosines this near are equal, so that rounding does not choose the view

# Positions are decimal text, often in 0.1 mm: up to 5 % off its place a slice counts as on it.
REGULAR_TOLERANCE = 0.05
GAP_RATIO = 1.5  # of the usual step nearby: half a slice more cannot be a missing one
NEARBY_STEPS = 3  # on either side; a step that changes for good is no gap
MAX_MISSING = 0.1  # of a volume may be interpolated
MAX_DENSITY = 4  # times as many slices as there were may come of irregular ones


@dataclass(frozen=True, slots=True)
class View:
    """How a stored plane is turned: first transposed, then its axes H and W reversed."""

    transposed: bool
    reversed_h: bool
    reversed_w: bool


AS_STORED = View(transposed=False, reversed_h=False, reversed_w=False)
MIRRORED = View(transposed=False, reversed_h=False, reversed_w=True)


@dataclass(frozen=True, slots=True)
class Geometry:
    """Parallel planes: `row` points along a row, `column` down a column, both of length one.

    `origins_mm` are the centres of the first stored pixel, one for each frame in the order of T.
    """

    row: Vector
    column: Vector
    origins_mm: tuple[Vector, ...]

    def view(self) -> View:
        """Turn the plane, without resampling, nearest to the common orientation.

        The acquired plane stays H x W. W and H point as `_VIEWS` says and T along W x H, so that
        nothing is mirrored: T runs from feet to head in axial stacks, from front to back in
        coronal and from left to right in sagittal ones.
        """
        row, column = np.array(self.row), np.array(self.column)
        normal = np.abs(np.cross(row, column))
        nearest = int(np.flatnonzero(normal > normal.max() - _TIE)[-1])
        (w_axis, w_sign), (h_axis, h_sign) = _VIEWS[nearest]
        transposed = bool(abs(row[w_axis]) + _TIE < abs(column[w_axis]))
        w, h = (column, row) if transposed else (row, column)
        return View(transposed, bool(h[h_axis] * h_sign < 0), bool(w[w_axis] * w_sign < 0))

    def places_mm(self) -> NDArray[np.float64]:
        """Give the origins (N, 3) along T, H and W of the common orientation."""
        view = self.view()
        w, h = np.array(self.row), np.array(self.column)
        if view.transposed:
            w, h = h, w
        w, h = (-w if view.reversed_w else w), (-h if view.reversed_h else h)
        places: NDArray[np.float64] = np.array(self.origins_mm) @ np.array([np.cross(w, h), h, w]).T
        return places


@dataclass(frozen=True, slots=True)
class Steps:
    """A regular grid along T: `indices` says where among the given slices each of its own lies."""

    step_mm: float
    indices: NDArray[np.float64]


def orthonormal(cosines: NDArray[np.float64]) -> tuple[Vector, Vector]:
    """Average orientations (N, 6) and make the two directions exactly square (Gram-Schmidt).

    Raises ValueError where they span no plane.
    """
    row, column = cosines.mean(axis=0).reshape(2, 3)
    normal = np.cross(row, column)
    if np.linalg.norm(normal) < 0.5:
        raise ValueError("Image Orientation (Patient) spans no plane")
    row = row / np.linalg.norm(row)
    column = np.cross(normal / np.linalg.norm(normal), row)
    return (row[0], row[1], row[2]), (column[0], column[1], column[2])


def breaks(places_mm: NDArray[np.float64]) -> list[int]:
    """Say before which slices a stack (N, 3), in order along T, is to be cut.

    At steps that lead more sideways than onwards, for no scanner tilts beyond 45 degrees; and at
    every gap where more than `MAX_MISSING` of the slices are missing.
    """
    moves = np.diff(places_mm, axis=0)
    steps = moves[:, 0]
    usual = np.array(
        [
            np.median(steps[max(0, number - NEARBY_STEPS) : number + NEARBY_STEPS + 1])
            for number in range(len(steps))
        ]
    )
    gaps = steps > GAP_RATIO * usual
    missing = float((np.rint(steps / usual) - 1)[gaps].sum())
    if missing <= MAX_MISSING * (missing + len(places_mm)):
        gaps[:] = False
    sideways = np.linalg.norm(moves[:, 1:], axis=1) > steps
    return [int(number) + 1 for number in np.flatnonzero(gaps | sideways)]


def regular(along_mm: NDArray[np.float64]) -> Steps:
    """Find the regular grid for slices at ascending places (N,), N > 1, with no break in them.

    Where the places are multiples of one step, but for a few gaps, every slice is kept as it is.
    Otherwise the grid takes the median step. Between slices it interpolates linearly.
    """
    count = len(along_mm)
    steps = np.diff(along_mm)
    median_mm = float(np.median(steps))
    along_mm = along_mm - along_mm[0]
    numbers = np.concatenate([[0.0], np.cumsum(np.maximum(1, np.rint(steps / median_mm)))])
    if numbers[-1] < MAX_DENSITY * count:
        step_mm = float(along_mm[-1] / numbers[-1])
        if np.abs(along_mm - numbers * step_mm).max() <= REGULAR_TOLERANCE * step_mm:
            wanted = np.arange(numbers[-1] + 1)
            return Steps(step_mm, np.interp(wanted, numbers, np.arange(count)))
    step_mm = max(median_mm, float(along_mm[-1]) / (MAX_DENSITY * count))
    wanted_mm = np.arange(np.floor(along_mm[-1] / step_mm + 1e-6) + 1) * step_mm
    return Steps(step_mm, np.interp(wanted_mm, along_mm, np.arange(count)))
