"""The frames of an object that are cuts through space, with all that tells stacks apart.

Owns: `Frame`, `Group`, `Slice`; which attributes separate stacks and where they stand.
Does not own: putting slices together (`grouping`), pixel values (`pixels`).
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pydicom import Dataset, uid
from pydicom.multival import MultiValue

from encoder.clip import Kind
from encoder.geometry import Geometry, Vector
from encoder.headers import floats, frame_count, macro
from encoder.laterality import hung, is_mirrored_picture, side
from encoder.origin import Box
from encoder.selection import image_type

# Classes whose frames are parallel cuts when they carry a plane position and orientation.
SLICED: frozenset[str] = frozenset(
    {
        uid.CTImageStorage,
        uid.EnhancedCTImageStorage,
        uid.LegacyConvertedEnhancedCTImageStorage,
        uid.MRImageStorage,
        uid.EnhancedMRImageStorage,
        uid.EnhancedMRColorImageStorage,
        uid.LegacyConvertedEnhancedMRImageStorage,
        uid.PositronEmissionTomographyImageStorage,
        uid.EnhancedPETImageStorage,
        uid.LegacyConvertedEnhancedPETImageStorage,
        uid.XRay3DAngiographicImageStorage,
        uid.XRay3DCraniofacialImageStorage,
        uid.BreastTomosynthesisImageStorage,
        uid.OphthalmicTomographyImageStorage,
        uid.EnhancedUSVolumeStorage,
    }
)

# Of these even the frames of an object that tells no places are one stack, in their order.
_STACKS: frozenset[str] = frozenset(
    {
        uid.XRay3DAngiographicImageStorage,
        uid.XRay3DCraniofacialImageStorage,
        uid.BreastTomosynthesisImageStorage,
        uid.OphthalmicTomographyImageStorage,
    }
)
_UNKNOWN_STEP_MM = 1.0

MIN_SPACING_MM, MAX_MM = 1e-6, 1e6  # a nanometre and a kilometre: beyond is damage, not anatomy

# Where an attribute stands: a path of keywords through the functional groups of enhanced objects,
# or one keyword of the dataset; the first that has a value counts (PS3.3 C.7.6.16, C.8.13, C.8.15).
_Sources = tuple[tuple[str, ...], ...]

# Slices that differ in one of these never share a volume.
_ALWAYS: tuple[_Sources, ...] = (
    (("CTReconstructionSequence", "ConvolutionKernel"), ("ConvolutionKernel",)),
    (("MREchoSequence", "EffectiveEchoTime"), ("EchoTime",)),
    (("PixelMeasuresSequence", "SliceThickness"), ("SliceThickness",)),
    (
        ("MRImageFrameTypeSequence", "FrameType"),
        ("CTImageFrameTypeSequence", "FrameType"),
        ("PETFrameTypeSequence", "FrameType"),
    ),
    (("FrameContentSequence", "StackID"),),
)


@dataclass(frozen=True, slots=True)
class Mark:
    """An attribute that tells slices at one place apart.

    `time`: its values are moments in order; `scale_s` is its unit in seconds, 0.0 where it only
    counts. `repeats`: a value that a single slice has says that this slice was taken again.
    """

    sources: _Sources
    time: bool = False
    scale_s: float = 0.0
    repeats: bool = False


# Asked in this order, and only where positions repeat.
_DIRECTION = ("DiffusionGradientDirectionSequence", "DiffusionGradientOrientation")
_DELAY = ("CardiacSynchronizationSequence", "NominalCardiacTriggerDelayTime")
MARKS: tuple[Mark, ...] = (
    Mark((("MRDiffusionSequence", "DiffusionBValue"), ("DiffusionBValue",))),
    Mark((("MRDiffusionSequence", *_DIRECTION), ("DiffusionGradientOrientation",))),
    Mark(
        (("FrameContentSequence", "TemporalPositionIndex"), ("TemporalPositionIdentifier",)),
        time=True,
    ),
    Mark((_DELAY, ("TriggerTime",)), time=True, scale_s=1e-3),
    Mark(
        (("FrameContentSequence", "FrameAcquisitionNumber"), ("AcquisitionNumber",)),
        time=True,
        repeats=True,
    ),
)

_ORIENTATION: _Sources = (
    ("PlaneOrientationSequence", "ImageOrientationPatient"),
    ("ImageOrientationPatient",),
)

Value = str | tuple[float, ...] | None
_Place = tuple[tuple[float, ...], Vector]  # direction cosines, position in mm


@dataclass(frozen=True, slots=True)
class Frame:
    """One frame of one file; `index` counts from 0, None means the whole instance."""

    path: Path
    sop_instance_uid: str
    index: int | None


@dataclass(frozen=True, slots=True)
class TileFile:
    """What reading a tile needs to know of its file: a header may take seconds to parse.

    `header` holds what says how pixels are stored, `pixels_at` is the offset of their value.
    """

    path: Path
    header: Dataset
    pixels_at: int


@dataclass(frozen=True, slots=True)
class Group:
    """Frames that make one clip, in the order of T; `spacing` as in `Clip`, planes as stored.

    `geometry` says where the frames stand, None where the file does not. `box` is the part that is
    read of a tile in `tile_file`; both are None where frames are read whole.
    """

    kind: Kind
    frames: tuple[Frame, ...]
    spacing: tuple[float, float, float]
    geometry: Geometry | None = None
    box: Box | None = None
    tile_file: TileFile | None = field(default=None, compare=False)


@dataclass(frozen=True, slots=True)
class Slice:
    """A frame in space. `sameness` must be equal, `plane` near within one volume.

    `marks` has one value for each of `MARKS`; of two repeats the one with the higher `age` is the
    newer. `step_s` is the declared time between two moments, 0.0 where unknown.
    """

    frame: Frame
    sameness: tuple[object, ...]
    frame_of_reference_uid: str
    plane: tuple[float, ...]  # 6 direction cosines, 2 pixel spacings in mm
    position_mm: Vector
    marks: tuple[Value, ...]
    age: tuple[object, ...]
    step_s: float


HEADER_KEYWORDS = (
    "SOPClassUID",
    "SOPInstanceUID",
    "ImageType",
    "Rows",
    "Columns",
    "PhotometricInterpretation",
    "NumberOfFrames",
    "FrameOfReferenceUID",
    "ImagePositionPatient",
    "ImageOrientationPatient",
    "PixelSpacing",
    "ImagerPixelSpacing",
    "NominalScannedPixelSpacing",
    "SequenceOfUltrasoundRegions",
    "ConversionType",
    "ImageLaterality",
    "Laterality",
    "PatientOrientation",
    "PresentationIntentType",
    "SeriesDescription",
    "VolumeBasedCalculationTechnique",
    "SliceThickness",
    "SpacingBetweenSlices",
    "ConvolutionKernel",
    "EchoTime",
    "DiffusionBValue",
    "DiffusionGradientOrientation",
    "TemporalPositionIdentifier",
    "TemporalResolution",
    "TriggerTime",
    "AcquisitionNumber",
    "AcquisitionDate",
    "AcquisitionTime",
    "ContentDate",
    "ContentTime",
    "InstanceNumber",
    "FrameIncrementPointer",
    "FrameTime",
    "FrameTimeVector",
    "CineRate",
    "RecommendedDisplayFrameRate",
    "SharedFunctionalGroupsSequence",
    "PerFrameFunctionalGroupsSequence",
)


def pixel_spacing_mm(header: Dataset, index: int | None) -> tuple[float, float]:
    """Distance between rows and between columns, 1.0 where the file does not say."""
    measures = macro(header, "PixelMeasuresSequence", index)
    for keyword in ("PixelSpacing", "ImagerPixelSpacing", "NominalScannedPixelSpacing"):
        spacing_mm = floats(measures.get(keyword), 2)
        if spacing_mm and min(spacing_mm) > MIN_SPACING_MM and max(spacing_mm) < MAX_MM:
            return spacing_mm[0], spacing_mm[1]
    for region in header.get("SequenceOfUltrasoundRegions") or []:
        delta_cm = floats([region.get("PhysicalDeltaY"), region.get("PhysicalDeltaX")], 2)
        in_cm = region.get("PhysicalUnitsXDirection") == 3  # PS3.3 C.8.5.5.1.15
        if in_cm and delta_cm and min(map(abs, delta_cm)) > 0:
            return abs(delta_cm[0]) * 10, abs(delta_cm[1]) * 10
    return 1.0, 1.0


def slices_of(header: Dataset, path: Path) -> list[Slice]:
    """Return every frame with its plane; nothing unless all frames are cuts at different places."""
    kind = image_type(header)
    if header.get("SOPClassUID") not in SLICED:
        return []
    sameness = (
        header.SOPClassUID,
        header.Rows,
        header.Columns,
        header.get("PhotometricInterpretation"),
        kind[2:],
    )
    count = frame_count(header)
    found: list[Slice] = []
    for index in [None] if count == 1 else range(count):
        frame = Frame(path, str(header.SOPInstanceUID), index)
        if (cut := _slice(header, frame, sameness)) is None:
            return []
        found.append(cut)
    # Many frames at one place are a loop through time, not a stack of copies.
    moving = count == 1 or len({cut.position_mm for cut in found}) > 1
    return found if moving else []


def _slice(header: Dataset, frame: Frame, sameness: tuple[object, ...]) -> Slice | None:
    """Read the plane of one frame and what sets it apart; None where it has no place in space."""
    stack_uid = ""
    if (place := _place(header, frame)) is None:
        place = _place_in_stack(header, frame)
        stack_uid = frame.sop_instance_uid  # nothing says where it stands to another one
    if place is None or max(map(abs, place[1])) > MAX_MM:
        return None
    cosines, position_mm = place
    projection: Value = None
    if header.SOPClassUID == uid.BreastTomosynthesisImageStorage:  # all its planes hang alike
        projection = _value(header, frame.index, _ORIENTATION)
    return Slice(
        frame=frame,
        sameness=(
            *sameness,
            stack_uid,
            projection,
            side(header, frame.index),
            *(_value(header, frame.index, sources) for sources in _ALWAYS),
        ),
        frame_of_reference_uid=str(header.get("FrameOfReferenceUID") or ""),
        plane=(*cosines, *pixel_spacing_mm(header, frame.index)),
        position_mm=position_mm,
        marks=tuple(_value(header, frame.index, mark.sources) for mark in MARKS),
        age=_age(header, frame),
        step_s=(floats(header.get("TemporalResolution"), 1) or (0.0,))[0] / 1000,
    )


def _place(header: Dataset, frame: Frame) -> _Place | None:
    orientation = macro(header, "PlaneOrientationSequence", frame.index)
    cosines = floats(orientation.get("ImageOrientationPatient"), 6)
    plane = macro(header, "PlanePositionSequence", frame.index)
    position_mm = floats(plane.get("ImagePositionPatient"), 3)
    if cosines is None or position_mm is None or not _spans_a_plane(cosines):
        return None
    return hung(header, frame.index, cosines, position_mm)


def _place_in_stack(header: Dataset, frame: Frame) -> _Place | None:
    """Take the frames of a stack that tells no places for axial cuts, in their order."""
    plane = macro(header, "PlanePositionSequence", frame.index)
    is_placed = plane.get("ImagePositionPatient") is not None
    if header.SOPClassUID not in _STACKS or frame.index is None or is_placed:
        return None
    measures = macro(header, "PixelMeasuresSequence", frame.index)
    steps_mm = (measures.get(name) for name in ("SpacingBetweenSlices", "SliceThickness"))
    known_mm = (step[0] for value in steps_mm if (step := floats(value, 1)) and step[0] > 0)
    step_mm = next(known_mm, _UNKNOWN_STEP_MM)
    along = -1.0 if is_mirrored_picture(header, frame.index) else 1.0
    return (along, 0.0, 0.0, 0.0, 1.0, 0.0), (0.0, 0.0, frame.index * step_mm)


def _spans_a_plane(cosines: Sequence[float]) -> bool:
    """Two unit vectors at a right angle, within what rounding to two digits does to them."""
    row, column = cosines[:3], cosines[3:]
    squares = (sum(x * x for x in vector) for vector in (row, column))
    across = sum(x * y for x, y in zip(row, column, strict=True))
    return abs(across) < 0.02 and all(abs(square - 1) < 0.04 for square in squares)


def _value(header: Dataset, index: int | None, sources: _Sources) -> Value:
    """Find the first value; numbers are compared to three digits, for some are rounded twice."""
    for first, *others in sources:
        value: Any = macro(header, first, index) if others else header.get(first)
        for keyword in others:
            item = value[0] if isinstance(value, Sequence) and value else value
            value = item.get(keyword) if isinstance(item, Dataset) else None
        if value is None or value == "":
            continue
        parts = list(value) if isinstance(value, MultiValue | list) else [value]
        if any(isinstance(part, str) for part in parts):
            return str(value)
        numbers = floats(parts, len(parts))
        return str(value) if numbers is None else tuple(round(number, 3) for number in numbers)
    return None


def _age(header: Dataset, frame: Frame) -> tuple[object, ...]:
    """Order in which repeats were made: acquisition, date and time, instance number."""
    dated = ("AcquisitionDate", "AcquisitionTime", "ContentDate", "ContentTime")
    acquisition, instance = (
        (floats(header.get(keyword), 1) or (0.0,))[0]
        for keyword in ("AcquisitionNumber", "InstanceNumber")
    )
    times = [str(header.get(keyword) or "") for keyword in dated]
    return (acquisition, *times, instance, frame.sop_instance_uid, frame.index or 0)
