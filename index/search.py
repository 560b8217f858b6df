"""The search policy: which earlier studies look like this one.

The same for every index: over-fetch candidates, filter them in memory, one case per study, exact
scores, the best of them again by their parts (`rerank`), equal scores in order of Study Instance
UID. A graph misses most at the end of what it finds, and there lies what a filter leaves if that is
far from the query. So only the nearest quarter of it is trusted: where the k-th study lies deeper,
more is asked for, or all allowed vectors are compared, whichever costs less. What is shown is read
from the catalogue last, in one statement, and checked once more against it: a study that has just
gone to another patient is not shown for the facets being a moment older.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from index.catalogue import Catalogue
from index.changes import Bookmark
from index.config import IndexConfig
from index.errors import BadQuery
from index.facets import Facets
from index.gallery import CaseRow, Conditions, conditions
from index.near_duplicates import groups
from index.records import Case, Query, Ranking
from index.rerank import DEPTH, Found, rerank
from index.vectors import Candidates, Effort, Ids, VectorIndex, Vectors

MAX_K = 1_000
_FIRST_CANDIDATES = 40
_TRUSTED = 4  # one in so many that a graph found: the nearest of them
_GROWTH = 2
_ROWS_PER_CANDIDATE = 6  # compared in the time that a graph takes to find one more
_LOOKED_THROUGH = 2_500  # studies, for k that differ
_DECIMALS = 6  # float32 products in another order differ by less
_FOLLOWED = 512  # changes that one search waits for
_ROUNDS = 3  # rankings of one search, while the catalogue changes beneath it


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


@dataclass(frozen=True, slots=True, eq=False)
class _Ranked:
    """Cases with the scores behind them.

    `level`: the catalogue stands as it was looked at; `whole`: enough studies were looked at.
    """

    best: _Best
    cases: tuple[Case, ...]
    level: bool
    whole: bool


class Search:
    """Ranks the studies of a catalogue by the vectors of an index."""

    def __init__(
        self, catalogue: Catalogue, index: VectorIndex, config: IndexConfig | None = None
    ) -> None:
        self._catalogue = catalogue
        self._index = index
        self._config = config or IndexConfig()
        self._facets = Facets(index.model_id)

    @property
    def model_id(self) -> str:
        """The model whose vectors are searched."""
        return self._index.model_id

    def follow(self) -> None:
        """Come level with the catalogue, so that no search has to."""
        self._facets.follow(self._catalogue)

    def _follow(self) -> Bookmark:
        return self._facets.follow(self._catalogue, limit=_FOLLOWED)

    @property
    def dim(self) -> int:
        """The length of its vectors."""
        return self._index.dim

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
        if query.parts and len(query.parts) != len(query.vectors):
            raise BadQuery("parts", f"there are {len(query.parts)}, one for each vector is needed")
        wanted = conditions(query)
        standing = self._facets.bookmark or self._facets.follow(self._catalogue)
        for _ in range(_ROUNDS):
            ranked = self._distinct(query, wanted, standing)
            before = standing
            if ranked.level or before == (standing := self._follow()):
                break
        best = ranked.best
        return Ranking(
            cases=ranked.cases,
            complete=ranked.level and ranked.whole and best.complete and self._indexed(),
            exact=best.exact,
            model_id=self._index.model_id,
            searched=len(self._index),
        )

    def _indexed(self) -> bool:
        """Tell whether the index has all vectors that are known to the facets."""
        newest = self._facets.newest()
        return len(self._facets) <= len(self._index) and (newest < 0 or newest in self._index)

    def _distinct(self, query: Query, wanted: Conditions, standing: Bookmark) -> _Ranked:
        """Rank ever more studies until k of them differ, if near-duplicates are one case."""
        if query.near_duplicate is None:
            best = self._best_studies(query, wanted)
            found, level = self._found(query, wanted, best, standing)
            return _Ranked(best, tuple(each.case for each in found), level, whole=True)
        asked = replace(query, k=query.k + 1)  # the last ends the group before it
        best = self._best_studies(asked, wanted)
        while True:
            found, level = self._found(asked, wanted, best, standing)
            ids, vectors = self._catalogue.vectors([each.id for each in found])
            level &= len(ids) == len(found)  # else one was deleted just now
            found = [each for each in found if each.id in ids]
            rows = groups(vectors, k=query.k, threshold=query.near_duplicate)
            settled = len(rows) > query.k or len(found) < asked.k
            if settled or not level or asked.k >= _LOOKED_THROUGH:
                shown = [tuple(found[row] for row in group) for group in rows[: query.k]]
                return _Ranked(best, _cases(shown), level, whole=settled)
            asked = replace(asked, k=min(2 * asked.k, _LOOKED_THROUGH))
            if not best.exact:
                best = self._best_studies(asked, wanted)

    def _best_studies(self, query: Query, wanted: Conditions) -> _Best:
        """Rank at least k studies, or all that are allowed."""
        best = None
        if query.effort is not Effort.EXACT and wanted.studies is None:
            best = self._among_candidates(query, wanted)
        if best is None:
            best = self._best(query, self._facets.allowed(wanted), exact=True)
        return best

    def _among_candidates(self, query: Query, wanted: Conditions) -> _Best | None:
        """Rank ever more candidates of the index; None where comparing all allowed costs less."""
        index, config = self._index, self._config
        first = count = max(_FIRST_CANDIDATES, config.overfetch * _depth(query))
        while count <= min(config.max_candidates, len(index) // _ROWS_PER_CANDIDATE):
            found = [index.candidates(row, count, effort=query.effort) for row in query.vectors]
            ids = found[0].ids
            if len(found) > 1:
                ids = np.unique(np.concatenate([each.ids for each in found]))
            passed = self._facets.filtered(ids, wanted)
            # One vector's candidates have their exact scores; of several, each has one with all.
            known = found[0].scores[None, passed] if len(found) == 1 else None
            exact = all(each.exact for each in found)
            best = self._best(query, ids[passed], known, exact=exact)
            # A vector that was not found scores no higher than the last that is trusted.
            unseen = [
                each.scores[_trusted(each, first) - 1]
                for each in found
                if len(each.ids) < len(index)
            ]
            if _settled(query, best, float(max(unseen, default=-np.inf))):
                return best
            if exact or count >= config.max_candidates:
                return None
            count = min(max(_enough(query, best, each) for each in found), config.max_candidates)
            cheap = max(config.exact_below, _ROWS_PER_CANDIDATE * count)
            few = self._facets.few_allowed(wanted, cheap)
            if few is not None:
                return self._best(query, few, exact=True)
        return None

    def _best(self, query: Query, ids: Ids, pairs: Vectors | None = None, *, exact: bool) -> _Best:
        """Keep the best of each study; `pairs` are the scores (M, N), where they are known."""
        if pairs is None:
            pairs = self._index.among(query.vectors, ids)
        pairs = pairs.round(_DECIMALS)
        query_rows, scores = pairs.argmax(axis=0), pairs.max(axis=0)
        complete = bool((scores > -np.inf).all())  # the index lacks the others
        order = self._first_of_each(scores, ids, _studies(query))
        return _Best(scores[order], ids[order], query_rows[order], exact, complete)

    def _first_of_each(self, scores: Vectors, ids: Ids, studies: int) -> Ids:
        """Return where the best of each study is, for so many studies or more, all if fewer."""
        count = studies
        while True:
            count *= 8
            near = np.arange(len(scores))
            if count < len(scores):  # those that score the same as the last are needed too
                near = np.flatnonzero(scores >= np.partition(scores, -count)[-count])
            order = near[np.lexsort((ids[near], -scores[near]))]
            order = order[scores[order] > -np.inf]
            _, firsts = np.unique(self._facets.studies(ids[order]), return_index=True)
            if len(firsts) >= studies or len(near) == len(scores):
                return order[np.sort(firsts)]

    def _found(
        self, query: Query, wanted: Conditions, best: _Best, standing: Bookmark
    ) -> tuple[Sequence[Found], bool]:
        """Return the first k as the catalogue knows them; False if it has changed."""
        least, depth = -np.inf if query.min_score is None else query.min_score, _depth(query)
        if len(best.scores) > depth:
            # Whoever scores the same as the last one may come before it by its UID.
            least = max(least, best.scores[depth - 1])
        enough = np.count_nonzero(best.scores >= least)
        scores, ids, query_rows = (
            each[:enough].tolist() for each in (best.scores, best.ids, best.query_rows)
        )
        rows, unread = self._catalogue.case_rows(ids, standing)
        hits = [
            (min(score, 1.0), rows[key], query_row)
            for score, key, query_row in zip(scores, ids, query_rows, strict=True)
            if key in rows and wanted.pass_row(rows[key])  # else it was changed just now
        ]
        hits.sort(key=lambda hit: (-hit[0], hit[1].study_instance_uid))
        found = [Found(hit[1].id, _case(rank, *hit)) for rank, hit in enumerate(hits[:depth], 1)]
        return rerank(found, query, self._catalogue) if query.parts else found, unread == 0


def _settled(query: Query, best: _Best, unseen: float) -> bool:
    """Tell whether nothing unseen, which scores `unseen` at most, can change the ranking."""
    unseen += 10.0**-_DECIMALS
    if query.min_score is not None and unseen < query.min_score:
        return True
    depth = _depth(query)
    return unseen == -np.inf or bool(len(best.scores) >= depth and best.scores[depth - 1] > unseen)


def _trusted(found: Candidates, first: int) -> int:
    """Return how many of the candidates are likely to be the nearest without a gap.

    Of a graph's, the `first` that are asked for: the effort is measured for them.
    """
    reached = len(found.ids)
    return reached if found.exact else min(reached, max(first, reached // _TRUSTED))


def _enough(query: Query, best: _Best, found: Candidates) -> int:
    """Return how many candidates to ask for next, so that the last wanted study is trusted."""
    depth, reached = _depth(query), len(found.ids)
    last = best.scores[depth - 1] if len(best.scores) >= depth else -np.inf
    above = int(np.count_nonzero(found.scores.round(_DECIMALS) >= last))
    deep = above if above < reached else _GROWTH * reached
    # One more for each that is trusted: what was missed comes before it.
    return max((_TRUSTED + 1) * deep, _GROWTH * reached)


def _depth(query: Query) -> int:
    """Return how many studies must be known by their clips to rank the first k."""
    return max(query.k, DEPTH) if query.parts and query.part_weight else query.k


def _studies(query: Query) -> int:
    """Return how many studies are ranked at once: more where near-duplicates may be among them."""
    return _depth(query) if query.near_duplicate is None else _LOOKED_THROUGH


def _cases(grouped: Sequence[Sequence[Found]]) -> tuple[Case, ...]:
    """Return the first of each group as a case that lists the others."""
    return tuple(
        replace(
            first.case,
            rank=rank,
            near_duplicates=tuple(each.case.study_instance_uid for each in others),
        )
        for rank, (first, *others) in enumerate(grouped, start=1)
    )


def _case(rank: int, score: float, row: CaseRow, query_row: int) -> Case:
    return Case(
        rank=rank,
        score=score,
        study_instance_uid=row.study_instance_uid,
        series_instance_uid=row.series_instance_uid,
        sop_instance_uid=row.middle_source,
        query_clip=query_row,
        kind=row.kind,
        modality=row.modality,
        body_part=row.body_part_examined,
        study_date=row.study_date,
        study_description=row.study_description,
        patient_id=row.patient_id,
        issuer_of_patient_id=row.issuer_of_patient_id,
        patient_sex=row.patient_sex,
        patient_age=row.patient_age,
    )
