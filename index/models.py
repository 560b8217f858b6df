"""The tables of the catalogue, as SQLAlchemy models.

Owns the schema only; `migrations` creates it and a test keeps the two equal. Portable between
SQLite and PostgreSQL. Moments are UTC seconds since 1970 as floats: both store and compare them
alike, unlike time zones.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

from sqlalchemy import (
    JSON,
    BigInteger,
    Double,
    Enum,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    String,
    Text,
    UniqueConstraint,
)
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from index.attributes import TEXT_LENGTH, UID_LENGTH
from index.report_records import ReportState
from index.states import State


class JobKind(StrEnum):
    """What a job does, and whose key its `subject_id` is."""

    EMBED = "embed"  # a series
    REPORT = "report"  # a study
    SEND = "send"  # a report
    COMMIT = "commit"  # a report: does its destination keep it?
    ANSWER = "answer"  # a commitment request of a peer


class JobState(StrEnum):
    """Where a job stands; a job that is done has no row."""

    READY = "ready"
    RUNNING = "running"
    FAILED = "failed"


class CommitmentState(StrEnum):
    """What became of a question whether a report is kept."""

    OPEN = "open"
    DENIED = "denied"  # the answer was that not all of it is
    OVERTAKEN = "overtaken"  # another's answer was that, and the report was sent again


def choice(kind: type[StrEnum]) -> Enum:
    """Return the type of a column that holds one of these, as text."""
    return Enum(
        kind,
        native_enum=False,
        create_constraint=False,
        length=16,
        values_callable=lambda members: [member.value for member in members],
    )


BIG = BigInteger().with_variant(Integer, "sqlite")  # SQLite counts up only INTEGER keys

Key = Annotated[int, mapped_column(BIG, primary_key=True, autoincrement=True)]
Uid = Annotated[str, mapped_column(String(UID_LENGTH))]
Label = Annotated[str, mapped_column(String(TEXT_LENGTH))]
Moment = Annotated[float, mapped_column(Double)]
Score = Annotated[float, mapped_column(Double)]
# Jobs, workers and the vector index hold keys while a study is forgotten: SQLite would give the
# highest again.
NEVER_REUSED = {"sqlite_autoincrement": True}
Choices = {kind: choice(kind) for kind in (State, ReportState, JobKind, JobState, CommitmentState)}


class Base(DeclarativeBase):
    """Root of all tables."""

    metadata = MetaData(
        naming_convention={
            "ix": "ix_%(table_name)s_%(column_0_N_name)s",
            "uq": "uq_%(table_name)s_%(column_0_N_name)s",
            "fk": "fk_%(table_name)s_%(column_0_name)s",
            "pk": "pk_%(table_name)s",
        }
    )
    type_annotation_map = Choices


class Timed:
    """The quiet timer of a series or a study; `quiet_at` is NULL when none runs."""

    state: Mapped[State]
    burst_started_at: Mapped[Moment]
    last_received_at: Mapped[Moment]
    quiet_at: Mapped[Moment | None]


class Study(Timed, Base):
    """A study with its patient's attributes, as the newest instance states them."""

    __tablename__ = "study"
    __table_args__ = (
        UniqueConstraint("study_instance_uid"),
        Index(None, "accession_number"),
        Index(None, "patient_id"),
        Index(None, "state", "quiet_at"),
        NEVER_REUSED,
    )

    id: Mapped[Key]
    patient_id: Mapped[Label]
    issuer_of_patient_id: Mapped[Label]
    patient_name: Mapped[Label]
    patient_birth_date: Mapped[Label]
    patient_sex: Mapped[Label]
    study_instance_uid: Mapped[Uid]
    study_date: Mapped[Label]
    study_time: Mapped[Label]
    accession_number: Mapped[Label]
    study_id: Mapped[Label]
    study_description: Mapped[Label]
    referring_physician_name: Mapped[Label]
    patient_age: Mapped[Label]
    institution_name: Mapped[Label]
    guest: Mapped[bool]  # only sent to be asked about: no answer to anyone, and not kept
    purge_at: Mapped[Moment | None]  # when an answered guest is forgotten


class Series(Timed, Base):
    """A series; `revision` counts every change of its instances."""

    __tablename__ = "series"
    __table_args__ = (
        # Some senders reuse a Series Instance UID in another study: two series, then.
        UniqueConstraint("study_id", "series_instance_uid"),
        Index(None, "state", "quiet_at"),
        NEVER_REUSED,
    )

    id: Mapped[Key]
    study_id: Mapped[int] = mapped_column(BIG, ForeignKey("study.id", ondelete="CASCADE"))
    series_instance_uid: Mapped[Uid]
    modality: Mapped[Label]
    body_part_examined: Mapped[Label]
    series_number: Mapped[Label]
    series_description: Mapped[Label]
    protocol_name: Mapped[Label]
    manufacturer: Mapped[Label]
    revision: Mapped[int]
    reason: Mapped[Label]  # why QUARANTINED or SKIPPED


class Inquiry(Base):
    """A destination that asks about a study; `quiet_at` is NULL once its report was asked for."""

    __tablename__ = "inquiry"

    study_id: Mapped[int] = mapped_column(
        BIG, ForeignKey("study.id", ondelete="CASCADE"), primary_key=True
    )
    destination: Mapped[Label] = mapped_column(primary_key=True)
    asked_at: Mapped[Moment]
    quiet_at: Mapped[Moment | None]


