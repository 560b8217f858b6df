"""The contact sheet as an encapsulated PDF (PS3.3 A.45.1), for archives that show documents."""

from collections.abc import Sequence
from io import BytesIO

from PIL import Image
from pydicom.dataset import Dataset
from pydicom.uid import EncapsulatedPDFStorage

from dicom_node.answer import codes
from dicom_node.answer.content_item import coded, reference
from dicom_node.answer.evidence import QueryEvidence
from dicom_node.answer.modules import Identity, Kind, document, local
from dicom_node.answer.tree import Algorithm

SERIES_DESCRIPTION = "Similar cases (AI): PDF"
KIND = Kind(
    sop_class_uid=EncapsulatedPDFStorage, modality="DOC", series_description=SERIES_DESCRIPTION
)
_TITLE = "Similar cases"
_PIXELS_PER_INCH = 128.0  # 1024 pixels on 8 inches
_JPEG_QUALITY = 90


def encapsulated_pdf(
    pages: Sequence[Image.Image],
    *,
    query: QueryEvidence,
    algorithm: Algorithm,
    device_uid: str,
    identity: Identity,
) -> Dataset:
    """Return one PDF of all pages (at least one) as a document of the query's study."""
    wrapped = document(KIND, identity, query, algorithm, device_uid)
    now = local(identity.now, query)
    buffer = BytesIO()
    pages[0].save(
        buffer,
        "PDF",
        save_all=True,
        append_images=pages[1:],
        resolution=_PIXELS_PER_INCH,
        quality=_JPEG_QUALITY,
        title=_TITLE,
        creationDate=now.utctimetuple(),
        modDate=now.utctimetuple(),
    )
    content = buffer.getvalue()
    wrapped.PatientIdentityRemoved = "NO"
    wrapped.ConversionType = "SYN"
    wrapped.AcquisitionDateTime = ""
    wrapped.BurnedInAnnotation = "YES"
    wrapped.SourceInstanceSequence = [
        reference(image.sop_class_uid, image.sop_instance_uid) for image in query.key_images
    ]
    wrapped.DocumentTitle = _TITLE
    wrapped.ConceptNameCodeSequence = [coded(codes.IMAGING_MEASUREMENT_REPORT)]
    wrapped.MIMETypeOfEncapsulatedDocument = "application/pdf"
    wrapped.EncapsulatedDocumentLength = len(content)
    wrapped.EncapsulatedDocument = content + b"\0" * (len(content) % 2)
    return wrapped
