"""Clips and their vectors, as rows: the truth that every vector index follows.

Owns what was embedded from which series at which revision by which model. Vectors are kept as
little-endian float32, read from any machine alike. Does not search.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict
from typing import Any, TypeVar

import numpy as np
from sqlalchemy import Connection, Row, bindparam, delete, exists, func, insert, select

from index.db import Database
from index.errors import UnknownKey
from index.lifecycle import move_series, put_aside, study_revision
from index.models import Clip, Embedding, Part, Series, Study
from index.parts import ClipParts, Packed, pack, unpacked
from index.records import ClipRecord, PatientKey, StudyVectors, VectorSource
from index.states import REPORTABLE_STATES, Event
from index.vectors import Ids, Vectors, unit_rows

STORED = np.dtype("<f4")
T = TypeVar("T")

_SERIES = select(Series.id).where(Series.id == bindparam("id"))
CHUNK = 800  # ids in one statement; SQLite before 3.32 takes at most 999


class Embeddings(Database):
    """The part of the catalogue that keeps clips and vectors."""

    def save_clips(
        self, series_id: int, revision: int, model_id: str, clips: Sequence[ClipRecord]
    ) -> tuple[int, ...]:
        """Put these clips in the place of a series' clips by this model; return embedding ids.

        The series becomes EMBEDDED, or SKIPPED when there are no clips, unless it changed since
        `revision`: then the clips serve until the next round. Clips of an older revision than
        those kept change nothing and get no ids. Raises BadVector and UnknownKey.
        """
        vectors = [unit_rows(clip.vector)[0] for clip in clips]
        parts = [None if c.parts is None else pack(c.parts, c.sources) for c in clips]
        with self.writing() as connection:
            if connection.execute(_SERIES, {"id": series_id}).first() is None:
                raise UnknownKey("series", series_id)  # its study was forgotten meanwhile
            kept = _kept(connection, series_id, model_id)
            if any(row_revision > revision for _, row_revision in kept):
                return ()
            if not clips:
                reason = "It holds nothing that can be embedded."
                put_aside(connection, series_id, revision, Event.SKIP, reason)
                return ()
            connection.execute(delete(Embedding).where(Embedding.id.in_([key for key, _ in kept])))
            rows = [
                {
                    "clip_id": clip_id,
                    "model_id": model_id,
                    "revision": revision,
                    "decoder": clip.decoder,
                    "vector": vector.astype(STORED).tobytes(),
                }
                for clip, clip_id, vector in zip(
                    clips, _clip_ids(connection, series_id, clips), vectors, strict=True
                )
            ]
            inserted = insert(Embedding).returning(Embedding.id, sort_by_parameter_order=True)
            ids = tuple(connection.execute(inserted, rows).scalars())
            _insert_parts(connection, ids, parts)
            _delete_bare_clips(connection, series_id)
            move_series(connection, series_id, revision, Event.EMBED)
            return ids

    def embedding_ids(self, model_id: str) -> Ids:
        """Return the ids of all vectors by a model, ascending."""
        with self.reading() as connection:
            rows = connection.execute(
                select(Embedding.id).where(Embedding.model_id == model_id).order_by(Embedding.id)
            )
            return np.fromiter(rows.scalars(), dtype=np.int64)

    def newest_embedding(self, model_id: str) -> int | None:
        """Return the highest id of a model's vectors; None when it has none."""
        with self.reading() as connection:
            newest = select(func.max(Embedding.id)).where(Embedding.model_id == model_id)
            return connection.execute(newest).scalar_one()

    def vectors(self, ids: Iterable[int]) -> tuple[Ids, Vectors]:
        """Return those of `ids` that still exist, in their order, and their vectors (N, D)."""
        wanted = [int(key) for key in ids]
        found: dict[int, bytes] = {}
        with self.reading() as connection:
            for part in chunks(wanted):
                rows = connection.execute(
                    select(Embedding.id, Embedding.vector).where(Embedding.id.in_(part))
                )
                found.update((key, vector) for key, vector in rows)
        present = [key for key in wanted if key in found]
        stored = np.frombuffer(b"".join(found[key] for key in present), dtype=STORED)
        return (
            np.array(present, dtype=np.int64),
            stored.astype(np.float32).reshape(len(present), -1 if present else 0),
        )

    def series_lacking(self, model_id: str) -> tuple[int, ...]:
        """Return the indexed series whose vectors by this model are missing or out of date."""
        with self.reading() as connection:
            up_to_date = exists().where(
                Clip.series_id == Series.id,
                Embedding.clip_id == Clip.id,
                Embedding.model_id == model_id,
                Embedding.revision == Series.revision,
            )
            rows = connection.execute(
                select(Series.id)
                .where(Series.state.in_(REPORTABLE_STATES), ~up_to_date)
                .order_by(Series.id)
            )
            return tuple(rows.scalars())

    def study_query(self, study_instance_uid: str, model_id: str) -> StudyVectors | None:
        """Return a study's vectors to search with; None when it is unknown or has none."""
        with self.reading() as connection:
            # Patient and revision in one statement: a report with an older patient would pass for
            # new. The clips may be newer than both: a report on them is not saved.
            study = connection.execute(
                select(*Study.__table__.c, study_revision(Study.id).label("revision")).where(
                    Study.study_instance_uid == study_instance_uid
                )
            ).one_or_none()
            if study is None:
                return None
            clips = connection.execute(
                select(Clip.id, Series.series_instance_uid, Clip.kind, Clip.sources)
                .join_from(Series, Clip, Clip.series_id == Series.id)
                .where(Series.study_id == study.id)
                .order_by(Series.id, Clip.position, Clip.id)
            ).all()
            vectors = _vectors(connection, [clip.id for clip in clips], model_id)
            parts = _parts(connection, clips, model_id)
        rows = [clip for clip in clips if clip.id in vectors]
        if not rows:
            return None
        return StudyVectors(
            study_id=study.id,
            study_instance_uid=study_instance_uid,
            patient=PatientKey(study.patient_id, study.issuer_of_patient_id),
            state=study.state,
            revision=study.revision,
            vectors=np.stack([np.frombuffer(vectors[row.id], STORED) for row in rows]),
            rows=tuple(
                VectorSource(row.series_instance_uid, row.kind, tuple(row.sources)) for row in rows
            ),
            parts=tuple(parts.get(row.id) for row in rows),
        )


