"""The parts of clips, as rows: one per embedding, so that a hundred candidates are one statement.

Owns reading them; they are written with their embeddings, in one transaction (`embeddings`).
Embeddings made before there were parts have none.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import select

from index.db import Database
from index.embeddings import chunks
from index.models import Clip, Embedding
from index.parts import PartPlace, places_of, steps_of
from index.vector_models import Part


class PartVectors(Database):
    """The part of the catalogue that keeps the parts of clips."""

    def part_steps(self, ids: Sequence[int]) -> dict[int, NDArray[np.int8]]:
        """Return by embedding id the parts (P, D) of those that have any, as `quantised`."""
        wanted = select(Part.embedding_id, Part.vectors, Part.places)
        with self.reading() as connection:
            return {
                key: steps_of(vectors, places)
                for some in chunks(ids)
                for key, vectors, places in connection.execute(
                    wanted.where(Part.embedding_id.in_(some))
                )
            }

    def part_places(self, ids: Sequence[int]) -> dict[int, tuple[PartPlace | None, ...]]:
        """Return by embedding id where each part lies."""
        wanted = (
            select(Part.embedding_id, Part.places, Clip.sources)
            .join_from(Part, Embedding, Part.embedding_id == Embedding.id)
            .join(Clip, Embedding.clip_id == Clip.id)
        )
        with self.reading() as connection:
            return {
                key: places_of(places, sources)
                for some in chunks(ids)
                for key, places, sources in connection.execute(
                    wanted.where(Part.embedding_id.in_(some))
                )
            }
