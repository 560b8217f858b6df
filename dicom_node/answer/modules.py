"""The modules that every document of the node shares: who, when, by what (PS3.3 C.7, C.12).

Owns the header around a report, a contact sheet and a PDF: identity, patient and study copied from
the query, series, equipment. Does not own what the documents say.
"""

import re
from dataclasses import dataclass
from datetime import datetime
from io import BytesIO

from pydicom import config
from pydicom.datadict import dictionary_VR
from pydicom.dataelem import DataElement
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.tag import Tag
from pydicom.uid import UID, ExplicitVRLittleEndian

from dicom_node.answer import codes
from dicom_node.answer.content_item import coded
from dicom_node.answer.evidence import QueryEvidence, text_of
from dicom_node.answer.tree import Algorithm
from dicom_node.text import UTF_8

# Patient, General Study and Patient Study (PS3.3 C.7.1.1, C.7.2.1, C.7.2.2): type 2 attributes are
# written empty when the query image lacks them, type 3 ones are left out.
_TYPE_2 = ("PatientName", "PatientID", "PatientBirthDate", "PatientSex", "StudyDate", "StudyTime",
           "ReferringPhysicianName", "StudyID", "AccessionNumber")  # fmt: skip
_TYPE_3 = ("IssuerOfPatientID", "StudyDescription", "PatientAge")
_SEXES = frozenset({"M", "F", "O"})

_LO_CHARACTERS = 64
_OFFSET = re.compile(r"[+-](0\d|1[0-4])[0-5]\d")  # PS3.3 C.12.1.1.8: -1200 to +1400


@dataclass(frozen=True, slots=True, kw_only=True)
class Identity:
    """What tells one document from all others; `now` must know its time zone (else ValueError)."""

    sop_instance_uid: str
    series_instance_uid: str
    series_number: int
    instance_number: int
    now: datetime

    def __post_init__(self) -> None:
        if self.now.utcoffset() is None:
            raise ValueError("the time of a document needs a time zone")


@dataclass(frozen=True, slots=True, kw_only=True)
class Kind:
    """What a document is: SOP class, modality, and the name of its series."""

    sop_class_uid: str
    modality: str
    series_description: str


def document(
    kind: Kind, identity: Identity, query: QueryEvidence, algorithm: Algorithm, device_uid: str
) -> Dataset:
    """Return a document without content, ready for `save_as(enforce_file_format=True)`."""
    dataset = Dataset()
    dataset.file_meta = _file_meta(kind, identity)
    dataset.update(_sop_common(kind, identity, query))
    dataset.update(_patient_and_study(query))
    dataset.update(_series(kind, identity))
    dataset.update(_equipment(algorithm, device_uid))
    dataset.InstanceNumber = identity.instance_number
    now = local(identity.now, query)
    dataset.ContentDate = f"{now:%Y%m%d}"
    dataset.ContentTime = f"{now:%H%M%S}"
    return dataset


def encode(document: Dataset) -> bytes:
    """Return the DICOM file of `document`."""
    buffer = BytesIO()
    document.save_as(buffer, enforce_file_format=True)
    return buffer.getvalue()


def _file_meta(kind: Kind, identity: Identity) -> FileMetaDataset:
    """Return what PS3.10 Table 7.1-1 asks for; pydicom adds the implementation when it writes."""
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = UID(kind.sop_class_uid)
    meta.MediaStorageSOPInstanceUID = UID(identity.sop_instance_uid)
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    return meta


def _sop_common(kind: Kind, identity: Identity, query: QueryEvidence) -> Dataset:
    """Return the SOP Common module (PS3.3 C.12.1); copied texts are re-encoded as UTF-8."""
    module = Dataset()
    module.SpecificCharacterSet = UTF_8
    module.SOPClassUID = kind.sop_class_uid
    module.SOPInstanceUID = identity.sop_instance_uid
    now = local(identity.now, query)
    module.InstanceCreationDate = f"{now:%Y%m%d}"
    module.InstanceCreationTime = f"{now:%H%M%S}"
    module.TimezoneOffsetFromUTC = f"{now:%z}"[:5]
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
            copy_text(module, keyword, value)
    return module


def _series(kind: Kind, identity: Identity) -> Dataset:
    """Return what all series modules ask for (PS3.3 C.7.3.1, C.17.1, C.24.1)."""
    module = Dataset()
    module.Modality = kind.modality
    module.SeriesInstanceUID = identity.series_instance_uid
    module.SeriesNumber = identity.series_number
    module.SeriesDescription = kind.series_description
    return module


def _equipment(algorithm: Algorithm, device_uid: str) -> Dataset:
    """Return Enhanced General Equipment (PS3.3 C.7.5.2)."""
    module = Dataset()
    module.Manufacturer = algorithm.manufacturer[:_LO_CHARACTERS]
    module.ManufacturerModelName = algorithm.name[:_LO_CHARACTERS]
    module.DeviceSerialNumber = device_uid
    module.SoftwareVersions = algorithm.version[:_LO_CHARACTERS]
    return module


def _scanner(image: Dataset) -> Dataset | None:
    """Return the acquisition equipment (PS3.3 C.12.1); none without a manufacturer, type 1."""
    manufacturer = text_of(image, "Manufacturer")
    if not manufacturer:
        return None
    scanner = Dataset()
    scanner.PurposeOfReferenceCodeSequence = [coded(codes.ACQUISITION_EQUIPMENT)]
    copy_text(scanner, "Manufacturer", manufacturer)
    copy_text(scanner, "ManufacturerModelName", text_of(image, "ManufacturerModelName"))
    return scanner


def copy_text(item: Dataset, keyword: str, value: str) -> None:
    """Add a text of the query, unvalidated: too long an identifier is still the archive's."""
    vr = dictionary_VR(keyword)
    item.add(DataElement(Tag(keyword), vr, value, validation_mode=config.IGNORE))


def local(now: datetime, query: QueryEvidence) -> datetime:
    """Return `now` in the time zone of the study, whose date and time the header repeats."""
    offset = text_of(query.images[0], "TimezoneOffsetFromUTC")
    if not _OFFSET.fullmatch(offset):
        return now
    return now.astimezone(datetime.strptime(offset, "%z").tzinfo)
