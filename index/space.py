"""What a text space is to the catalogue: vectors made of those of one generation, and by what.

What the catalogue does with them stands in `spaces`.
"""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy import ForeignKey
from sqlalchemy.orm import Mapped, mapped_column

from index.models import Base, Label, Moment, Uid
from index.vectors import Ids, Vectors


class TextSpace(Base):
    """A text space whose vectors are kept; no generation, for no image is asked about in it."""

    __tablename__ = "text_space"

    space_id: Mapped[Uid] = mapped_column(primary_key=True)
    image_model_id: Mapped[Uid] = mapped_column(
        ForeignKey("generation.model_id", ondelete="CASCADE")
    )
    name: Mapped[Label]
    version: Mapped[Label]
    dim: Mapped[int]
    adopted_at: Mapped[Moment]  # last: of several of one generation the newest is in use


@dataclass(frozen=True, slots=True, kw_only=True)
class Space:
    """A text space, which takes the vectors of one encoder."""

    space_id: str
    image_model_id: str
    name: str
    version: str
    dim: int

    @property
    def model_id(self) -> str:
        """What its vectors lie under, as those of a model."""
        return self.space_id


@dataclass(frozen=True, slots=True, eq=False)
class ImageVectors:
    """Ids (N,) of image vectors (N, D), and the Modality of each one's series."""

    ids: Ids
    vectors: Vectors
    modalities: tuple[str, ...]
