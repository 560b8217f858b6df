"""The values that cross the border of the `index` house.

Plain frozen dataclasses; no rows, no SQL. Dates stay DICOM strings (DA, "20240131"), moments are
UTC datetimes, vectors are float32. Values that hold arrays compare by identity.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

import numpy as np
from numpy.typing import NDArray

from index.parts import ClipParts, PartPlace
from index.states import State
from index.vectors import Effort

# --- what comes in -------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class Header:
    """What the catalogue keeps of an instance's data set: one field per `ATTRIBUTES` column.

    Values are as read; `Attribute.clean` makes them storable when they are recorded. The caller
    has checked that the UIDs are UIDs.
    """

    study_instance_uid: str
    series_instance_uid: str
    sop_instance_uid: str
    sop_class_uid: str
    transfer_syntax_uid: str
    patient_id: str = ""
    issuer_of_patient_id: str = ""
    patient_name: str = ""
    patient_birth_date: str = ""
    patient_sex: str = ""
    study_date: str = ""
    study_time: str = ""
    accession_number: str = ""
    study_id: str = ""
    study_description: str = ""
    referring_physician_name: str = ""
    patient_age: str = ""
    institution_name: str = ""
    modality: str = ""
    body_part_examined: str = ""
    series_number: str = ""
    series_description: str = ""
    protocol_name: str = ""
    manufacturer: str = ""
    instance_number: str = ""


@dataclass(frozen=True, slots=True)
class StoredFile:
    """A file already on disk; `sha256` is the hex digest of the data set's bytes."""

    relative_path: str
    sha256: str
    size_bytes: int


@dataclass(frozen=True, slots=True)
class QuietRule:
    """How long silence must last before a series or a study counts as complete, in seconds.

    `cap_s` bounds the wait from the first instance of a burst, so that a trickle cannot starve.
    A study whose wait is None is indexed with its series as any other, but not reported.
    """

    series_s: float
    study_s: float | None
    cap_s: float


class Receipt(StrEnum):
    """What the catalogue made of an instance."""

    NEW = "new"
    DUPLICATE = "duplicate"
    REPLACED = "replaced"


@dataclass(frozen=True, slots=True)
class Recorded:
    """The answer to `record`; the catalogue points to `kept_path`, not always the file given.

    `rekeyed`: the study went to another patient; `rejected`: instances taken out by a rejection;
    `foreign`: those that it named, but that are of another study or patient. `stays_out`: the
    instance itself was rejected before, and is kept but not found.
    """

    receipt: Receipt
    series_id: int
    study_id: int
    kept_path: str
    rekeyed: bool = False
    rejected: int = 0
    foreign: int = 0
    stays_out: bool = False


# --- what the embedding steps exchange -----------------------------------------------------


@dataclass(frozen=True, slots=True)
class InstanceFile:
    """The current version of an instance."""

    sop_instance_uid: str
    sop_class_uid: str
    transfer_syntax_uid: str
    relative_path: str


@dataclass(frozen=True, slots=True)
class SeriesFiles:
    """A series as it stands at `revision`, current versions only, in order of SOP Instance UID."""

    series_id: int
    study_id: int
    study_instance_uid: str
    series_instance_uid: str
    modality: str
    revision: int
    files: tuple[InstanceFile, ...]


@dataclass(frozen=True, slots=True)
class EmbeddedClip:
    """A clip of a series by its place there, with what is known of it but not its vector."""

    series_id: int
    position: int
    kind: str
    series_instance_uid: str
    modality: str
    body_part: str
    patient_id: str


@dataclass(frozen=True, slots=True, eq=False)
class ClipRecord:
    """One embedded clip: kind, length, SOP Instance UIDs in order, unit vector (D,).

    `decoder` names what decoded its pixels, for the day a codec turns out to be wrong.
    """

    kind: str
    frames: int
    sources: tuple[str, ...]
    vector: NDArray[np.float32]
    decoder: str = ""
    parts: ClipParts | None = None


# --- what the search exchanges -------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class PatientKey:
    """Who a patient is: an identifier and who issued it."""

    patient_id: str
    issuer_of_patient_id: str = ""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Query:
    """A search by M unit vectors (M, D); a filter that is None lets everything pass.

    Dates are DA strings, both ends included; a study without a date fails a date filter. Ages are
    whole years, both ends included; a study whose age is not known fails. The institution must be
    equal but for capitals; all words of `description` must occur, whatever the capitals, in the
    description of the study or in that of the series. With `parts` for each vector cases tell their
    best part, which makes `part_weight` (0..1) of a score. Studies whose best clips are as near to
    each other as `near_duplicate` (cosine) are one case. Of `studies`, by their UIDs, all are
    compared, and no others.
    """

    vectors: NDArray[np.float32]
    parts: tuple[ClipParts | None, ...] = ()
    part_weight: float = 0.0
    k: int = 10
    modality: str | None = None
    body_part: str | None = None
    patient_sex: str | None = None
    date_from: str | None = None
    date_to: str | None = None
    age_from_years: int | None = None
    age_to_years: int | None = None
    institution: str | None = None
    description: str | None = None
    effort: Effort = Effort.NORMAL
    exclude_patient: PatientKey | None = None
    exclude_study_uid: str | None = None
    min_score: float | None = None
    near_duplicate: float | None = None
    studies: frozenset[str] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """An earlier study, how near it is and why: its clip that matches row `query_clip` best.

    `rank` counts from 1, `score` is the cosine, mixed with the likeness of parts where both have
    some: `query_part` and `case_part` are most alike. `sop_instance_uid` is that of `case_part`,
    else the clip's middle source. `near_duplicates` are the Study Instance UIDs, nearest first, of
    studies that show the same.
    """

    rank: int
    score: float
    study_instance_uid: str
    series_instance_uid: str
    sop_instance_uid: str
    query_clip: int
    kind: str
    modality: str
    body_part: str
    study_date: str
    study_description: str
    patient_id: str
    issuer_of_patient_id: str
    patient_sex: str
    patient_age: str
    query_part: PartPlace | None = None
    case_part: PartPlace | None = None
    near_duplicates: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Ranking:
    """Cases by falling score, one per study or group of near-duplicates.

    `complete`: no case is missing for want of an indexed vector; `exact`: every allowed vector
    was compared, not only the graph's candidates; `searched`: vectors in the index.
    """

    cases: tuple[Case, ...]
    complete: bool
    exact: bool
    model_id: str
    searched: int


@dataclass(frozen=True, slots=True)
class VectorSource:
    """Where a vector came from: its series, its kind and its SOP Instance UIDs."""

    series_instance_uid: str
    kind: str
    sources: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class StudyVectors:
    """All vectors (M, D) of a study by one model, with the source and the parts of each row."""

    study_id: int
    study_instance_uid: str
    patient: PatientKey
    state: State
    revision: int  # of the study: it counts every change of its instances
    vectors: NDArray[np.float32]
    rows: tuple[VectorSource, ...]
    parts: tuple[ClipParts | None, ...]


# --- what is read back ---------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class StudyRow:
    """A study as the catalogue holds it; `id` is its key, `study_id` is StudyID (0020,0010)."""

    id: int
    state: State
    series: int
    instances: int
    modalities: tuple[str, ...]
    patient_id: str
    issuer_of_patient_id: str
    patient_name: str
    patient_birth_date: str
    patient_sex: str
    study_instance_uid: str
    study_date: str
    study_time: str
    accession_number: str
    study_id: str
    study_description: str
    referring_physician_name: str
    patient_age: str
    institution_name: str
