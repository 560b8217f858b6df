"""From the files of one series to groups of frames that belong in one array.

Owns: which objects are images, what is a still, a volume or a cine, and the order of slices.
Does not own: pixel values (`pixels`); which files make a series (the catalogue). The SOP class and
the geometry decide; Modality is never asked.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby, zip_longest
from pathlib import Path

import numpy as np
from pydicom import Dataset, dcmread, uid

from encoder.clip import Kind
from encoder.headers import (
    READ_ERRORS,
    floats,
    frame_count,
    frame_times,
    macro,
    quiet,
    raise_if_missing,
)

_NOT_IMAGES_BY_REASON: dict[str, tuple[str, ...]] = {
    "a structured report": (
        uid.BasicTextSRStorage,
        uid.EnhancedSRStorage,
        uid.ComprehensiveSRStorage,
        uid.Comprehensive3DSRStorage,
        uid.XRayRadiationDoseSRStorage,
    ),
    "a key object selection": (uid.KeyObjectSelectionDocumentStorage,),
    "a presentation state": (
        uid.GrayscaleSoftcopyPresentationStateStorage,
        uid.ColorSoftcopyPresentationStateStorage,
    ),
    "a document": (uid.EncapsulatedPDFStorage, uid.EncapsulatedCDAStorage),
    "a segmentation": (uid.SegmentationStorage, uid.SurfaceSegmentationStorage),
    "a dose grid": (uid.RTDoseStorage,),
    "a treatment plan": (uid.RTPlanStorage, uid.RTIonPlanStorage),
    "a structure set": (uid.RTStructureSetStorage,),
    "a parametric map": (uid.ParametricMapStorage,),
    "a value mapping": (uid.RealWorldValueMappingStorage,),
    "a registration": (uid.SpatialRegistrationStorage, uid.DeformableSpatialRegistrationStorage),
    "raw data": (uid.RawDataStorage,),
    "a waveform": (uid.TwelveLeadECGWaveformStorage, uid.GeneralECGWaveformStorage),
    # An image, but of tiles: read as frames it would be a film of shuffled squares.
    "a whole slide image, which is not read yet": (uid.VLWholeSlideMicroscopyImageStorage,),
}
NOT_IMAGES: dict[str, str] = {
    sop_class: reason for reason, classes in _NOT_IMAGES_BY_REASON.items() for sop_class in classes
}

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

GEOMETRY_TOLERANCE = 1e-3  # direction cosines and mm: more than rounding, less than another scan
SAME_POSITION_MM = 0.01  # table jitter is some µm; no scanner cuts thinner

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
    "AcquisitionNumber",
    "TemporalPositionIdentifier",
    "InstanceNumber",
    "FrameTime",
    "FrameTimeVector",
    "CineRate",
    "RecommendedDisplayFrameRate",
    "SharedFunctionalGroupsSequence",
    "PerFrameFunctionalGroupsSequence",
)


@dataclass(frozen=True, slots=True)
class Frame:
    """One frame of one file; `index` counts from 0, None means the whole instance."""

    path: Path
    sop_instance_uid: str
    index: int | None


@dataclass(frozen=True, slots=True)
class Group:
    """Frames that make one clip, in the order of T; `spacing` as in `Clip`."""

    kind: Kind
    frames: tuple[Frame, ...]
    spacing: tuple[float, float, float]


@dataclass(frozen=True, slots=True)
class LeftOut:
    """An instance that gives no clip, and why; the UID is empty where it could not be read."""

    sop_instance_uid: str
    reason: str


@dataclass(frozen=True, slots=True)
class Assembly:
    """What a series holds."""

    groups: tuple[Group, ...]
    skipped: tuple[LeftOut, ...]  # no images
    unreadable: tuple[LeftOut, ...]  # damaged


@dataclass(frozen=True, slots=True)
class _Slice:
    """A frame in space. `sameness` must be equal and `geometry` near within one volume."""

    frame: Frame
    sameness: tuple[object, ...]
    geometry: tuple[float, ...]  # 6 direction cosines, 2 pixel spacings in mm
    position_mm: tuple[float, ...]
    order: tuple[object, ...]  # acquisition, time point, instance number, UID, frame


def assemble(paths: Sequence[Path]) -> Assembly:
    """Group the files of one series by what belongs together, from the headers alone.

    The order of `paths` does not matter. Raises OSError where a file cannot be opened.
    """
    slices: list[_Slice] = []
    groups: list[Group] = []
    skipped: list[LeftOut] = []
    unreadable: list[LeftOut] = []
    with quiet():
        for path in sorted(paths):
            sop_instance_uid = ""
            try:
                header = dcmread(path, stop_before_pixels=True, specific_tags=list(HEADER_KEYWORDS))
                sop_instance_uid = str(header.SOPInstanceUID)
                if reason := _why_no_image(header):
                    skipped.append(LeftOut(sop_instance_uid, reason))
                elif cuts := _slices(header, path):
                    slices.extend(cuts)
                else:
                    groups.append(_still_or_cine(header, path))
            except READ_ERRORS as error:
                raise_if_missing(error)
                reason = f"unreadable header ({type(error).__name__})"
                unreadable.append(LeftOut(sop_instance_uid, reason))
    groups.extend(_volumes(slices))
    groups.sort(key=lambda group: [(f.sop_instance_uid, f.index or 0) for f in group.frames])
    return Assembly(tuple(groups), tuple(skipped), tuple(unreadable))


def _why_no_image(header: Dataset) -> str | None:
    reason = NOT_IMAGES.get(header.get("SOPClassUID", ""))
    if reason is None and not (header.get("Rows") and header.get("Columns")):
        return "no pixels"
    return reason


def _still_or_cine(header: Dataset, path: Path) -> Group:
    frame = Frame(path, str(header.SOPInstanceUID), None)
    in_plane_mm = _pixel_spacing_mm(header, None)
    if frame_count(header) == 1:
        return Group(Kind.STILL, (frame,), (0.0, *in_plane_mm))
    times = frame_times(header)
    step_s = 0.0 if times is None else float(np.median(np.diff(times)))
    return Group(Kind.CINE, (frame,), (step_s, *in_plane_mm))


def _pixel_spacing_mm(header: Dataset, index: int | None) -> tuple[float, float]:
    """Distance between rows and between columns, 1.0 where the file does not say."""
    measures = macro(header, "PixelMeasuresSequence", index)
    for keyword in ("PixelSpacing", "ImagerPixelSpacing", "NominalScannedPixelSpacing"):
        spacing_mm = floats(measures.get(keyword), 2)
        if spacing_mm and min(spacing_mm) > 0:
            return spacing_mm[0], spacing_mm[1]
    for region in header.get("SequenceOfUltrasoundRegions") or []:
        delta_cm = floats([region.get("PhysicalDeltaY"), region.get("PhysicalDeltaX")], 2)
        in_cm = region.get("PhysicalUnitsXDirection") == 3  # PS3.3 C.8.5.5.1.15
        if in_cm and delta_cm and min(map(abs, delta_cm)) > 0:
            return abs(delta_cm[0]) * 10, abs(delta_cm[1]) * 10
    return 1.0, 1.0


def _slices(header: Dataset, path: Path) -> list[_Slice]:
    """Return every frame with its plane; nothing unless all frames are cuts at different places."""
    value = header.get("ImageType") or ()
    image_type = (value,) if isinstance(value, str) else tuple(value)
    if header.get("SOPClassUID") not in SLICED or "LOCALIZER" in image_type:
        return []
    sameness = (
        header.SOPClassUID,
        header.Rows,
        header.Columns,
        header.get("PhotometricInterpretation"),
        header.get("FrameOfReferenceUID"),
        image_type[2:],
    )
    count = frame_count(header)
    found: list[_Slice] = []
    for index in [None] if count == 1 else range(count):
        orientation = macro(header, "PlaneOrientationSequence", index)
        cosines = floats(orientation.get("ImageOrientationPatient"), 6)
        plane = macro(header, "PlanePositionSequence", index)
        position_mm = floats(plane.get("ImagePositionPatient"), 3)
        if cosines is None or position_mm is None:
            return []
        frame = Frame(path, str(header.SOPInstanceUID), index)
        geometry = (*cosines, *_pixel_spacing_mm(header, index))
        found.append(_Slice(frame, sameness, geometry, position_mm, _order(header, index)))
    # Many frames at one place are a loop through time, not a stack of copies.
    moving = count == 1 or len({cut.position_mm for cut in found}) > 1
    return found if moving else []


def _order(header: Dataset, index: int | None) -> tuple[object, ...]:
    keywords = ("AcquisitionNumber", "TemporalPositionIdentifier", "InstanceNumber")
    numbers = [(floats(header.get(keyword), 1) or (0.0,))[0] for keyword in keywords]
    return (*numbers, str(header.SOPInstanceUID), index or 0)


def _volumes(slices: Sequence[_Slice]) -> Iterator[Group]:
    """Split slices into stacks of one geometry in which no position occurs twice."""
    ordered = sorted(slices, key=lambda cut: (str(cut.sameness), cut.order))
    for _, alike in groupby(ordered, key=lambda cut: str(cut.sameness)):
        for parallel in _parallel(alike):
            yield from _stacks(parallel)


def _parallel(slices: Iterator[_Slice]) -> list[list[_Slice]]:
    """Put each slice with the first one whose geometry is the same within tolerance."""
    clusters: list[list[_Slice]] = []
    for cut in slices:
        for cluster in clusters:
            apart = np.abs(np.subtract(cluster[0].geometry, cut.geometry)).max()
            if apart < GEOMETRY_TOLERANCE:
                cluster.append(cut)
                break
        else:
            clusters.append([cut])
    return clusters


def _stacks(parallel: Sequence[_Slice]) -> Iterator[Group]:
    """Sort by position along the normal; the n-th slice of a position goes to the n-th stack."""
    geometry = parallel[0].geometry
    normal = np.cross(geometry[:3], geometry[3:6])
    placed = [(float(np.dot(normal, cut.position_mm)), cut) for cut in parallel]
    places: list[list[tuple[float, _Slice]]] = []
    for along_mm, cut in sorted(placed, key=lambda item: item[0]):
        if places and along_mm - places[-1][0][0] < SAME_POSITION_MM:
            places[-1].append((along_mm, cut))
        else:
            places.append([(along_mm, cut)])
    in_turn = (sorted(place, key=lambda item: item[1].order) for place in places)
    for column in zip_longest(*in_turn):
        stack = [item for item in column if item is not None]
        steps_mm = np.diff([along_mm for along_mm, _ in stack])
        frames = tuple(cut.frame for _, cut in stack)
        kind = Kind.VOLUME if len(frames) > 1 else Kind.STILL
        step_mm = float(np.median(steps_mm)) if len(frames) > 1 else 0.0
        yield Group(kind, frames, (step_mm, geometry[6], geometry[7]))
