"""The question behind every answer: which kept cases look like this one?

C-FIND, reports and the command line all ask through here, so that they rank alike.
"""

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from index.catalogue import Catalogue
from index.records import PatientKey, Query, Ranking, StudyVectors
from index.search import Search


@dataclass(frozen=True, slots=True, kw_only=True)
class Filters:
    """What an answer may contain; None lets everything pass."""

    k: int
    modality: str | None = None
    body_part: str | None = None
    patient_sex: str | None = None
    date_from: str | None = None
    date_to: str | None = None
    same_patient: bool = False
    minimum_score: float | None = None
    near_duplicate: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Example:
    """What to compare with: unit vectors (M, D), and whose they are."""

    vectors: NDArray[np.float32]
    study_instance_uid: str
    patient: PatientKey


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
    query = _part(whole, series, instance) if whole is not None else None
    if query is None:
        return None
    example = Example(
        vectors=query.vectors, study_instance_uid=study_instance_uid, patient=query.patient
    )
    return Answered(query, similar_to_vectors(search, example, filters))


def _part(query: StudyVectors, series: str, instance: str) -> StudyVectors | None:
    """Return the vectors of one series, of the clips that hold one instance, or None."""
    rows = [
        number
        for number, row in enumerate(query.rows)
        if series in ("", row.series_instance_uid) and (not instance or instance in row.sources)
    ]
    if not rows:
        return None
    return replace(
        query, vectors=query.vectors[rows], rows=tuple(query.rows[number] for number in rows)
    )


def similar_to_vectors(search: Search, example: Example, filters: Filters) -> Ranking:
    """Rank the kept studies by likeness to an example, which need not be kept itself."""
    return search.similar(
        Query(
            vectors=example.vectors,
            k=filters.k,
            modality=filters.modality,
            body_part=filters.body_part,
            patient_sex=filters.patient_sex,
            date_from=filters.date_from,
            date_to=filters.date_to,
            exclude_patient=None if filters.same_patient else example.patient,
            exclude_study_uid=example.study_instance_uid,
            min_score=filters.minimum_score,
            near_duplicate=filters.near_duplicate,
        )
    )
