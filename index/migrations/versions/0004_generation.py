"""Generations: which model's vectors answer, and what one that is filled beside them lacks."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None

BIG = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
ANSWERING = sa.text("state = 'answering'")


def upgrade() -> None:
    op.create_table(
        "generation",
        sa.Column("model_id", sa.String(64), nullable=False),
        sa.Column("name", sa.String(255), nullable=False),
        sa.Column("version", sa.String(255), nullable=False),
        sa.Column("trained", sa.Boolean(), nullable=False),
        sa.Column("dim", sa.Integer(), nullable=False),
        sa.Column("state", sa.String(16), nullable=False),
        sa.Column("started_at", sa.Double(), nullable=False),
        sa.Column("answered_at", sa.Double(), nullable=True),
        sa.PrimaryKeyConstraint("model_id"),
    )
    op.create_index(
        "uq_generation_answering",
        "generation",
        ["state"],
        unique=True,
        sqlite_where=ANSWERING,
        postgresql_where=ANSWERING,
    )
    op.create_table(
        "generation_gap",
        sa.Column("model_id", sa.String(64), nullable=False),
        sa.Column("series_id", BIG, nullable=False),
        sa.Column("revision", sa.Integer(), nullable=False),
        sa.Column("reason", sa.String(255), nullable=False),
        sa.ForeignKeyConstraint(["model_id"], ["generation.model_id"], ondelete="CASCADE"),
        sa.ForeignKeyConstraint(["series_id"], ["series.id"], ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("model_id", "series_id"),
    )
