"""One of each document that the node creates, made by the product itself, of an example CT.

The annexes tell from them which attributes and content items a document has; values are not told.
"""

from datetime import UTC, datetime
from functools import cache

from PIL import Image
from pydicom.dataset import Dataset
from pydicom.uid import CTImageStorage

from dicom_node import PRODUCT
from dicom_node.answer.pdf import encapsulated_pdf
from dicom_node.answer.report import (
    Algorithm,
    QueryEvidence,
    ReportIdentity,
    ReportOptions,
    SopClass,
    build_report,
)
from dicom_node.answer.secondary_capture import secondary_capture
from index.records import Case, Ranking

_UID = "1.2.3"
_ALGORITHM = Algorithm(name=PRODUCT, version="1", manufacturer=PRODUCT, trained=True)
_IMAGE = {
    "SOPClassUID": CTImageStorage, "SOPInstanceUID": _UID, "SeriesInstanceUID": _UID,
    "StudyInstanceUID": _UID, "FrameOfReferenceUID": _UID, "Modality": "CT", "Rows": 1,
    "Columns": 1, "Manufacturer": "M", "IssuerOfPatientID": "I", "StudyDescription": "S",
    "PatientAge": "060Y",
}  # fmt: skip
_CASE = Case(
    rank=1,
    score=0.5,
    study_instance_uid=f"{_UID}.4",
    series_instance_uid=f"{_UID}.5",
    sop_instance_uid=f"{_UID}.6",
    query_clip=0,
    kind="volume",
    modality="CT",
    body_part="",
    study_date="20240131",
    study_description="",
    patient_id="P",
    issuer_of_patient_id="",
    patient_sex="",
    patient_age="060Y",
)
_IDENTITY = ReportIdentity(
    sop_instance_uid=f"{_UID}.7",
    series_instance_uid=f"{_UID}.8",
    series_number=1,
    instance_number=1,
    now=datetime(2024, 1, 31, tzinfo=UTC),
    secret=bytes(32),
    predecessor=(SopClass.COMPREHENSIVE_3D, f"{_UID}.9"),
)


@cache
def report() -> Dataset:
    """Return a report with all that any can have: linked, and after an earlier one."""
    return build_report(
        query=_query(),
        ranking=Ranking(cases=(_CASE,), complete=True, exact=True, model_id="m", searched=1),
        algorithm=_ALGORITHM,
        options=ReportOptions(ae_title=PRODUCT.upper(), device_uid=_UID),
        identity=_IDENTITY,
        linked={_CASE.sop_instance_uid: CTImageStorage},
    )


def documents() -> tuple[Dataset, Dataset, Dataset]:
    """Return a report, a page of a contact sheet, and a PDF."""
    page = Image.new("RGB", (1, 1))
    query = _query()
    sheet = secondary_capture(
        page, query=query, algorithm=_ALGORITHM, device_uid=_UID, identity=_IDENTITY
    )
    pdf = encapsulated_pdf(
        [page], query=query, algorithm=_ALGORITHM, device_uid=_UID, identity=_IDENTITY
    )
    return report(), sheet, pdf


def _query() -> QueryEvidence:
    image = Dataset()
    for keyword, value in _IMAGE.items():
        setattr(image, keyword, value)
    return QueryEvidence(images=(image,), query_clip_image=(_UID,))
