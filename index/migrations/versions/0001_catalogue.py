"""The catalogue: studies, series, instances, clips, embeddings, reports and jobs."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

BIG = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def key() -> list[Any]:
    return [sa.Column("id", BIG, autoincrement=True, nullable=False), sa.PrimaryKeyConstraint("id")]


def columns(kind: sa.types.TypeEngine[Any], *names: str) -> list[sa.Column[Any]]:
    return [sa.Column(name, kind, nullable=False) for name in names]


def texts(*names: str) -> list[sa.Column[Any]]:
    return columns(sa.String(255), *names)


def uids(*names: str) -> list[sa.Column[Any]]:
    return columns(sa.String(64), *names)


def parent(table: str) -> list[Any]:
    column = f"{table}_id"
    return [
        sa.Column(column, BIG, nullable=False),
        sa.ForeignKeyConstraint([column], [f"{table}.id"], ondelete="CASCADE"),
    ]


def timed() -> list[sa.Column[Any]]:
    return [
        *columns(sa.String(16), "state"),
        *columns(sa.Double(), "burst_started_at", "last_received_at"),
        sa.Column("quiet_at", sa.Double(), nullable=True),
    ]


def upgrade() -> None:
    op.create_table(
        "study",
        *key(),
        *texts("patient_id", "issuer_of_patient_id", "patient_name"),
        *texts("patient_birth_date", "patient_sex"),
        *uids("study_instance_uid"),
        *texts("study_date", "study_time", "accession_number", "study_id", "study_description"),
        *texts("referring_physician_name", "patient_age", "institution_name"),
        *columns(sa.Boolean(), "guest"),
        sa.Column("purge_at", sa.Double(), nullable=True),
        *timed(),
        sa.UniqueConstraint("study_instance_uid"),
        sqlite_autoincrement=True,
    )
    op.create_table(
        "inquiry",
        *parent("study"),
        *texts("destination"),
        *columns(sa.Double(), "asked_at"),
        sa.Column("quiet_at", sa.Double(), nullable=True),
        sa.PrimaryKeyConstraint("study_id", "destination"),
    )
    op.create_table(
        "series",
        *key(),
        *parent("study"),
        *uids("series_instance_uid"),
        *texts("modality", "body_part_examined", "series_number", "series_description"),
        *texts("protocol_name", "manufacturer"),
        *columns(sa.Integer(), "revision"),
        *texts("reason"),
        *timed(),
        sa.UniqueConstraint("study_id", "series_instance_uid"),
        sqlite_autoincrement=True,
    )
    op.create_table(
        "instance",
        *key(),
        *parent("series"),
        *uids("sop_instance_uid", "sop_class_uid"),
        *texts("instance_number"),
        *uids("transfer_syntax_uid", "sha256"),
        *columns(sa.BigInteger(), "size_bytes"),
        *columns(sa.Text(), "relative_path"),
        *columns(sa.Double(), "received_at"),
        *columns(sa.Boolean(), "current"),
        sa.UniqueConstraint("sop_instance_uid", "sha256"),
    )
    op.create_table(
        "clip",
        *key(),
        *parent("series"),
        *columns(sa.Integer(), "position"),
        *texts("kind"),
        *columns(sa.Integer(), "frames"),
        *columns(sa.JSON(), "sources"),
        sqlite_autoincrement=True,
    )
    op.create_table(
        "embedding",
        *key(),
        *parent("clip"),
        *uids("model_id"),
        *columns(sa.Integer(), "revision"),
        *texts("decoder"),
        *columns(sa.LargeBinary(), "vector"),
        sa.UniqueConstraint("clip_id", "model_id"),
        sqlite_autoincrement=True,
    )
    create_reports()
    create_commitments()
    create_jobs()
    for table, names in INDEXES:
        op.create_index(None, table, names)


def create_reports() -> None:
    op.create_table(
        "report",
        *key(),
        *columns(sa.Integer(), "number"),
        *columns(sa.Double(), "created_at"),
        *columns(sa.String(16), "state"),
        *parent("study"),
        *texts("destination"),
        *uids("sop_instance_uid", "series_instance_uid"),
        *columns(sa.Text(), "relative_path"),
        *uids("model_id", "predecessor"),
        *columns(sa.Boolean(), "linked"),
        sa.UniqueConstraint("sop_instance_uid"),
        sa.UniqueConstraint("study_id", "destination", "number"),
        sqlite_autoincrement=True,
    )
    op.create_table(
        "report_case",
        *parent("report"),
        sa.Column("rank", sa.Integer(), autoincrement=False, nullable=False),
        *columns(sa.Double(), "score"),
        *uids("study_instance_uid"),
        sa.PrimaryKeyConstraint("report_id", "rank"),
    )
    op.create_table(
        "report_attachment",
        *uids("sop_instance_uid"),
        *parent("report"),
        *uids("sop_class_uid"),
        *columns(sa.Text(), "relative_path"),
        sa.PrimaryKeyConstraint("sop_instance_uid"),
    )


def create_commitments() -> None:
    op.create_table(
        "commitment",
        *uids("transaction_uid"),
        *parent("report"),
        *columns(sa.String(16), "state"),
        sa.PrimaryKeyConstraint("transaction_uid"),
    )
    op.create_table(
        "commitment_request",
        *key(),
        *uids("transaction_uid"),
        *texts("ae_title"),
        *columns(sa.JSON(), "instances"),
        sa.UniqueConstraint("transaction_uid", "ae_title"),
        sqlite_autoincrement=True,
    )
    op.create_table(
        "rejection",
        *uids("sop_instance_uid", "study_instance_uid"),
        *texts("patient_id", "code"),
        sa.PrimaryKeyConstraint("sop_instance_uid", "study_instance_uid", "patient_id"),
    )


def create_jobs() -> None:
    op.create_table(
        "job",
        *key(),
        *columns(sa.String(16), "kind"),
        *columns(BIG, "subject_id"),
        *texts("destination"),
        *columns(sa.String(16), "state"),
        *columns(sa.Double(), "due_at"),
        *columns(sa.Integer(), "attempts", "claims"),
        *texts("worker"),
        *columns(sa.Boolean(), "again"),
        *columns(sa.Text(), "error"),
        sa.UniqueConstraint("kind", "subject_id", "destination"),
        sqlite_autoincrement=True,
    )


INDEXES = (
    ("study", ["accession_number"]),
    ("study", ["patient_id"]),
    ("study", ["state", "quiet_at"]),
    ("series", ["state", "quiet_at"]),
    ("instance", ["series_id"]),
    ("clip", ["series_id"]),
    ("embedding", ["model_id"]),
    ("report_case", ["study_instance_uid"]),
    ("report_attachment", ["report_id"]),
    ("commitment", ["report_id"]),
    ("job", ["state", "due_at"]),
)
