"""The question behind every answer: which kept cases look like this one?

C-FIND, reports and the command line all ask through here, so that they rank alike.
"""

from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import islice

import numpy as np
from numpy.typing import NDArray

from dicom_node.config import Scope
from index.catalogue import Catalogue
from index.gallery import same_patient
from index.matches import SeriesRow
from index.parts import ClipParts
from index.records import Case, PatientKey, Query, Ranking, StudyVectors
from index.refine import refined
from index.search import MAX_K, Search
from index.vectors import Effort


@dataclass(frozen=True, slots=True, kw_only=True)
class Filters:
    """What an answer may contain, None lets everything pass; every field as in `Query`."""

    k: int
    modality: str | None = None
    body_part: str | None = None
    patient_sex: str | None = None
    date_from: str | None = None
    date_to: str | None = None
    age_from_years: int | None = None
    age_to_years: int | None = None
    institution: str | None = None
    description: str | None = None
    effort: Effort = Effort.NORMAL
    same_patient: bool = False
    minimum_score: float | None = None
    part_weight: float = 0.0
    near_duplicate: float | None = None
    studies: frozenset[str] | None = None


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Example:
    """What to compare with: unit vectors (M, D), and whose they are; `parts` as in `Query`.

    `modalities`, one for each vector, are needed beside words. A `part_weight` takes the place of
    that of the filters.
    """

    vectors: NDArray[np.float32]
    study_instance_uid: str
    patient: PatientKey
    parts: tuple[ClipParts | None, ...] = ()
    modalities: tuple[str, ...] = ()
    part_weight: float | None = None


@dataclass(frozen=True, slots=True)
class Answered:
    """A query study's vectors and the cases found for them."""

    query: StudyVectors
    ranking: Ranking


def similar_to_study(
    catalogue: Catalogue,
    search: Search,
    study_instance_uid: str,
    filters: Filters,
    *,
    series: str = "",
    instance: str = "",
) -> Answered | None:
    """Rank the other studies by likeness to this one, or to what a series or instance gave of it.

    None for a study that the catalogue lacks, or that has no such vector (yet) to compare by.
    """
    whole = catalogue.study_query(study_instance_uid, search.model_id)
    query = part_of(whole, series, instance) if whole is not None else None
    if query is None:
        return None
    example = Example(
        vectors=query.vectors,
        study_instance_uid=study_instance_uid,
        patient=query.patient,
        parts=query.parts,
    )
    return Answered(query, similar_to_vectors(search, example, filters))


# What cases must share with the series whose vectors they are compared with.
_SHARED: dict[Scope, Callable[[Filters, SeriesRow], Filters]] = {
    Scope.SAME_MODALITY: lambda filters, series: replace(filters, modality=series.modality),
    Scope.SAME_BODY_PART: lambda filters, series: replace(
        filters, body_part=series.body_part_examined
    ),
}


def similar_in_scope(
    catalogue: Catalogue,
    search: Search,
    study_instance_uid: str,
    filters: Filters,
    *,
    scope: Scope,
) -> Answered | None:
    """Rank as `similar_to_study`; the vectors of each series find what `scope` allows them.

    A series that does not say what its cases must share finds none.
    """
    filters = replace(filters, same_patient=scope is Scope.ALL)
    shared = _SHARED.get(scope)
    if shared is None:
        return similar_to_study(catalogue, search, study_instance_uid, filters)
    query = catalogue.study_query(study_instance_uid, search.model_id)
    if query is None:
        return None
    limited = {
        series.series_instance_uid: shared(filters, series)
        for series in catalogue.matching_series(study_instance_uid, ())
    }
    rows: defaultdict[Filters, list[int]] = defaultdict(list)
    for number, row in enumerate(query.rows):
        if allowed := limited.get(row.series_instance_uid):
            rows[allowed].append(number)
    rankings = [
        _of_rows(search, query, numbers, allowed)
        for allowed, numbers in rows.items()
        if "" not in (allowed.modality, allowed.body_part)
    ]
    return Answered(query, _merged(rankings, filters.k, search.model_id))


