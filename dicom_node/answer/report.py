"""The Structured Report that answers a query: the document around the content tree.

Owns the header (patient, study, series, equipment, evidence). Clock, UIDs and the secret of the
pseudonyms are arguments: the same arguments give the same bytes. Opaque by design: no identifier
of a neighbour is written, only pseudonyms.
"""

import re
from collections import defaultdict
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from pydicom import config
from pydicom.datadict import dictionary_VR
from pydicom.dataelem import DataElement
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.tag import Tag
from pydicom.uid import UID, ExplicitVRLittleEndian

from dicom_node.answer import codes
from dicom_node.answer.content_item import coded, reference
from dicom_node.answer.evidence import QueryEvidence, first_item_of, text_of
from dicom_node.answer.tree import Algorithm, Observer, measurement_report
from index.records import Ranking

__all__ = [
    "Algorithm",
    "QueryEvidence",
    "ReportIdentity",
    "ReportOptions",
    "SopClass",
    "Title",
    "build_report",
]

SERIES_DESCRIPTION = "Similar cases (AI)"

# Patient, General Study and Patient Study (PS3.3 C.7.1.1, C.7.2.1, C.7.2.2): type 2 attributes are
# written empty when the query image lacks them, type 3 ones are left out.
_TYPE_2 = ("PatientName", "PatientID", "PatientBirthDate", "PatientSex", "StudyDate", "StudyTime",
           "ReferringPhysicianName", "StudyID", "AccessionNumber")  # fmt: skip
_TYPE_3 = ("IssuerOfPatientID", "StudyDescription", "PatientAge")
_SEXES = frozenset({"M", "F", "O"})

_LO_CHARACTERS = 64
_OFFSET = re.compile(r"[+-](0\d|1[0-4])[0-5]\d")  # PS3.3 C.12.1.1.8: -1200 to +1400


class SopClass(StrEnum):
    """The kinds of Structured Report that can hold the tree; the first is the default."""

    COMPREHENSIVE_3D = "1.2.840.10008.5.1.4.1.1.88.34"
    COMPREHENSIVE = "1.2.840.10008.5.1.4.1.1.88.33"
    ENHANCED = "1.2.840.10008.5.1.4.1.1.88.22"


class Title(StrEnum):
    """The document title: known to every viewer, or one that OHIF prints as text."""

    IMAGING_MEASUREMENT_REPORT = "126000"
    SIMILAR_CASES_REPORT = "SIM000"


