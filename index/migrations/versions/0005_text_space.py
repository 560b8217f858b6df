"""Text spaces: which there are, and that a vector in one goes with the image vector it was made of.

A trigger, as in 0002: image vectors also go by cascades and from other commands.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None

GONE_TOO = (
    "DELETE FROM embedding WHERE clip_id = OLD.clip_id AND model_id IN "
    "(SELECT space_id FROM text_space WHERE image_model_id = OLD.model_id)"
)


def upgrade() -> None:
    op.create_table(
        "text_space",
        sa.Column("space_id", sa.String(64), nullable=False),
        sa.Column("image_model_id", sa.String(64), nullable=False),
        sa.Column("name", sa.String(255), nullable=False),
        sa.Column("version", sa.String(255), nullable=False),
        sa.Column("dim", sa.Integer(), nullable=False),
        sa.Column("adopted_at", sa.Double(), nullable=False),
        sa.ForeignKeyConstraint(["image_model_id"], ["generation.model_id"], ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("space_id"),
    )
    if op.get_bind().dialect.name == "sqlite":
        op.execute(
            f"CREATE TRIGGER image_vector_removed AFTER DELETE ON embedding BEGIN {GONE_TOO}; END"
        )
        return
    op.execute(
        "CREATE FUNCTION image_vector_removed() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN "
        f"{GONE_TOO}; RETURN NULL; END $$"
    )
    op.execute(
        "CREATE TRIGGER image_vector_removed AFTER DELETE ON embedding FOR EACH ROW "
        "EXECUTE FUNCTION image_vector_removed()"
    )
