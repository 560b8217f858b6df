"""The search policy: which earlier studies look like this one.

The same for every index: over-fetch candidates, filter in SQL, one case per study, exact scores,
equal scores in order of Study Instance UID. Where the filters leave few vectors, or candidates do
not suffice, all allowed vectors are compared instead.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np
from sqlalchemy import Row

from index.catalogue import Catalogue
from index.config import IndexConfig
from index.embeddings import STORED
from index.errors import BadQuery
from index.gallery import Allowed
from index.near_duplicates import groups
from index.records import Case, Query, Ranking
from index.vectors import Ids, VectorIndex, Vectors, unit_rows

MAX_K = 1_000
_FIRST_CANDIDATES = 40
_GROWTH = 4
_LOOKED_THROUGH = 2_500  # studies, for k that differ
_DECIMALS = 6  # float32 products in another order differ by less


@dataclass(frozen=True, slots=True, eq=False)
class _Best:
    """The best pair of each study, by falling score: all arrays are (S,).

    `exact`: no allowed vector was left out; `complete`: none was unknown to the index.
    """

    scores: Vectors
    ids: Ids
    query_rows: Ids
    exact: bool
    complete: bool


class _Hit(NamedTuple):
    """A study: how near, what the catalogue says of its best clip, and which query row that met."""

    score: float
    row: Row[*tuple[Any, ...]]
    query_row: int


class Search:
    """Ranks the studies of a catalogue by the vectors of an index."""

    def __init__(
        self, catalogue: Catalogue, index: VectorIndex, config: IndexConfig | None = None
    ) -> None:
        self._catalogue = catalogue
        self._index = index
        self._config = config or IndexConfig()

    @property
    def model_id(self) -> str:
        """The model whose vectors are searched."""
        return self._index.model_id

    def similar(self, query: Query) -> Ranking:
        """Return the min(k, available) nearest studies that pass the filters, nearest first.

        A study's score is that of its best pair of clip and query row. Near-duplicates count as
        one case, if the query says how near that is. Raises BadQuery for a k
        outside 1..1000, BadVector for vectors that are not unit rows of the index's length.
        """
        if not 1 <= query.k <= MAX_K:
            raise BadQuery("k", f"it is {query.k}, and must be between 1 and {MAX_K}")
        if not len(query.vectors):
            raise BadQuery("vectors", "there are none")
        query = replace(query, vectors=unit_rows(query.vectors, self._index.dim))
        best, cases, distinct = self._distinct(query)
        newest = self._catalogue.newest_embedding(self._index.model_id)
        return Ranking(
            cases=cases,
            complete=distinct and best.complete and (newest is None or newest in self._index),
            exact=best.exact,
            model_id=self._index.model_id,
            searched=len(self._index),
        )

    def _distinct(self, query: Query) -> tuple[_Best, tuple[Case, ...], bool]:
        """Rank ever more studies until k of them differ; False where some were not looked at."""
        if query.near_duplicate is None:
            best = self._best_studies(query)
            return best, _cases([(hit,) for hit in self._hits(query, best)]), True
        asked = replace(query, k=query.k + 1)  # the last ends the group before it
        best = self._best_studies(asked)
        while True:
            hits = self._hits(asked, best)
            vectors = np.frombuffer(b"".join(hit.row.vector for hit in hits), STORED)
            vectors = vectors.reshape(-1, self._index.dim)
            rows = groups(vectors, k=query.k, threshold=query.near_duplicate)
            settled = len(rows) > query.k or len(hits) < asked.k
            if settled or asked.k >= _LOOKED_THROUGH:
                shown = [tuple(hits[row] for row in group) for group in rows[: query.k]]
                return best, _cases(shown), settled
            asked = replace(asked, k=min(2 * asked.k, _LOOKED_THROUGH))
            if not best.exact:
                best = self._best_studies(asked)

    def _best_studies(self, query: Query) -> _Best:
        """Rank at least k studies, or all that are allowed."""
        best = self._among_candidates(query)
        if best is None:
            allowed = self._catalogue.allowed(query, self._index.model_id)
            best = self._best(query, allowed, exact=True)
        return best

    def _among_candidates(self, query: Query) -> _Best | None:
        """Rank ever more candidates of the index; None when that does not lead to an end."""
        index, config = self._index, self._config
        first = max(_FIRST_CANDIDATES, config.overfetch * query.k)
        wanted = first
        while wanted <= config.max_candidates:
            found = [index.candidates(vector, wanted) for vector in query.vectors]
            ids = np.unique(np.concatenate([each.ids for each in found]))
            allowed = self._catalogue.allowed(query, index.model_id, ids=ids)
            best = self._best(query, allowed, exact=all(each.exact for each in found))
            # A vector that was not found scores no higher than the last that was.
            unseen = [each.scores[-1] for each in found if len(each.ids) < len(index)]
            if _settled(query, best, float(max(unseen, default=-np.inf))):
                return best
            if wanted == first and _selective(query):
                limit = config.exact_below + 1
                allowed = self._catalogue.allowed(query, index.model_id, limit=limit)
                if len(allowed.ids) < limit:
                    return self._best(query, allowed, exact=True)
            wanted *= _GROWTH
        return None

    def _best(self, query: Query, allowed: Allowed, *, exact: bool) -> _Best:
        """Score allowed vectors exactly and keep the best of each study."""
        pairs = self._index.among(query.vectors, allowed.ids).round(_DECIMALS)
        query_rows = pairs.argmax(axis=0) if len(allowed.ids) else np.empty(0, np.int64)
        scores = pairs.max(axis=0, initial=-np.inf)
        complete = bool(np.isfinite(scores).all())
        order = np.lexsort((allowed.ids, -scores))
        order = order[np.isfinite(scores[order])]
        _, firsts = np.unique(allowed.studies[order], return_index=True)
        order = order[np.sort(firsts)]
        return _Best(scores[order], allowed.ids[order], query_rows[order], exact, complete)

    def _hits(self, query: Query, best: _Best) -> list[_Hit]:
        """Return the first k, with what the catalogue knows of them."""
        if not len(best.ids):
            return []
        # Whoever scores the same as the last one may come before it by its UID.
        last = best.scores[min(query.k, len(best.scores)) - 1]
        enough = best.scores >= max(last, -np.inf if query.min_score is None else query.min_score)
        rows = self._catalogue.case_rows(best.ids[enough].tolist())
        hits = [
            _Hit(float(score), rows[key], int(query_row))
            for score, key, query_row in zip(
                best.scores[enough], best.ids[enough].tolist(), best.query_rows[enough], strict=True
            )
            if key in rows  # else it was deleted just now
        ]
        hits.sort(key=lambda hit: (-hit.score, hit.row.study_instance_uid))
        return hits[: query.k]


def _settled(query: Query, best: _Best, unseen: float) -> bool:
    """Tell whether nothing unseen, which scores `unseen` at most, can change the ranking."""
    unseen += 10.0**-_DECIMALS
    if query.min_score is not None and unseen < query.min_score:
        return True
    return unseen == -np.inf or int((best.scores > unseen).sum()) >= query.k


def _selective(query: Query) -> bool:
    return any(
        value is not None
        for value in (
            query.modality,
            query.body_part,
            query.patient_sex,
            query.date_from,
            query.date_to,
        )
    )


def _cases(grouped: Sequence[tuple[_Hit, ...]]) -> tuple[Case, ...]:
    """Return the first hit of each group as a case that lists the others."""
    return tuple(
        _case(rank, first, tuple(hit.row.study_instance_uid for hit in others))
        for rank, (first, *others) in enumerate(grouped, start=1)
    )


def _case(rank: int, hit: _Hit, near_duplicates: tuple[str, ...]) -> Case:
    row = hit.row
    return Case(
        rank=rank,
        score=hit.score,
        study_instance_uid=row.study_instance_uid,
        series_instance_uid=row.series_instance_uid,
        sop_instance_uid=row.sources[len(row.sources) // 2] if row.sources else "",
        query_clip=hit.query_row,
        kind=row.kind,
        modality=row.modality,
        body_part=row.body_part_examined,
        study_date=row.study_date,
        study_description=row.study_description,
        patient_id=row.patient_id,
        issuer_of_patient_id=row.issuer_of_patient_id,
        patient_sex=row.patient_sex,
        patient_age=row.patient_age,
        near_duplicates=near_duplicates,
    )
