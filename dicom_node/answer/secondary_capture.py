"""A page of the contact sheet as a Secondary Capture image (PS3.3 A.8.1)."""

from PIL import Image
from pydicom.dataset import Dataset
from pydicom.uid import SecondaryCaptureImageStorage

from dicom_node.answer import codes
from dicom_node.answer.content_item import coded, reference
from dicom_node.answer.evidence import QueryEvidence
from dicom_node.answer.modules import Identity, Kind, document
from dicom_node.answer.tree import Algorithm

SERIES_DESCRIPTION = "Similar cases (AI): contact sheet"
KIND = Kind(
    sop_class_uid=SecondaryCaptureImageStorage,
    modality="OT",
    series_description=SERIES_DESCRIPTION,
)
_DERIVATION = (
    "Key images of this study beside de-identified images of other patients, "
    "resampled to 8 bit and laid out. Not for diagnosis."
)


def secondary_capture(
    page: Image.Image,
    *,
    query: QueryEvidence,
    algorithm: Algorithm,
    device_uid: str,
    identity: Identity,
) -> Dataset:
    """Return an RGB page as an image of the query's study; its sources are the query's images.

    It names the patient in its header, and may do so in its pixels: those of the query's own
    images are shown as they are.
    """
    image = document(KIND, identity, query, algorithm, device_uid)
    image.PatientIdentityRemoved = "NO"
    image.ConversionType = "SYN"
    image.ImageType = ["DERIVED", "SECONDARY"]
    image.BurnedInAnnotation = "YES"
    image.PatientOrientation = ""
    image.ImageLaterality = "U"  # a page of pictures has no side; so Laterality is not asked for
    image.DerivationDescription = _DERIVATION
    image.SourceImageSequence = [_source(*each) for each in _references(query)]
    image.SamplesPerPixel = 3
    image.PhotometricInterpretation = "RGB"
    image.PlanarConfiguration = 0
    image.Columns, image.Rows = page.size
    image.BitsAllocated = image.BitsStored = 8
    image.HighBit = 7
    image.PixelRepresentation = 0
    pixels = page.convert("RGB").tobytes()
    image.add_new("PixelData", "OB", pixels + b"\0" * (len(pixels) % 2))
    return image


def _references(query: QueryEvidence) -> list[tuple[str, str]]:
    return [(image.sop_class_uid, image.sop_instance_uid) for image in query.key_images]


def _source(sop_class_uid: str, sop_instance_uid: str) -> Dataset:
    """Return a source image of the query (PS3.3 C.7.6.1); those of others are not named."""
    item = reference(sop_class_uid, sop_instance_uid)
    item.PurposeOfReferenceCodeSequence = [coded(codes.SOURCE_IMAGE)]
    return item