def _of_rows(search: Search, query: StudyVectors, rows: list[int], filters: Filters) -> Ranking:
    """Rank by some of a study's vectors; the cases say which row of all it was."""
    example = Example(
        vectors=query.vectors[rows],
        study_instance_uid=query.study_instance_uid,
        patient=query.patient,
        parts=tuple(query.parts[row] for row in rows),
    )
    ranking = similar_to_vectors(search, example, filters)
    cases = tuple(replace(case, query_clip=rows[case.query_clip]) for case in ranking.cases)
    return replace(ranking, cases=cases)


def _merged(rankings: Sequence[Ranking], k: int, model_id: str) -> Ranking:
    """Return the best k of several rankings, each study and its near-duplicates once."""
    best: dict[str, Case] = {}
    shown: set[str] = set()  # as a case or among its near-duplicates
    for case in sorted(
        (case for ranking in rankings for case in ranking.cases), key=lambda case: -case.score
    ):
        uid = case.study_instance_uid
        if uid not in shown and best.keys().isdisjoint(case.near_duplicates):
            best[uid] = case
            shown.update((uid, *case.near_duplicates))
    return Ranking(
        cases=tuple(replace(case, rank=n) for n, case in enumerate(islice(best.values(), k), 1)),
        complete=all(ranking.complete for ranking in rankings),
        exact=all(ranking.exact for ranking in rankings),
        model_id=model_id,
        searched=max((ranking.searched for ranking in rankings), default=0),
    )


def part_of(query: StudyVectors, series: str, instance: str) -> StudyVectors | None:
    """Return the vectors of one series, of the clips that hold one instance, or None."""
    rows = [
        number
        for number, row in enumerate(query.rows)
        if series in ("", row.series_instance_uid) and (not instance or instance in row.sources)
    ]
    if not rows:
        return None
    return replace(
        query,
        vectors=query.vectors[rows],
        rows=tuple(query.rows[number] for number in rows),
        parts=tuple(query.parts[number] for number in rows),
    )


def similar_to_examples(
    search: Search, wanted: Sequence[Example], unwanted: Sequence[Example], filters: Filters
) -> Ranking:
    """Rank the kept studies by likeness to some examples and unlikeness to others.

    The studies of no example are answered, nor those of their patients unless these are let in.
    With several examples near-duplicates are cases of their own: one group may mix what is to be
    left out with what is not.
    """
    if len(wanted) == 1 and not unwanted:
        return similar_to_vectors(search, wanted[0], filters)
    toward, away = (
        np.concatenate([np.empty((0, search.dim), np.float32), *(each.vectors for each in some)])
        for some in (wanted, unwanted)
    )
    query = replace(wanted[0], vectors=refined(toward, away), parts=())
    examples = (*wanted, *unwanted)
    asked, apart = filters.k, replace(filters, near_duplicate=None)
    while True:
        ranking = similar_to_vectors(search, query, replace(apart, k=min(asked, MAX_K)))
        others = [case for case in ranking.cases if not _is_own(case, examples, filters)]
        if len(others) >= filters.k or len(ranking.cases) < asked:
            kept = enumerate(others[: filters.k], start=1)
            return replace(ranking, cases=tuple(replace(case, rank=rank) for rank, case in kept))
        asked *= 2


def _is_own(case: Case, examples: Sequence[Example], filters: Filters) -> bool:
    """Whether a case is of an example's study or patient; an issuer counts where both have one."""
    return any(
        case.study_instance_uid == example.study_instance_uid
        or (
            not filters.same_patient
            and example.patient.patient_id != ""
            and same_patient(example.patient, case)
        )
        for example in examples
    )


def similar_to_vectors(search: Search, example: Example, filters: Filters) -> Ranking:
    """Rank the kept studies by likeness to an example, which need not be kept itself."""
    return search.similar(
        Query(
            vectors=example.vectors,
            parts=example.parts,
            part_weight=(
                filters.part_weight if example.part_weight is None else example.part_weight
            ),
            k=filters.k,
            modality=filters.modality,
            body_part=filters.body_part,
            patient_sex=filters.patient_sex,
            date_from=filters.date_from,
            date_to=filters.date_to,
            age_from_years=filters.age_from_years,
            age_to_years=filters.age_to_years,
            institution=filters.institution,
            description=filters.description,
            effort=filters.effort,
            exclude_patient=None if filters.same_patient else example.patient,
            exclude_study_uid=example.study_instance_uid,
            min_score=filters.minimum_score,
            near_duplicate=filters.near_duplicate,
            studies=filters.studies,
        )
    )
