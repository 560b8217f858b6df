"""The second look at the best cases: part by part instead of clip by clip.

Owns the measure and how it is mixed with the likeness of whole clips. Does not own which cases are
looked at (`search`), where parts are kept (`parts`).

MaxSim (ColBERT, arXiv:2004.12832): every part of the query takes the part of the case that is most
like it, and the mean of these cosines is how like the two are. What it is worth stands in
training/LOG.md.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from index.part_vectors import PartVectors
from index.parts import ClipParts, PartPlace, restored
from index.records import Case, Query
from index.vectors import Vectors

DEPTH = 100  # cases looked at, or as many as are asked for
_DECIMALS = 6  # float32 products in another order differ by less

Steps = Mapping[int, NDArray[np.int8]]


@dataclass(frozen=True, slots=True, eq=False)
class Found:
    """A case found by its clip: the id of its embedding, and what is known of it."""

    id: int
    case: Case


@dataclass(frozen=True, slots=True, eq=False)
class Alike:
    """How like each of N cases a query is, with the two parts (N,) that are most alike."""

    scores: Vectors
    query_parts: NDArray[np.intp]
    case_parts: NDArray[np.intp]


@dataclass(frozen=True, slots=True)
class _Pair:
    """A case by its new score, with its best pair of parts where it has parts."""

    score: float
    found: Found
    query_part: PartPlace | None = None
    case_part: int | None = None


def max_sim(query: Vectors, cases: Sequence[NDArray[np.int8]]) -> Alike:
    """Compare the parts (Q, D) of a query with those (P, D) of each of N cases, at least one."""
    starts = np.cumsum([0, *map(len, cases)])
    cosines = query @ restored(np.concatenate(cases)).T
    scores = np.maximum.reduceat(cosines, starts[:-1], axis=1).mean(axis=0)
    best = cosines.max(axis=0)
    case_parts = np.array([best[start:stop].argmax() for start, stop in pairwise(starts)])
    return Alike(scores, cosines[:, starts[:-1] + case_parts].argmax(axis=0), case_parts)


def rerank(found: Sequence[Found], query: Query, catalogue: PartVectors) -> tuple[Found, ...]:
    """Return the best k of the cases found, by falling score, with the parts that match best.

    A score is the cosine of the clips and, by the query's `part_weight`, the likeness of their
    parts; a case without parts keeps its cosine. Scores below `min_score` are left out.
    """
    steps = catalogue.part_steps([each.id for each in found])
    pairs: list[_Pair] = []
    for row, parts in enumerate(query.parts):
        of_row = [each for each in found if each.case.query_clip == row]
        pairs += _scored(of_row, parts, steps, query.part_weight)
    if query.min_score is not None:
        pairs = [pair for pair in pairs if pair.score >= query.min_score]
    pairs.sort(key=lambda pair: (-pair.score, pair.found.case.study_instance_uid))
    shown = pairs[: query.k]
    places = catalogue.part_places([pair.found.id for pair in shown if pair.case_part is not None])
    return tuple(
        Found(pair.found.id, _case(rank, pair, places.get(pair.found.id)))
        for rank, pair in enumerate(shown, start=1)
    )


def _case(rank: int, pair: _Pair, places: tuple[PartPlace | None, ...] | None) -> Case:
    """Point the case at its best part, if it has one."""
    case = replace(pair.found.case, rank=rank, score=pair.score, query_part=pair.query_part)
    place = None if places is None or pair.case_part is None else places[pair.case_part]
    if place is None:
        return case
    return replace(case, case_part=place, sop_instance_uid=place.sop_instance_uid)


def _scored(
    found: Sequence[Found], query: ClipParts | None, steps: Steps, weight: float
) -> list[_Pair]:
    """Score the cases that match one row of the query best."""
    if query is None:
        return [_Pair(each.case.score, each) for each in found]
    fitting = {key for key, rows in steps.items() if rows.shape[1] == query.vectors.shape[1]}
    known = [each for each in found if each.id in fitting]
    plain = [_Pair(each.case.score, each) for each in found if each.id not in fitting]
    if not known:
        return plain
    alike = max_sim(query.vectors, [steps[each.id] for each in known])
    of_clips = np.array([each.case.score for each in known])
    mixed = (1 - weight) * of_clips + weight * alike.scores
    return plain + [
        _Pair(float(score), each, query.places[query_part], int(case_part))
        for score, each, query_part, case_part in zip(
            mixed.round(_DECIMALS), known, alike.query_parts, alike.case_parts, strict=True
        )
    ]