_TITLES = {
    Title.IMAGING_MEASUREMENT_REPORT: codes.IMAGING_MEASUREMENT_REPORT,
    Title.SIMILAR_CASES_REPORT: codes.SIMILAR_CASES_REPORT,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class ReportOptions:
    """How reports of this installation look; `device_uid` stays the same over its life."""

    ae_title: str
    device_uid: str
    title: Title = Title.IMAGING_MEASUREMENT_REPORT
    sop_class: SopClass = SopClass.COMPREHENSIVE_3D


@dataclass(frozen=True, slots=True, kw_only=True)
class ReportIdentity:
    """What tells one report from all others; `now` must know its time zone (else ValueError).

    `predecessor`: SOP Instance UIDs of the reports that this one supersedes; they are of the same
    series and SOP class.
    """

    sop_instance_uid: str
    series_instance_uid: str
    series_number: int
    instance_number: int
    now: datetime
    secret: bytes
    predecessor: tuple[str, ...] | None = None

    def __post_init__(self) -> None:
        if self.now.utcoffset() is None:
            raise ValueError("the time of a report needs a time zone")


def build_report(
    *,
    query: QueryEvidence,
    ranking: Ranking,
    algorithm: Algorithm,
    options: ReportOptions,
    identity: ReportIdentity,
) -> Dataset:
    """Return the report with its file meta, ready for `save_as(enforce_file_format=True)`.

    Raises ValueError when `identity.secret` could be guessed.
    """
    document = Dataset()
    document.file_meta = _file_meta(options, identity)
    document.update(_sop_common(query, options, identity))
    document.update(_patient_and_study(query))
    document.update(_series_and_equipment(algorithm, options, identity))
    document.update(_document_general(query, options, identity))
    document.update(
        measurement_report(
            title=_TITLES[options.title],
            query=query,
            ranking=ranking,
            algorithm=algorithm,
            observer=Observer(ae_title=options.ae_title, device_uid=options.device_uid),
            secret=identity.secret,
        )
    )
    return document


def _file_meta(options: ReportOptions, identity: ReportIdentity) -> FileMetaDataset:
    """Return what PS3.10 Table 7.1-1 asks for; pydicom adds the implementation when it writes."""
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = UID(options.sop_class)
    meta.MediaStorageSOPInstanceUID = UID(identity.sop_instance_uid)
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    return meta


def _sop_common(query: QueryEvidence, options: ReportOptions, identity: ReportIdentity) -> Dataset:
    """Return the SOP Common module (PS3.3 C.12.1); copied texts are re-encoded as UTF-8."""
    module = Dataset()
    module.SpecificCharacterSet = "ISO_IR 192"
    module.SOPClassUID = options.sop_class.value
    module.SOPInstanceUID = identity.sop_instance_uid
    now = _local(identity.now, query)
    module.InstanceCreationDate = f"{now:%Y%m%d}"
    module.InstanceCreationTime = f"{now:%H%M%S}"
    module.TimezoneOffsetFromUTC = f"{now:%z}"[:5]
    module.CodingSchemeIdentificationSequence = [codes.coding_scheme_identification()]
    if scanner := _scanner(query.images[0]):
        module.ContributingEquipmentSequence = [scanner]
    return module


def _patient_and_study(query: QueryEvidence) -> Dataset:
    """Return patient and study as the first query image has them."""
    module = Dataset()
    module.StudyInstanceUID = query.study_instance_uid
    values = {keyword: text_of(query.images[0], keyword) for keyword in (*_TYPE_2, *_TYPE_3)}
    if values["PatientSex"] not in _SEXES:
        values["PatientSex"] = ""
    for keyword, value in values.items():
        if value or keyword in _TYPE_2:
            _copy(module, keyword, value)
    return module


def _series_and_equipment(
    algorithm: Algorithm, options: ReportOptions, identity: ReportIdentity
) -> Dataset:
    """Return SR Document Series and Enhanced General Equipment (PS3.3 C.17.1, C.7.5.2)."""
    module = Dataset()
    module.Modality = "SR"
    module.SeriesInstanceUID = identity.series_instance_uid
    module.SeriesNumber = identity.series_number
    module.SeriesDescription = SERIES_DESCRIPTION
    module.ReferencedPerformedProcedureStepSequence = []
    module.Manufacturer = algorithm.manufacturer[:_LO_CHARACTERS]
    module.ManufacturerModelName = algorithm.name[:_LO_CHARACTERS]
    module.DeviceSerialNumber = options.device_uid
    module.SoftwareVersions = algorithm.version[:_LO_CHARACTERS]
    return module


def _document_general(
    query: QueryEvidence, options: ReportOptions, identity: ReportIdentity
) -> Dataset:
    """Return SR Document General (PS3.3 C.17.2): a complete, unverified, preliminary report."""
    module = Dataset()
    now = _local(identity.now, query)
    module.InstanceNumber = identity.instance_number
    module.ContentDate = f"{now:%Y%m%d}"
    module.ContentTime = f"{now:%H%M%S}"
    module.CompletionFlag = "COMPLETE"
    module.VerificationFlag = "UNVERIFIED"
    module.PreliminaryFlag = "PRELIMINARY"
    module.PerformedProcedureCodeSequence = []
    module.CurrentRequestedProcedureEvidenceSequence = [_evidence(query)]
    if request := _referenced_request(query):
        module.ReferencedRequestSequence = [request]
    if identity.predecessor:
        superseded = [reference(options.sop_class.value, uid) for uid in identity.predecessor]
        module.PredecessorDocumentsSequence = [
            _study_references(query, {identity.series_instance_uid: superseded})
        ]
    return module


def _evidence(query: QueryEvidence) -> Dataset:
    """Return every image that the content refers to, by series (PS3.3 C.17.2.3)."""
    by_series: dict[str, list[Dataset]] = defaultdict(list)
    for image in query.key_images:
        by_series[image.series_instance_uid].append(
            reference(image.sop_class_uid, image.sop_instance_uid)
        )
    return _study_references(query, by_series)


def _study_references(query: QueryEvidence, by_series: dict[str, list[Dataset]]) -> Dataset:
    """Return a Hierarchical SOP Instance Reference within the study (PS3.3 Table C.17-3)."""
    study = Dataset()
    study.StudyInstanceUID = query.study_instance_uid
    study.ReferencedSeriesSequence = []
    for series_instance_uid, references in by_series.items():
        series = Dataset()
        series.SeriesInstanceUID = series_instance_uid
        series.ReferencedSOPSequence = references
        study.ReferencedSeriesSequence.append(series)
    return study


def _referenced_request(query: QueryEvidence) -> Dataset | None:
    """Return the order behind the query images (PS3.3 C.17.2), if they name one."""
    image = query.images[0]
    attributes = first_item_of(image, "RequestAttributesSequence")
    accession_number = text_of(image, "AccessionNumber")
    procedure_id = text_of(attributes, "RequestedProcedureID", image)
    if not (accession_number or procedure_id):
        return None
    request = Dataset()
    request.StudyInstanceUID = query.study_instance_uid
    request.ReferencedStudySequence = []
    _copy(request, "AccessionNumber", accession_number)
    request.PlacerOrderNumberImagingServiceRequest = ""
    request.FillerOrderNumberImagingServiceRequest = ""
    _copy(request, "RequestedProcedureID", procedure_id)
    description = text_of(attributes, "RequestedProcedureDescription", image)
    _copy(request, "RequestedProcedureDescription", description)
    request.RequestedProcedureCodeSequence = []
    return request


def _scanner(image: Dataset) -> Dataset | None:
    """Return the acquisition equipment (PS3.3 C.12.1); none without a manufacturer, type 1."""
    manufacturer = text_of(image, "Manufacturer")
    if not manufacturer:
        return None
    scanner = Dataset()
    scanner.PurposeOfReferenceCodeSequence = [coded(codes.ACQUISITION_EQUIPMENT)]
    _copy(scanner, "Manufacturer", manufacturer)
    _copy(scanner, "ManufacturerModelName", text_of(image, "ManufacturerModelName"))
    return scanner


def _copy(item: Dataset, keyword: str, value: str) -> None:
    """Add a text of the query, unvalidated: too long an identifier is still the archive's."""
    vr = dictionary_VR(keyword)
    item.add(DataElement(Tag(keyword), vr, value, validation_mode=config.IGNORE))


def _local(now: datetime, query: QueryEvidence) -> datetime:
    """Return `now` in the time zone of the study, whose date and time the header repeats."""
    offset = text_of(query.images[0], "TimezoneOffsetFromUTC")
    if not _OFFSET.fullmatch(offset):
        return now
    return now.astimezone(datetime.strptime(offset, "%z").tzinfo)
