"""What a generation is: the vectors of one model as a whole. Its tables, its states, its values.

What the catalogue does with generations stands in `generations`.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from sqlalchemy import ForeignKey, Index, text
from sqlalchemy.orm import Mapped, mapped_column

from index.models import BIG, Base, Label, Moment, Uid, choice


class GenerationState(StrEnum):
    """What the vectors of one model are for; one generation answers."""

    FILLING = "filling"
    ANSWERING = "answering"
    RETIRED = "retired"  # it answered before, and may again
    DROPPED = "dropped"  # its vectors are being deleted


class Generation(Base):
    """The vectors of one model as a whole, and what the encoder says of itself."""

    __tablename__ = "generation"
    __table_args__ = (
        Index(
            "uq_generation_answering",
            "state",
            unique=True,
            sqlite_where=text("state = 'answering'"),
            postgresql_where=text("state = 'answering'"),
        ),
    )

    model_id: Mapped[Uid] = mapped_column(primary_key=True)
    name: Mapped[Label]
    version: Mapped[Label]
    trained: Mapped[bool]
    dim: Mapped[int]
    state: Mapped[GenerationState] = mapped_column(choice(GenerationState))
    started_at: Mapped[Moment]
    answered_at: Mapped[Moment | None]


class GenerationGap(Base):
    """A series at a revision that a generation has no vectors of, or not all, and why."""

    __tablename__ = "generation_gap"

    model_id: Mapped[Uid] = mapped_column(
        ForeignKey("generation.model_id", ondelete="CASCADE"), primary_key=True
    )
    series_id: Mapped[int] = mapped_column(
        BIG, ForeignKey("series.id", ondelete="CASCADE"), primary_key=True
    )
    revision: Mapped[int]
    reason: Mapped[Label]


@dataclass(frozen=True, slots=True, kw_only=True)
class Made:
    """What made the vectors of a generation, as the encoder says of itself."""

    model_id: str
    name: str
    version: str
    trained: bool
    dim: int


@dataclass(frozen=True, slots=True, kw_only=True)
class GenerationRow(Made):
    """A generation; moments are UTC seconds since 1970, `answered_at` when it began to answer."""

    state: GenerationState
    started_at: float
    answered_at: float | None


@dataclass(frozen=True, slots=True)
class Gap:
    """A series that a generation has no vectors of, or not all, and why."""

    series_instance_uid: str
    reason: str


@dataclass(frozen=True, slots=True)
class Lacking:
    """Series that a generation lacks, as of the embedding `seen`."""

    series_ids: tuple[int, ...]
    seen: int
