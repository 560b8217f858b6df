"""From the files of one series to groups of frames that belong in one array.

Owns: which objects are images, what is a still or a cine by itself. Does not own: images that
nobody wants (`selection`); stacks of slices (`slices`, `grouping`); pixel values (`pixels`); which
files make a series (the catalogue). The SOP class and the geometry decide; Modality is never asked.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from pydicom import Dataset, dcmread, uid

from encoder.clip import Kind
from encoder.grouping import Grouping, group_slices
from encoder.headers import READ_ERRORS, frame_count, frame_times, quiet, raise_if_missing
from encoder.selection import PROJECTION, is_projection, why_left_out
from encoder.slices import HEADER_KEYWORDS, Frame, Group, Slice, pixel_spacing_mm, slices_of
from encoder.slide import SLIDE_CLASS, find_fields
from encoder.waveform import ECG_CLASSES

__all__ = ["NOT_IMAGES", "Assembly", "Frame", "Group", "LeftOut", "assemble"]

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
    "a waveform that is no electrocardiogram": (
        uid.HemodynamicWaveformStorage,
        uid.CardiacElectrophysiologyWaveformStorage,
        uid.ArterialPulseWaveformStorage,
        uid.RespiratoryWaveformStorage,
        uid.MultichannelRespiratoryWaveformStorage,
        uid.RoutineScalpElectroencephalogramWaveformStorage,
        uid.SleepElectroencephalogramWaveformStorage,
        uid.ElectromyogramWaveformStorage,
        uid.ElectrooculogramWaveformStorage,
        uid.BodyPositionWaveformStorage,
        uid.BasicVoiceAudioWaveformStorage,
        uid.GeneralAudioWaveformStorage,
    ),
}
NOT_IMAGES: dict[str, str] = {
    sop_class: reason for reason, classes in _NOT_IMAGES_BY_REASON.items() for sop_class in classes
}
REPLACED = "an earlier take of a slice that was acquired again"


@dataclass(frozen=True, slots=True)
class LeftOut:
    """An instance that gives no clip, and why; the UID is empty where it could not be read."""

    sop_instance_uid: str
    reason: str


@dataclass(frozen=True, slots=True)
class Assembly:
    """What a series holds."""

    groups: tuple[Group, ...]
    skipped: tuple[LeftOut, ...]  # no images, or replaced by a newer slice at the same place
    unreadable: tuple[LeftOut, ...]  # damaged


@dataclass(frozen=True, slots=True)
class _Found:
    """Slices, and what is a still or a cine by itself."""

    slices: list[Slice] = field(default_factory=list)
    groups: list[Group] = field(default_factory=list)

    def instances(self) -> list[str]:
        frames = [cut.frame for cut in self.slices]
        frames += [frame for group in self.groups for frame in group.frames]
        return list(dict.fromkeys(frame.sop_instance_uid for frame in frames))


@dataclass(frozen=True, slots=True)
class _Sorted:
    """The files of a series by what they are."""

    wanted: _Found = field(default_factory=_Found)
    projections: _Found = field(default_factory=_Found)
    slides: list[tuple[Path, str]] = field(default_factory=list)
    skipped: list[LeftOut] = field(default_factory=list)
    unreadable: list[LeftOut] = field(default_factory=list)

    def take(self, path: Path) -> None:
        sop_instance_uid = ""
        try:
            header = dcmread(path, stop_before_pixels=True, specific_tags=list(HEADER_KEYWORDS))
            sop_instance_uid = str(header.SOPInstanceUID)
            found = self.projections if is_projection(header) else self.wanted
            if reason := _why_no_image(header) or why_left_out(header):
                self.skipped.append(LeftOut(sop_instance_uid, reason))
            elif header.get("SOPClassUID") == SLIDE_CLASS:
                self.slides.append((path, sop_instance_uid))
            elif cuts := slices_of(header, path):
                found.slices.extend(cuts)
            else:
                found.groups.append(_still_or_cine(header, path))
        except READ_ERRORS as error:
            raise_if_missing(error)
            reason = f"unreadable header ({type(error).__name__})"
            self.unreadable.append(LeftOut(sop_instance_uid, reason))

    def images(self) -> _Found:
        """What is embedded: projections only where the slices they show are not there."""
        if not self.wanted.slices:
            wanted, shown = self.wanted, self.projections
            return _Found(wanted.slices + shown.slices, wanted.groups + shown.groups)
        self.skipped.extend(LeftOut(each, PROJECTION) for each in self.projections.instances())
        return self.wanted


def assemble(paths: Sequence[Path]) -> Assembly:
    """Group the files of one series by what belongs together.

    From the headers alone, save that the smallest level of a slide is decoded to find its tissue.
    The order of `paths` does not matter. Raises OSError where a file cannot be opened.
    """
    files = _Sorted()
    with quiet():
        for path in sorted(paths):
            files.take(path)
        fields = find_fields(files.slides)
    images = files.images()
    grouping = group_slices(images.slices)
    groups = [*images.groups, *grouping.groups, *fields.groups]
    groups.sort(key=lambda group: [(f.sop_instance_uid, f.index or 0) for f in group.frames])
    skipped = (*files.skipped, *_replaced(grouping), *(LeftOut(*each) for each in fields.skipped))
    unreadable = (*files.unreadable, *(LeftOut(*each) for each in fields.unreadable))
    return Assembly(tuple(groups), skipped, unreadable)


def _replaced(grouping: Grouping) -> list[LeftOut]:
    """Name the instances of which no frame is left."""
    used = {frame.sop_instance_uid for group in grouping.groups for frame in group.frames}
    instances = dict.fromkeys(cut.frame.sop_instance_uid for cut in grouping.replaced)
    return [LeftOut(each, REPLACED) for each in instances if each not in used]


def _why_no_image(header: Dataset) -> str | None:
    sop_class = header.get("SOPClassUID", "")
    has_picture = sop_class in ECG_CLASSES or (header.get("Rows") and header.get("Columns"))
    return NOT_IMAGES.get(sop_class) or (None if has_picture else "no pixels")


def _still_or_cine(header: Dataset, path: Path) -> Group:
    frame = Frame(path, str(header.SOPInstanceUID), None)
    in_plane_mm = pixel_spacing_mm(header, None)
    if frame_count(header) == 1:
        return Group(Kind.STILL, (frame,), (0.0, *in_plane_mm))
    times = frame_times(header)
    step_s = 0.0 if times is None else float(np.median(np.diff(times)))
    return Group(Kind.CINE, (frame,), (step_s, *in_plane_mm))
