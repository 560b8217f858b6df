"""Lets both organs of a pair look alike: right breasts and left eyes are read as mirror images.

Owns: which side a frame shows, which sides are mirrored, mirroring a picture or where a slice
stands. Does not own: reading the places of slices (`slices`).
So a finding in one breast (eye) lies near the same finding in the other, as radiologists hang
mammograms and as fundus photographs are compared.
"""

import numpy as np
from pydicom import Dataset, uid

from encoder.geometry import Vector
from encoder.headers import macro
from encoder.photometry import Picture

_BREAST = frozenset(
    {
        uid.DigitalMammographyXRayImageStorageForPresentation,
        uid.DigitalMammographyXRayImageStorageForProcessing,
        uid.BreastProjectionXRayImageStorageForPresentation,
        uid.BreastProjectionXRayImageStorageForProcessing,
        uid.BreastTomosynthesisImageStorage,
    }
)
_EYE = frozenset(
    {
        uid.OphthalmicPhotography8BitImageStorage,
        uid.OphthalmicPhotography16BitImageStorage,
        uid.WideFieldOphthalmicPhotographyStereographicProjectionImageStorage,
        uid.WideFieldOphthalmicPhotography3DCoordinatesImageStorage,
        uid.OphthalmicTomographyImageStorage,
        uid.OphthalmicOpticalCoherenceTomographyEnFaceImageStorage,
    }
)
_MIRRORED: dict[str, str] = {**dict.fromkeys(_BREAST, "R"), **dict.fromkeys(_EYE, "L")}


def side(dataset: Dataset, index: int | None) -> str:
    """Return R, L, B (both), U (unpaired) or "": of the frame, the image or the series.

    PS3.3 C.7.6.16.2.8 (Frame Laterality), C.8.11.2 (Image Laterality), C.7.3.1 (Laterality).
    """
    anatomy = macro(dataset, "FrameAnatomySequence", index)
    values = (
        anatomy.get("FrameLaterality"),
        dataset.get("ImageLaterality"),
        dataset.get("Laterality"),
    )
    return next((str(value) for value in values if value), "")


def is_mirrored(dataset: Dataset, index: int | None) -> bool:
    """Say whether the organ of a frame is the one of its pair that is mirrored."""
    return side(dataset, index) == _MIRRORED.get(dataset.get("SOPClassUID", ""), "-")


def is_mirrored_picture(dataset: Dataset, index: int | None) -> bool:
    """Say whether a picture without a place in space is to be mirrored.

    Of a breast it is one whose rows run to the back (Patient Orientation, PS3.3 C.7.6.1.1.1), so
    that the chest wall comes to lie on the left; its side counts where the rows do not say.
    """
    rows = str((dataset.get("PatientOrientation") or [""])[0])[:1]
    if dataset.get("SOPClassUID") in _BREAST and rows in ("A", "P"):
        return rows == "P"
    return is_mirrored(dataset, index)


def hung(
    dataset: Dataset, index: int | None, cosines: tuple[float, ...], position_mm: tuple[float, ...]
) -> tuple[tuple[float, ...], Vector]:
    """Give the direction cosines and the position of a slice as both organs of a pair share them.

    The x axis of one organ is negated. The planes of a tomosynthesis hang as the pictures of a
    breast do, whatever the angle of the projection: as stored, the chest wall on the left.
    """
    lateral = -1.0 if is_mirrored(dataset, index) else 1.0
    row, column, place_mm = np.array([*cosines, *position_mm]).reshape(3, 3) * (lateral, 1, 1)
    if dataset.get("SOPClassUID") == uid.BreastTomosynthesisImageStorage:
        turn = -1.0 if row[1] > 0 else 1.0  # rows that run to the back, with y
        axes = np.array([turn * row, column, turn * np.cross(row, column)])
        row, column, place_mm = np.array([turn, 0, 0]), np.array([0, 1, 0]), axes @ place_mm
    x_mm, y_mm, z_mm = place_mm.tolist()
    return (*row.tolist(), *column.tolist()), (x_mm, y_mm, z_mm)


def mirrored(whole: Picture) -> Picture:
    """Turn left and right of a picture around."""
    valid = None if whole.valid is None else np.ascontiguousarray(whole.valid[:, ::-1])
    return Picture(np.ascontiguousarray(whole.values[..., ::-1]), valid, whole.unit)