def chunks(ids: Sequence[T]) -> Iterator[Sequence[T]]:
    """Cut ids into parts that one statement can take."""
    for start in range(0, len(ids), CHUNK):
        yield ids[start : start + CHUNK]


def _vectors(connection: Connection, clip_ids: Sequence[int], model_id: str) -> dict[int, bytes]:
    """Return the vectors of clips by a model, as they are stored."""
    # By themselves: joined, SQLite begins at the index of models and reads all of one.
    of_model = select(Embedding.clip_id, Embedding.vector).where(Embedding.model_id == model_id)
    return {
        row.clip_id: row.vector
        for part in chunks(clip_ids)
        for row in connection.execute(of_model.where(Embedding.clip_id.in_(part)))
    }


def _parts(
    connection: Connection, clips: Sequence[Row[*tuple[Any, ...]]], model_id: str
) -> dict[int, ClipParts]:
    """Return by clip id the parts by a model of those that have any."""
    sources = {clip.id: clip.sources for clip in clips}
    of_model = (
        select(Embedding.clip_id, Part.vectors, Part.places)
        .join_from(Embedding, Part, Part.embedding_id == Embedding.id)
        .where(Embedding.model_id == model_id)
    )
    return {
        row.clip_id: unpacked(Packed(row.vectors, row.places), sources[row.clip_id])
        for some in chunks(list(sources))
        for row in connection.execute(of_model.where(Embedding.clip_id.in_(some)))
    }


def _insert_parts(
    connection: Connection, ids: Sequence[int], parts: Sequence[Packed | None]
) -> None:
    rows = [
        {"embedding_id": key, **asdict(packed)}
        for key, packed in zip(ids, parts, strict=True)
        if packed is not None
    ]
    if rows:
        connection.execute(insert(Part), rows)


def _kept(connection: Connection, series_id: int, model_id: str) -> list[tuple[int, int]]:
    """Return id and revision of a series' vectors by a model."""
    rows = connection.execute(
        select(Embedding.id, Embedding.revision)
        .join_from(Embedding, Clip, Embedding.clip_id == Clip.id)
        .where(Clip.series_id == series_id, Embedding.model_id == model_id)
        .order_by(Clip.position)
    )
    return [(key, revision) for key, revision in rows]


def _clip_ids(connection: Connection, series_id: int, clips: Sequence[ClipRecord]) -> list[int]:
    """Return the ids of these clips: those that another model has embedded too, or new ones."""
    known = {
        (row.position, row.kind, row.frames, tuple(row.sources)): row.id
        for row in connection.execute(
            select(Clip.id, Clip.position, Clip.kind, Clip.frames, Clip.sources)
            .where(Clip.series_id == series_id)
            .order_by(Clip.id)
        )
    }
    ids = []
    for position, clip in enumerate(clips):
        key = known.get((position, clip.kind, clip.frames, clip.sources))
        if key is None:
            inserted = insert(Clip).values(
                series_id=series_id,
                position=position,
                kind=clip.kind,
                frames=clip.frames,
                sources=list(clip.sources),
            )
            key = connection.execute(inserted.returning(Clip.id)).scalar_one()
        ids.append(key)
    return ids


def _delete_bare_clips(connection: Connection, series_id: int) -> None:
    """Delete the clips that no model's vector belongs to any more."""
    has_vector = exists().where(Embedding.clip_id == Clip.id)
    connection.execute(delete(Clip).where(Clip.series_id == series_id, ~has_vector))
