"""Clips and their vectors, as rows: the truth that every vector index follows.

Owns what was embedded from which series at which revision by which model. Vectors are kept as
little-endian float32, read from any machine alike. Does not search.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict
from typing import Any, TypeVar

import numpy as np
from sqlalchemy import Connection, Row, Select, delete, exists, func, insert, select

from index.db import Database, repeated
from index.errors import BadVector
from index.generations import check_answering
from index.lifecycle import held_series, move_series, put_aside, study_revision
from index.models import Clip, Embedding, Series, Study
from index.parts import ClipParts, Packed, pack, unpacked
from index.records import ClipRecord, PatientKey, StudyVectors, VectorSource
from index.states import REPORTABLE_STATES, Event
from index.vector_models import Part
from index.vectors import Ids, Vectors, unit_rows

STORED = np.dtype("<f4")
T = TypeVar("T")

CHUNK = 800  # ids in one statement; SQLite before 3.32 takes at most 999


class Embeddings(Database):
    """The part of the catalogue that keeps clips and vectors."""

    @repeated
    def save_clips(
        self, series_id: int, revision: int, model_id: str, clips: Sequence[ClipRecord]
    ) -> tuple[int, ...]:
        """Put these clips in the place of a series' clips by this model; return embedding ids.

        The series becomes EMBEDDED, or SKIPPED when there are no clips, unless it changed since
        `revision`: then the clips serve until the next round. Clips of an older revision than
        those kept change nothing and get no ids. Raises BadVector and UnknownKey, and
        OtherGeneration where another model's vectors answer.
        """
        vectors = [unit_rows(clip.vector)[0] for clip in clips]
        with self.writing() as connection:
            check_answering(connection, model_id)
            if not _gives_way(connection, series_id, revision, model_id):
                return ()
            if not clips:
                reason = "It holds nothing that can be embedded."
                put_aside(connection, series_id, revision, Event.SKIP, reason)
                return ()
            ids = _replace(connection, series_id, revision, model_id, clips, vectors)
            move_series(connection, series_id, revision, Event.EMBED)
            return ids

    def fill_clips(
        self, series_id: int, revision: int, model_id: str, clips: Sequence[ClipRecord]
    ) -> tuple[int, ...]:
        """Put clips in the place of a series' clips by a model that need not answer (yet).

        The series stays as it is; else as `save_clips`.
        """
        vectors = [unit_rows(clip.vector)[0] for clip in clips]
        with self.writing() as connection:
            if not _gives_way(connection, series_id, revision, model_id) or not clips:
                return ()
            return _replace(connection, series_id, revision, model_id, clips, vectors)

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

    def series_vectors(self, series_id: int, model_id: str, revision: int) -> Vectors:
        """Return a series' vectors (N, D) by a model at a revision, in the order of its clips."""
        with self.reading() as connection:
            rows = connection.execute(
                select(Embedding.vector)
                .join_from(Embedding, Clip, Embedding.clip_id == Clip.id)
                .where(
                    Clip.series_id == series_id,
                    Embedding.model_id == model_id,
                    Embedding.revision == revision,
                )
                .order_by(Clip.position)
            ).scalars()
            stored = [np.frombuffer(vector, STORED) for vector in rows]
        return np.stack(stored).astype(np.float32) if stored else np.empty((0, 0), np.float32)

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


def _packed(clip: ClipRecord) -> Packed | None:
    return None if clip.parts is None else pack(clip.parts, clip.sources)


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


def _gives_way(connection: Connection, series_id: int, revision: int, model_id: str) -> bool:
    """Tell whether a series has no vectors by a model of a later revision; raises UnknownKey."""
    held_series(connection, series_id)  # or its study was forgotten meanwhile
    later = select(_of_series(series_id, model_id).where(Embedding.revision > revision).exists())
    return not connection.execute(later).scalar_one()


def _of_series(series_id: int, model_id: str) -> Select[int]:
    return (
        select(Embedding.id)
        .join_from(Embedding, Clip, Embedding.clip_id == Clip.id)
        .where(Clip.series_id == series_id, Embedding.model_id == model_id)
    )


def _replace(
    connection: Connection,
    series_id: int,
    revision: int,
    model_id: str,
    clips: Sequence[ClipRecord],
    vectors: Sequence[Vectors],
) -> tuple[int, ...]:
    """Delete a series' vectors by a model and insert these; return their ids."""
    kept = connection.execute(_of_series(series_id, model_id)).scalars().all()
    connection.execute(delete(Embedding).where(Embedding.id.in_(kept)))
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
    _insert_parts(connection, ids, [_packed(clip) for clip in clips])
    _delete_bare_clips(connection, series_id)
    return ids


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


def unfitness(stored: bytes, dim: int) -> str:
    """Return why a vector as it is stored cannot be compared with; "" where it can."""
    if len(stored) != dim * STORED.itemsize:
        return f"it has {len(stored)} bytes, not {dim * STORED.itemsize}"
    try:
        unit_rows(np.frombuffer(stored, STORED), dim)
    except BadVector as error:
        return error.reason
    return ""
