"""Text spaces: which there are, and the vectors in them that are made of image vectors.

A vector in a space is a row as any other, under the space's id and on the clip of the image vector
it was made of, with which it goes (migration 0005). Makes no vectors.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

import numpy as np
from sqlalchemy import Connection, Exists, Row, Select, delete, exists, insert, select, update
from sqlalchemy.orm import aliased

from index.attributes import TEXT_LENGTH
from index.db import Database, repeated
from index.embeddings import STORED, chunks, unfitness
from index.errors import UnknownSpace
from index.generation import Generation, GenerationState
from index.models import Clip, Embedding, Series
from index.pgvector_table import drop_table
from index.space import ImageVectors, Space, TextSpace
from index.vectors import Ids, Vectors, unit_rows

_DELETED_AT_A_TIME = 500  # rows: intake waits no longer than for these


class Spaces(Database):
    """The part of the catalogue that keeps vectors to find by words."""

    def spaces(self) -> tuple[Space, ...]:
        """Return the spaces that have, or had, vectors, the one adopted last at the end."""
        with self.reading() as connection:
            rows = connection.execute(_SPACES.order_by(TextSpace.adopted_at, TextSpace.space_id))
            return tuple(_space(row) for row in rows)

    def answering_space(self) -> Space | None:
        """Return the space of the generation that answers that was adopted last, if any."""
        answers = Generation.state == GenerationState.ANSWERING
        with self.reading() as connection:
            row = connection.execute(
                _SPACES.join(Generation, TextSpace.image_model_id == Generation.model_id)
                .where(answers)
                .order_by(TextSpace.adopted_at.desc(), TextSpace.space_id.desc())
                .limit(1)
            ).one_or_none()
            return None if row is None else _space(row)

    @repeated
    def adopt_space(self, space: Space) -> None:
        """Note a space, so that its vectors go with those they are made of, as the one in use."""
        known = update(TextSpace).where(TextSpace.space_id == space.space_id)
        with self.writing() as connection:
            if not connection.execute(known.values(adopted_at=self.now())).rowcount:
                _enter(connection, space, self.now())

    @repeated
    def note_space(self, space: Space) -> None:
        """Note a space as `adopt_space` does, but behind all others of its generation."""
        others = select(TextSpace.space_id).where(TextSpace.image_model_id == space.image_model_id)
        with self.writing() as connection:
            if connection.execute(_row_of(space)).first() is None:
                is_first = connection.execute(others.limit(1)).first() is None
                _enter(connection, space, self.now() if is_first else 0.0)

    def has_space(self, space: Space) -> bool:
        """Tell whether a space is noted (still)."""
        with self.reading() as connection:
            return connection.execute(_row_of(space)).first() is not None

    def without_words(self, space: Space, ids: Ids | None = None) -> Ids:
        """Return the image vectors, all or of these, that have none in the space, ascending."""
        lacking = _lacking(space)
        with self.reading() as connection:
            if ids is None:
                rows = connection.execute(lacking.order_by(Embedding.id))
                return np.fromiter(rows.scalars(), dtype=np.int64)
            found: list[int] = []
            for part in chunks(ids.tolist()):
                found += connection.execute(lacking.where(Embedding.id.in_(part))).scalars()
        return np.sort(np.array(found, dtype=np.int64))

    def newest_with_words(self, space: Space) -> int:
        """Return the highest id of an image vector that has one in the space; 0 where none has."""
        filled = _images(space).where(_has_words(space)).order_by(Embedding.id.desc()).limit(1)
        with self.reading() as connection:
            return connection.execute(filled).scalar_one_or_none() or 0

    def image_vectors(self, ids: Ids) -> ImageVectors:
        """Return those of `ids` that still exist and can be compared with, ascending."""
        wanted = (
            select(Embedding.id, Embedding.vector, Generation.dim, Series.modality)
            .join_from(Embedding, Clip, Embedding.clip_id == Clip.id)
            .join(Series, Clip.series_id == Series.id)
            .join(Generation, Embedding.model_id == Generation.model_id)
        )
        with self.reading() as connection:
            rows = [
                row
                for part in chunks(ids.tolist())
                for row in connection.execute(wanted.where(Embedding.id.in_(part)))
                if not unfitness(row.vector, row.dim)
            ]
        rows.sort(key=lambda row: int(row.id))
        stored = np.frombuffer(b"".join(row.vector for row in rows), dtype=STORED)
        return ImageVectors(
            np.array([row.id for row in rows], dtype=np.int64),
            stored.astype(np.float32).reshape(len(rows), -1 if rows else 0),
            tuple(row.modality for row in rows),
        )

    @repeated
    def save_words(self, space: Space, sources: Sequence[int], vectors: Vectors) -> tuple[Ids, Ids]:
        """Keep vectors (N, D) in a space, each made of one image vector.

        Returns the ids of the new vectors, and the rows of `vectors` they are. Left out are those
        whose source has gone meanwhile, or has got one from another node. Raises BadVector, and
        UnknownSpace for a space that is not noted: its vectors would not go with their sources.
        """
        made = unit_rows(vectors, space.dim)
        row_of = {int(key): row for row, key in enumerate(sources)}
        with self.writing() as connection:
            if connection.execute(_row_of(space).with_for_update(read=True)).first() is None:
                raise UnknownSpace(space.space_id)
            # Held until the end: else a source could go unseen between this and the insertion.
            held = _lacking(space).with_for_update(read=True, key_share=True, of=Embedding)
            lacking = [
                row
                for part in chunks(list(row_of))
                for row in connection.execute(
                    held.add_columns(Embedding.clip_id, Embedding.revision, Embedding.decoder)
                    .where(Embedding.id.in_(part))
                    .order_by(Embedding.id)
                )
            ]
            if not lacking:
                return np.empty(0, np.int64), np.empty(0, np.int64)
            rows = np.array([row_of[each.id] for each in lacking], dtype=np.int64)
            inserted = insert(Embedding).returning(Embedding.id, sort_by_parameter_order=True)
            values = [
                {
                    "clip_id": each.clip_id,
                    "model_id": space.space_id,
                    "revision": each.revision,
                    "decoder": each.decoder,
                    "vector": made[row].astype(STORED).tobytes(),
                }
                for each, row in zip(lacking, rows, strict=True)
            ]
            ids = connection.execute(inserted, values).scalars()
            return np.fromiter(ids, dtype=np.int64), rows

    @repeated
    def delete_words(self, space_id: str) -> int:
        """Delete some vectors of a space, or its row when none is left; count.

        With the row goes the table that pgvector may have had.
        """
        some = (
            select(Embedding.id)
            .where(Embedding.model_id == space_id)
            .order_by(Embedding.id)
            .limit(_DELETED_AT_A_TIME)
            .with_for_update()  # in the order of `save_words`, so that neither waits for ever
        )
        with self.writing() as connection:
            ids = connection.execute(some).scalars().all()
            if not ids:
                drop_table(connection, space_id)
                gone = delete(TextSpace).where(TextSpace.space_id == space_id)
                return connection.execute(gone).rowcount
            return connection.execute(delete(Embedding).where(Embedding.id.in_(ids))).rowcount


def _row_of(space: Space) -> Select[str]:
    return select(TextSpace.space_id).where(TextSpace.space_id == space.space_id)


def _enter(connection: Connection, space: Space, adopted_at: float) -> None:
    values = asdict(space) | {
        "name": space.name[:TEXT_LENGTH],
        "version": space.version[:TEXT_LENGTH],
    }
    connection.execute(insert(TextSpace).values(adopted_at=adopted_at, **values))


_SPACES = select(*(column for column in TextSpace.__table__.c if column.key != "adopted_at"))


def _space(row: Row[*tuple[Any, ...]]) -> Space:
    return Space(**row._asdict())


def _lacking(space: Space) -> Select[int]:
    """Select, as SQL, the ids of the image vectors that have none in a space."""
    return _images(space).where(~_has_words(space))


def _images(space: Space) -> Select[int]:
    return select(Embedding.id).where(Embedding.model_id == space.image_model_id)


def _has_words(space: Space) -> Exists:
    words = aliased(Embedding)
    return exists().where(words.clip_id == Embedding.clip_id, words.model_id == space.space_id)
