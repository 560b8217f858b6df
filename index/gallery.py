"""What a search may find: the filters of a query, as SQL, and the cases behind the ids.

Owns the meaning of the filters. Knows no scores.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from sqlalchemy import ColumnElement, Row, and_, not_, select

from index.db import Database
from index.embeddings import chunks
from index.models import Clip, Embedding, Series, Study
from index.records import Query
from index.vectors import Ids


@dataclass(frozen=True, slots=True, eq=False)
class Allowed:
    """Embedding ids (N,) that pass the filters, and the key of each one's study (N,)."""

    ids: Ids
    studies: Ids


class Gallery(Database):
    """The part of the catalogue that a search looks into."""

    def allowed(
        self,
        query: Query,
        model_id: str,
        *,
        ids: Ids | None = None,
        limit: int | None = None,
    ) -> Allowed:
        """Return the vectors that pass a query's filters, of `ids` or of all; at most `limit`."""
        wanted = (
            select(Embedding.id, Series.study_id)
            .join_from(Embedding, Clip, Embedding.clip_id == Clip.id)
            .join(Series, Clip.series_id == Series.id)
            .join(Study, Series.study_id == Study.id)
            .where(Embedding.model_id == model_id, *_filters(query))
            .limit(limit)
        )
        with self.reading() as connection:
            if ids is None:
                rows = connection.execute(wanted).all()
            else:
                rows = [
                    row
                    for part in chunks(ids.tolist())
                    for row in connection.execute(wanted.where(Embedding.id.in_(part)))
                ]
        table = np.array([tuple(row) for row in rows], dtype=np.int64).reshape(-1, 2)
        return Allowed(table[:, 0], table[:, 1])

    def case_rows(self, ids: Sequence[int]) -> dict[int, Row[*tuple[Any, ...]]]:
        """Return by embedding id what a case tells of its clip, series and study."""
        wanted = (
            select(
                Embedding.id,
                Embedding.vector,
                Clip.kind,
                Clip.sources,
                Series.series_instance_uid,
                Series.modality,
                Series.body_part_examined,
                Study.study_instance_uid,
                Study.study_date,
                Study.study_description,
                Study.patient_id,
                Study.issuer_of_patient_id,
                Study.patient_sex,
                Study.patient_age,
            )
            .join_from(Embedding, Clip, Embedding.clip_id == Clip.id)
            .join(Series, Clip.series_id == Series.id)
            .join(Study, Series.study_id == Study.id)
        )
        with self.reading() as connection:
            return {
                row.id: row
                for part in chunks(ids)
                for row in connection.execute(wanted.where(Embedding.id.in_(part)))
            }


def _filters(query: Query) -> list[ColumnElement[bool]]:
    conditions: list[ColumnElement[bool]] = [Study.guest.is_(False)]
    if query.modality is not None:
        conditions.append(Series.modality == query.modality)
    if query.body_part is not None:
        conditions.append(Series.body_part_examined == query.body_part)
    if query.patient_sex is not None:
        conditions.append(Study.patient_sex == query.patient_sex)
    if query.date_from is not None:
        conditions.append(Study.study_date >= query.date_from)
    if query.date_to is not None:
        conditions.append(and_(Study.study_date <= query.date_to, Study.study_date != ""))
    if query.exclude_study_uid is not None:
        conditions.append(Study.study_instance_uid != query.exclude_study_uid)
    patient = query.exclude_patient
    if patient is not None and patient.patient_id:  # two without an id are not one person
        same = [Study.patient_id == patient.patient_id]
        if patient.issuer_of_patient_id:  # who does not say who issued it may mean the same
            same.append(Study.issuer_of_patient_id.in_([patient.issuer_of_patient_id, ""]))
        conditions.append(not_(and_(*same)))
    return conditions
