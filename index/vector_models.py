"""The tables beside the vectors: what changed among them, and the parts of their clips."""

from __future__ import annotations

from sqlalchemy import ForeignKey, Index, LargeBinary
from sqlalchemy.orm import Mapped, mapped_column

from index.models import BIG, NEVER_REUSED, Base, Key


class Change(Base):
    """A vector that came or went, or whose series or study changed; written by triggers."""

    __tablename__ = "change"
    __table_args__ = (Index(None, "transaction_id"), NEVER_REUSED)

    id: Mapped[Key]
    transaction_id: Mapped[int] = mapped_column(BIG)  # PostgreSQL's; 0 on SQLite
    embedding_id: Mapped[int] = mapped_column(BIG)


class Part(Base):
    """The parts of a clip by one model, packed as `index.parts` says: a row for all of them."""

    __tablename__ = "part"

    embedding_id: Mapped[int] = mapped_column(
        BIG, ForeignKey("embedding.id", ondelete="CASCADE"), primary_key=True
    )
    vectors: Mapped[bytes] = mapped_column(LargeBinary)
    places: Mapped[bytes] = mapped_column(LargeBinary)
