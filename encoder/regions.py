"""What part of a picture is image: within the display shutter, within ultrasound regions.

Owns: reading these parts from the header, cutting a picture to them. Names of patients are often
burnt into what lies outside. Does not own: pixel values (`photometry`).
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw
from pydicom import Dataset

from encoder.headers import floats, macro
from encoder.origin import Box
from encoder.photometry import Picture

# PS3.3 C.8.5.5.1: Region Spatial Format 1 is 2D; Region Data Type 1 is tissue, 2 colour flow.
# Spectra, traces and colour bars are left out.
_TWO_DIMENSIONAL, _ANATOMY, _CENTIMETRES = 1, (1, 2), 3
_SLACK = 1  # some writers count the last row and column from 1
_CORNERS = ("MinY0", "MinX0", "MaxY1", "MaxX1")


@dataclass(frozen=True, slots=True)
class Tissue:
    """The ultrasound regions that show anatomy, and the spacing in the largest of them."""

    boxes: tuple[Box, ...]
    spacing_mm: tuple[float, float] | None  # None where its axes are not in cm

    @property
    def around(self) -> Box:
        """The smallest box around all boxes."""
        return Box(
            min(box.top for box in self.boxes),
            max(box.bottom for box in self.boxes),
            min(box.left for box in self.boxes),
            max(box.right for box in self.boxes),
        )


def tissue(dataset: Dataset, shape: tuple[int, ...]) -> Tissue | None:
    """Find the regions of an ultrasound picture (H, W) that show anatomy, None if it names none.

    Regions that reach beyond the picture were written before it was scaled or cut: then their
    place is not known, and none is believed.
    """
    found: list[tuple[Box, Dataset]] = []
    for region in dataset.get("SequenceOfUltrasoundRegions") or []:
        is_plane = region.get("RegionSpatialFormat") == _TWO_DIMENSIONAL
        corners = floats([region.get(f"RegionLocation{corner}") for corner in _CORNERS], 4)
        if is_plane and region.get("RegionDataType") in _ANATOMY and corners:
            box = _box(corners)
            if box.bottom > shape[0] + _SLACK or box.right > shape[1] + _SLACK:
                return None
            if box.area > 0:
                found.append((box, region))
    if not found:
        return None
    _, largest = max(found, key=lambda item: item[0].area)
    return Tissue(tuple(box for box, _ in found), _spacing_mm(largest))


def _box(corners: tuple[float, ...]) -> Box:
    """Name the rows and columns of a region, of which the last ones belong to it."""
    top, left, bottom, right = map(int, corners)
    return Box(max(top, 0), bottom + 1, max(left, 0), right + 1)


def _spacing_mm(region: Dataset) -> tuple[float, float] | None:
    """Return mm between rows and between columns (PS3.3 C.8.5.5.1.15: delta in cm)."""
    units = region.get("PhysicalUnitsYDirection"), region.get("PhysicalUnitsXDirection")
    deltas_cm = floats([region.get("PhysicalDeltaY"), region.get("PhysicalDeltaX")], 2)
    if units != (_CENTIMETRES, _CENTIMETRES) or deltas_cm is None or 0 in deltas_cm:
        return None
    return abs(deltas_cm[0]) * 10, abs(deltas_cm[1]) * 10


def crop(whole: Picture, part: Tissue) -> Picture:
    """Cut to the smallest box around all regions; what lies between them is 0 and not valid."""
    inside = np.zeros(whole.values.shape[1:], dtype=np.bool_)
    for box in part.boxes:
        inside[box.top : box.bottom, box.left : box.right] = True
    around = part.around
    rows, columns = slice(around.top, around.bottom), slice(around.left, around.right)
    values = np.where(inside, whole.values, np.float32(0))[:, rows, columns]
    valid = None if whole.valid is None else whole.valid[rows, columns]
    return _restrict(Picture(values, valid, whole.unit), inside[rows, columns])


def shut(whole: Picture, dataset: Dataset, index: int) -> Picture:
    """Mark what the display shutter of this frame hides as not valid (PS3.3 C.7.6.11)."""
    shutter = macro(dataset, "FrameDisplayShutterSequence", index)
    shapes = np.atleast_1d(shutter.get("ShutterShape") or [])
    inside = np.ones(whole.values.shape[1:], dtype=np.bool_)
    for shape in shapes.tolist():
        if shape in _SHUTTERS:
            inside &= _SHUTTERS[shape](shutter, inside.shape)
    # A shutter that hides everything is a mistake of its writer.
    return _restrict(whole, inside) if inside.any() else whole


def _restrict(whole: Picture, inside: NDArray[np.bool_]) -> Picture:
    if inside.all():
        return whole
    valid = inside if whole.valid is None else whole.valid & inside
    return Picture(whole.values, valid, whole.unit)


def _rectangle(shutter: Dataset, shape: tuple[int, ...]) -> NDArray[np.bool_]:
    rows, columns = np.ogrid[1 : shape[0] + 1, 1 : shape[1] + 1]  # DICOM counts from 1
    inside: NDArray[np.bool_] = (
        (rows >= shutter.ShutterUpperHorizontalEdge)
        & (rows <= shutter.ShutterLowerHorizontalEdge)
        & (columns >= shutter.ShutterLeftVerticalEdge)
        & (columns <= shutter.ShutterRightVerticalEdge)
    )
    return inside


def _circle(shutter: Dataset, shape: tuple[int, ...]) -> NDArray[np.bool_]:
    rows, columns = np.ogrid[1 : shape[0] + 1, 1 : shape[1] + 1]
    row, column = shutter.CenterOfCircularShutter
    inside: NDArray[np.bool_] = np.hypot(rows - row, columns - column) <= float(
        shutter.RadiusOfCircularShutter
    )
    return inside


def _polygon(shutter: Dataset, shape: tuple[int, ...]) -> NDArray[np.bool_]:
    vertices = np.array(shutter.VerticesOfThePolygonalShutter, dtype=np.int64).reshape(-1, 2) - 1
    drawn = Image.new("1", (shape[1], shape[0]))
    ImageDraw.Draw(drawn).polygon([(int(x), int(y)) for y, x in vertices], fill=1, outline=1)
    return np.asarray(drawn, dtype=np.bool_)


_SHUTTERS = {"RECTANGULAR": _rectangle, "CIRCULAR": _circle, "POLYGONAL": _polygon}
