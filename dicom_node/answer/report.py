"""The Structured Report that answers a query: the document around the content tree.

Owns what makes the document a report: its title, class, evidence and predecessor. Clock, UIDs and
the secret of the pseudonyms are arguments: the same arguments give the same bytes. Opaque unless
asked otherwise: no identifier of a neighbour is written, only pseudonyms.
"""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from types import MappingProxyType

from pydicom.dataset import Dataset

from dicom_node.answer import codes
from dicom_node.answer.content_item import reference
from dicom_node.answer.evidence import QueryEvidence, first_item_of, text_of
from dicom_node.answer.modules import Identity, Kind, copy_text, document
from dicom_node.answer.sr_class import SopClass
from dicom_node.answer.tree import Algorithm, Naming, Observer, measurement_report
from dicom_node.config import Title
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
KIND = Kind(
    sop_class_uid=SopClass.COMPREHENSIVE_3D, modality="SR", series_description=SERIES_DESCRIPTION
)
_NOBODY: Mapping[str, str] = MappingProxyType({})

TITLES = {
    Title.IMAGING_MEASUREMENT_REPORT: codes.IMAGING_MEASUREMENT_REPORT,
    Title.SIMILAR_CASES_REPORT: codes.SIMILAR_CASES_REPORT,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class ReportOptions:
    """How reports look; `device_uid` stays the same over the life of an installation."""

    ae_title: str
    device_uid: str
    title: Title = Title.IMAGING_MEASUREMENT_REPORT
    sop_class: SopClass = SopClass.COMPREHENSIVE_3D


@dataclass(frozen=True, slots=True, kw_only=True)
class ReportIdentity(Identity):
    """The identity of a report, and the secret that its pseudonyms are made with.

    `predecessor`: SOP class and instance UID of the report that this one supersedes, which is of
    the same series.
    """

    secret: bytes
    predecessor: tuple[str, str] | None = None


def build_report(
    *,
    query: QueryEvidence,
    ranking: Ranking,
    algorithm: Algorithm,
    options: ReportOptions,
    identity: ReportIdentity,
    linked: Mapping[str, str] = _NOBODY,
) -> Dataset:
    """Return the report with its file meta, ready for `save_as(enforce_file_format=True)`.

    `linked` gives SOP classes by SOP Instance UID: the cases whose image is in it are named by
    their real UIDs, all others by pseudonyms. Raises ValueError when `identity.secret` could be
    guessed.
    """
    kind = replace(KIND, sop_class_uid=options.sop_class.value)
    report = document(kind, identity, query, algorithm, options.device_uid)
    report.ReferencedPerformedProcedureStepSequence = []
    report.CodingSchemeIdentificationSequence = [codes.coding_scheme_identification()]
    report.update(_document_general(query, identity))
    if others := _other_evidence(ranking, linked):
        report.PertinentOtherEvidenceSequence = others
    report.update(
        measurement_report(
            title=TITLES[options.title],
            query=query,
            ranking=ranking,
            algorithm=algorithm,
            observer=Observer(ae_title=options.ae_title, device_uid=options.device_uid),
            naming=Naming(identity.secret, linked),
        )
    )
    return report


def _document_general(query: QueryEvidence, identity: ReportIdentity) -> Dataset:
    """Return SR Document General (PS3.3 C.17.2): a complete, unverified, preliminary report."""
    module = Dataset()
    module.CompletionFlag = "COMPLETE"
    module.VerificationFlag = "UNVERIFIED"
    module.PreliminaryFlag = "PRELIMINARY"
    module.PerformedProcedureCodeSequence = []
    module.CurrentRequestedProcedureEvidenceSequence = [_evidence(query)]
    if request := _referenced_request(query):
        module.ReferencedRequestSequence = [request]
    if identity.predecessor:
        superseded = {identity.series_instance_uid: [reference(*identity.predecessor)]}
        module.PredecessorDocumentsSequence = [
            _study_references(query.study_instance_uid, superseded)
        ]
    return module


def _evidence(query: QueryEvidence) -> Dataset:
    """Return every image of the query that the content refers to, by series (PS3.3 C.17.2.3)."""
    by_series: dict[str, list[Dataset]] = defaultdict(list)
    for image in query.key_images:
        by_series[image.series_instance_uid].append(
            reference(image.sop_class_uid, image.sop_instance_uid)
        )
    return _study_references(query.study_instance_uid, by_series)


def _other_evidence(ranking: Ranking, linked: Mapping[str, str]) -> list[Dataset]:
    """Return the image of every linked case: evidence of other requested procedures."""
    return [
        _study_references(
            case.study_instance_uid,
            {
                case.series_instance_uid: [
                    reference(linked[case.sop_instance_uid], case.sop_instance_uid)
                ]
            },
        )
        for case in ranking.cases
        if case.sop_instance_uid in linked
    ]


def _study_references(
    study_instance_uid: str, by_series: Mapping[str, Sequence[Dataset]]
) -> Dataset:
    """Return a Hierarchical SOP Instance Reference of one study (PS3.3 Table C.17-3)."""
    study = Dataset()
    study.StudyInstanceUID = study_instance_uid
    study.ReferencedSeriesSequence = []
    for series_instance_uid, references in by_series.items():
        series = Dataset()
        series.SeriesInstanceUID = series_instance_uid
        series.ReferencedSOPSequence = list(references)
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
    copy_text(request, "AccessionNumber", accession_number)
    request.PlacerOrderNumberImagingServiceRequest = ""
    request.FillerOrderNumberImagingServiceRequest = ""
    copy_text(request, "RequestedProcedureID", procedure_id)
    description = text_of(attributes, "RequestedProcedureDescription", image)
    copy_text(request, "RequestedProcedureDescription", description)
    request.RequestedProcedureCodeSequence = []
    return request
