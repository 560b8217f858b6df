"""Which images of a series are left out though their pixels could be read, and why.

Owns: the rules for raw detector data, pictures of screens, dose and protocol sheets, localizers,
projections. Does not own: objects that are no images (`series`). Modality is never asked.
"""

import re

from pydicom import Dataset, uid

RAW = "raw detector data (FOR PROCESSING), which nobody looks at; send the images for presentation"
SHEET = "a dose or protocol sheet, not anatomy"
LOCALIZER = "a localizer, by which slices were planned"
PROJECTION = "a projection or rendering of slices that the series holds too"

_FOR_PROCESSING = frozenset(
    {
        uid.DigitalXRayImageStorageForProcessing,
        uid.DigitalMammographyXRayImageStorageForProcessing,
        uid.DigitalIntraOralXRayImageStorageForProcessing,
        uid.BreastProjectionXRayImageStorageForProcessing,
        uid.IntravascularOpticalCoherenceTomographyImageStorageForProcessing,
    }
)
_SECONDARY_CAPTURES = frozenset(
    {
        uid.SecondaryCaptureImageStorage,
        uid.MultiFrameSingleBitSecondaryCaptureImageStorage,
        uid.MultiFrameGrayscaleByteSecondaryCaptureImageStorage,
        uid.MultiFrameGrayscaleWordSecondaryCaptureImageStorage,
        uid.MultiFrameTrueColorSecondaryCaptureImageStorage,
    }
)
# PS3.3 C.8.6.1, Conversion Type. Digitised film (DF) and video (DV, DI) do show the patient.
_CONVERSIONS: dict[str, str] = {
    "WSD": "a picture taken from a workstation's screen",
    "SD": "a scanned document",
    "SI": "a scanned picture",
    "DRW": "a drawing",
    "SYN": "a synthetic picture",
}
_SHEET_TYPES = re.compile(r"DOSE|SCREEN.?(SAVE|CAPTURE)|\bPROT(OCOL)?\b")
_SHEET_NAMES = re.compile(
    r"\bdose (report|info|summary|record)|\b(patient|exam) protocol|screen ?(save|shot|capture)",
    re.IGNORECASE,
)
# Values of Image Type, and of Volume Based Calculation Technique (PS3.3 C.8.16.2.1.3).
_PROJECTIONS = frozenset(
    {"PROJECTION IMAGE", "MIP", "MINIP", "MAX_IP", "MIN_IP", "VOLUME_RENDER", "SURFACE_RENDER"}
)


def image_type(header: Dataset) -> tuple[str, ...]:
    """Return the values of Image Type, however few there are."""
    value = header.get("ImageType") or ()
    return (value,) if isinstance(value, str) else tuple(map(str, value))


def why_left_out(header: Dataset) -> str | None:
    """Return the reason that an image gives by itself, None where it is wanted."""
    sop_class = header.get("SOPClassUID", "")
    intent = header.get("PresentationIntentType")
    if sop_class in _FOR_PROCESSING or intent == "FOR PROCESSING":
        return RAW
    if "LOCALIZER" in image_type(header):
        return LOCALIZER
    if _is_sheet(header, sop_class):
        return SHEET
    if sop_class in _SECONDARY_CAPTURES:
        return _CONVERSIONS.get(str(header.get("ConversionType") or ""))
    return None


def _is_sheet(header: Dataset, sop_class: str) -> bool:
    """Say whether a scanner wrote text: by Image Type, by name, or as a CT image of no place."""
    kind = image_type(header)
    is_derived = kind[:1] == ("DERIVED",)
    if not is_derived and sop_class not in _SECONDARY_CAPTURES:
        return False
    placeless = is_derived and header.get("ImagePositionPatient") is None
    return bool(
        _SHEET_TYPES.search("\\".join(kind[2:]))
        or _SHEET_NAMES.search(str(header.get("SeriesDescription") or ""))
        or (sop_class == uid.CTImageStorage and placeless)
    )


def is_projection(header: Dataset) -> bool:
    """Say whether an image was projected or rendered from a volume."""
    technique = str(header.get("VolumeBasedCalculationTechnique") or "")
    return not _PROJECTIONS.isdisjoint((*image_type(header)[2:], technique))