class Instance(Base):
    """One version of an instance: the same SOP Instance UID may have come with other bytes."""

    __tablename__ = "instance"
    __table_args__ = (UniqueConstraint("sop_instance_uid", "sha256"), Index(None, "series_id"))

    id: Mapped[Key]
    series_id: Mapped[int] = mapped_column(BIG, ForeignKey("series.id", ondelete="CASCADE"))
    sop_instance_uid: Mapped[Uid]
    sop_class_uid: Mapped[Uid]
    instance_number: Mapped[Label]
    transfer_syntax_uid: Mapped[Uid]
    sha256: Mapped[Uid]
    size_bytes: Mapped[int] = mapped_column(BigInteger)
    relative_path: Mapped[str] = mapped_column(Text)
    received_at: Mapped[Moment]
    current: Mapped[bool]


class Clip(Base):
    """What was embedded as one: a still, a volume or a cine of a series."""

    __tablename__ = "clip"
    __table_args__ = (Index(None, "series_id"), NEVER_REUSED)

    id: Mapped[Key]
    series_id: Mapped[int] = mapped_column(BIG, ForeignKey("series.id", ondelete="CASCADE"))
    position: Mapped[int]  # in the order in which the series gave its clips, from 0
    kind: Mapped[Label]
    frames: Mapped[int]
    sources: Mapped[list[str]] = mapped_column(JSON)


class Embedding(Base):
    """A clip's unit vector by one model, as little-endian float32.

    Its id is its label in the vector index. `revision` is that of the series when its files were
    read; `decoder` names what decoded their pixels.
    """

    __tablename__ = "embedding"
    __table_args__ = (UniqueConstraint("clip_id", "model_id"), NEVER_REUSED)

    id: Mapped[Key]
    clip_id: Mapped[int] = mapped_column(BIG, ForeignKey("clip.id", ondelete="CASCADE"))
    model_id: Mapped[Uid] = mapped_column(index=True)
    revision: Mapped[int]
    decoder: Mapped[Label]
    vector: Mapped[bytes] = mapped_column(LargeBinary)


class Report(Base):
    """A report made for a study and a destination; `number` counts from 1 for the pair."""

    __tablename__ = "report"
    __table_args__ = (
        UniqueConstraint("sop_instance_uid"),
        UniqueConstraint("study_id", "destination", "number"),
        NEVER_REUSED,
    )

    id: Mapped[Key]
    number: Mapped[int]
    created_at: Mapped[Moment]
    state: Mapped[ReportState]
    study_id: Mapped[int] = mapped_column(BIG, ForeignKey("study.id", ondelete="CASCADE"))
    destination: Mapped[Label]
    sop_instance_uid: Mapped[Uid]
    series_instance_uid: Mapped[Uid]
    relative_path: Mapped[str] = mapped_column(Text)
    model_id: Mapped[Uid]
    predecessor: Mapped[Uid]
    linked: Mapped[bool]  # it names the studies of other patients


class ReportCase(Base):
    """A study that a report names; by UID, since reports outlive what they name."""

    __tablename__ = "report_case"
    __table_args__ = (Index(None, "study_instance_uid"),)

    report_id: Mapped[int] = mapped_column(
        BIG, ForeignKey("report.id", ondelete="CASCADE"), primary_key=True
    )
    rank: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    score: Mapped[Score]
    study_instance_uid: Mapped[Uid]


class ReportAttachment(Base):
    """An object that goes out beside a report."""

    __tablename__ = "report_attachment"
    __table_args__ = (Index(None, "report_id"),)

    sop_instance_uid: Mapped[Uid] = mapped_column(primary_key=True)
    report_id: Mapped[int] = mapped_column(BIG, ForeignKey("report.id", ondelete="CASCADE"))
    sop_class_uid: Mapped[Uid]
    relative_path: Mapped[str] = mapped_column(Text)


class Commitment(Base):
    """A question to a destination whether it keeps a report; one row each time it is asked."""

    __tablename__ = "commitment"
    __table_args__ = (Index(None, "report_id"),)

    transaction_uid: Mapped[Uid] = mapped_column(primary_key=True)
    report_id: Mapped[int] = mapped_column(BIG, ForeignKey("report.id", ondelete="CASCADE"))
    state: Mapped[CommitmentState]


class CommitmentRequest(Base):
    """A peer's question whether the node keeps instances; gone when it was answered."""

    __tablename__ = "commitment_request"
    __table_args__ = (UniqueConstraint("transaction_uid", "ae_title"), NEVER_REUSED)

    id: Mapped[Key]
    transaction_uid: Mapped[Uid]
    ae_title: Mapped[Label]
    instances: Mapped[list[list[str]]] = mapped_column(JSON)  # [SOP Class UID, SOP Instance UID]


class Rejection(Base):
    """An instance that stays rejected however often it is sent, and the code that says why.

    Study and patient are those of the note: an instance that is not known yet is held against them.
    """

    __tablename__ = "rejection"

    sop_instance_uid: Mapped[Uid] = mapped_column(primary_key=True)
    study_instance_uid: Mapped[Uid] = mapped_column(primary_key=True)
    patient_id: Mapped[Label] = mapped_column(primary_key=True)
    code: Mapped[Label]


class Job(Base):
    """Work to be done; one row per kind, subject and destination.

    `claims` counts every claim and tells a worker that lost its lease from the one that has it.
    """

    __tablename__ = "job"
    __table_args__ = (
        UniqueConstraint("kind", "subject_id", "destination"),
        Index(None, "state", "due_at"),
        NEVER_REUSED,
    )

    id: Mapped[Key]
    kind: Mapped[JobKind]
    subject_id: Mapped[int] = mapped_column(BIG)
    destination: Mapped[Label]
    state: Mapped[JobState]
    due_at: Mapped[Moment]  # for RUNNING: when the lease ends
    attempts: Mapped[int]
    claims: Mapped[int]
    worker: Mapped[Label]
    again: Mapped[bool]  # asked for again while RUNNING
    error: Mapped[str] = mapped_column(Text)
