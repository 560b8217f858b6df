"""Lets both organs of a pair look alike: right breasts and left eyes are read as mirror images.

Owns: which side a frame shows, which sides are mirrored, mirroring a picture. Does not own: the
places of slices, of which `slices` negates the x axis for the same reason.
So a finding in one breast (eye) lies near the same finding in the other, as radiologists hang
mammograms and as fundus photographs are compared.
"""

import numpy as np
from pydicom import Dataset, uid

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


def mirrored(whole: Picture) -> Picture:
    """Turn left and right of a picture around."""
    valid = None if whole.valid is None else np.ascontiguousarray(whole.valid[:, ::-1])
    return Picture(np.ascontiguousarray(whole.values[..., ::-1]), valid, whole.unit)
