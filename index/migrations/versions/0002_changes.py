"""What changed among the vectors and what they are filtered by, noted by triggers.

Triggers, since rows also change by cascades and from other commands: none can be forgotten. A later
migration that copies one of these tables on SQLite (batch mode) must create its triggers again.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

BIG = sa.BigInteger().with_variant(sa.Integer(), "sqlite")

SERIES_FACETS = ("study_id", "modality", "body_part_examined", "series_description")
STUDY_FACETS = (
    "patient_id",
    "issuer_of_patient_id",
    "patient_birth_date",
    "patient_sex",
    "patient_age",
    "study_date",
    "study_description",
    "institution_name",
    "guest",
)
OF_SERIES = (
    "SELECT {xid}, embedding.id FROM embedding JOIN clip ON embedding.clip_id = clip.id "
    "WHERE clip.series_id = NEW.id"
)
OF_STUDY = (
    "SELECT {xid}, embedding.id FROM embedding JOIN clip ON embedding.clip_id = clip.id "
    "JOIN series ON clip.series_id = series.id WHERE series.study_id = NEW.id"
)
# name, event, table, columns that count, what is noted
TRIGGERS = (
    ("embedding_added", "INSERT", "embedding", (), "VALUES ({xid}, NEW.id)"),
    ("embedding_removed", "DELETE", "embedding", (), "VALUES ({xid}, OLD.id)"),
    ("series_changed", "UPDATE", "series", SERIES_FACETS, OF_SERIES),
    ("study_changed", "UPDATE", "study", STUDY_FACETS, OF_STUDY),
)


def upgrade() -> None:
    op.create_table(
        "change",
        sa.Column("id", BIG, autoincrement=True, nullable=False),
        sa.Column("transaction_id", BIG, nullable=False),
        sa.Column("embedding_id", BIG, nullable=False),
        sa.PrimaryKeyConstraint("id"),
        sqlite_autoincrement=True,
    )
    op.create_index(None, "change", ["transaction_id"])
    create = {"sqlite": sqlite_trigger, "postgresql": postgresql_trigger}
    for trigger in TRIGGERS:
        create[op.get_bind().dialect.name](*trigger)


def sqlite_trigger(name: str, event: str, table: str, columns: tuple[str, ...], noted: str) -> None:
    of = f" OF {', '.join(columns)}" if columns else ""
    op.execute(
        f"CREATE TRIGGER {name} AFTER {event}{of} ON {table} {when(columns, 'IS NOT')} BEGIN "
        f"INSERT INTO change (transaction_id, embedding_id) {noted.format(xid=0)}; END"
    )


def postgresql_trigger(
    name: str, event: str, table: str, columns: tuple[str, ...], noted: str
) -> None:
    noted = noted.format(xid="pg_current_xact_id()::text::bigint")
    op.execute(
        f"CREATE FUNCTION {name}() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN "
        f"INSERT INTO change (transaction_id, embedding_id) {noted}; RETURN NULL; END $$"
    )
    op.execute(
        f"CREATE TRIGGER {name} AFTER {event} ON {table} FOR EACH ROW "
        f"{when(columns, 'IS DISTINCT FROM')} EXECUTE FUNCTION {name}()"
    )


def when(columns: tuple[str, ...], differs: str) -> str:
    if not columns:
        return ""
    old, new = (", ".join(f"{row}.{column}" for column in columns) for row in ("OLD", "NEW"))
    return f"WHEN (({old}) {differs} ({new}))"
