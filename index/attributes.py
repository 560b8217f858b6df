"""The DICOM attributes that the catalogue keeps: one table.

Database columns, `records.Header`, the C-FIND matcher and the conformance statement derive from
it. Does not read DICOM. The column of StudyID (0020,0010) is `study_id`, a text; do not take it
for the key of a study row, which is `id`.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

UID_LENGTH = 64  # PS3.5 section 9.1
TEXT_LENGTH = (
    255  # real files exceed the limits of their VR (PS3.5 section 6.2); keep what they say
)


class Level(StrEnum):
    """Query/Retrieve level of an attribute (PS3.4 C.6); PATIENT ones are kept with the study."""

    PATIENT = "PATIENT"
    STUDY = "STUDY"
    SERIES = "SERIES"
    IMAGE = "IMAGE"


@dataclass(frozen=True, slots=True)
class Attribute:
    """One attribute: its PS3.6 keyword, level, value representation and database column."""

    keyword: str
    level: Level
    vr: str
    column: str

    @property
    def length(self) -> int:
        """Return how many characters the column holds."""
        return UID_LENGTH if self.vr == "UI" else TEXT_LENGTH

    def clean(self, value: str) -> str:
        """Return `value` as any database can hold it.

        PostgreSQL refuses NUL, no database takes a lone surrogate (what a wrong character set
        leaves behind), and neither may grow without limit.
        """
        storable = value.replace("\0", "").encode("utf-8", "replace").decode("utf-8")
        return storable.strip()[: self.length]


ATTRIBUTES: tuple[Attribute, ...] = (
    Attribute("PatientID", Level.PATIENT, "LO", "patient_id"),
    Attribute("IssuerOfPatientID", Level.PATIENT, "LO", "issuer_of_patient_id"),
    Attribute("PatientName", Level.PATIENT, "PN", "patient_name"),
    Attribute("PatientBirthDate", Level.PATIENT, "DA", "patient_birth_date"),
    Attribute("PatientSex", Level.PATIENT, "CS", "patient_sex"),
    Attribute("StudyInstanceUID", Level.STUDY, "UI", "study_instance_uid"),
    Attribute("StudyDate", Level.STUDY, "DA", "study_date"),
    Attribute("StudyTime", Level.STUDY, "TM", "study_time"),
    Attribute("AccessionNumber", Level.STUDY, "SH", "accession_number"),
    Attribute("StudyID", Level.STUDY, "SH", "study_id"),
    Attribute("StudyDescription", Level.STUDY, "LO", "study_description"),
    Attribute("ReferringPhysicianName", Level.STUDY, "PN", "referring_physician_name"),
    Attribute("PatientAge", Level.STUDY, "AS", "patient_age"),
    Attribute("InstitutionName", Level.STUDY, "LO", "institution_name"),
    Attribute("SeriesInstanceUID", Level.SERIES, "UI", "series_instance_uid"),
    Attribute("Modality", Level.SERIES, "CS", "modality"),
    Attribute("BodyPartExamined", Level.SERIES, "CS", "body_part_examined"),
    Attribute("SeriesNumber", Level.SERIES, "IS", "series_number"),
    Attribute("SeriesDescription", Level.SERIES, "LO", "series_description"),
    Attribute("ProtocolName", Level.SERIES, "LO", "protocol_name"),
    Attribute("Manufacturer", Level.SERIES, "LO", "manufacturer"),
    Attribute("SOPInstanceUID", Level.IMAGE, "UI", "sop_instance_uid"),
    Attribute("SOPClassUID", Level.IMAGE, "UI", "sop_class_uid"),
    Attribute("InstanceNumber", Level.IMAGE, "IS", "instance_number"),
)

STUDY_ATTRIBUTES = tuple(a for a in ATTRIBUTES if a.level in (Level.PATIENT, Level.STUDY))
SERIES_ATTRIBUTES = tuple(a for a in ATTRIBUTES if a.level is Level.SERIES)
IMAGE_ATTRIBUTES = tuple(a for a in ATTRIBUTES if a.level is Level.IMAGE)
