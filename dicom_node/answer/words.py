"""The question in words: which kept cases are what a sentence says, be it beside an example?

C-FIND, HTTP and the command line all ask through here. The sentence is in no log and no message.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from dicom_node.answer.query import Example, Filters, similar_to_vectors
from dicom_node.answer.verdict import Judged, judge, judge_beside
from dicom_node.errors import QueryRefused
from dicom_node.words.space import Words, WordSearch
from index.catalogue import Catalogue
from index.records import Case, PatientKey, Ranking, StudyVectors
from index.vectors import Vectors

_DECIMALS = 6


@dataclass(frozen=True, slots=True, eq=False)
class Sentence:
    """A sentence, an example it goes with if there is one, and the share of the sentence then."""

    text: str
    example: Example | None = None
    weight: float = 1.0


@dataclass(frozen=True, slots=True)
class Told:
    """What a sentence has found, and how far it was understood.

    `judged` is None where the words weigh nothing beside an example.
    """

    ranking: Ranking
    judged: Judged | None


def similar_to_words(search: WordSearch, sentence: Sentence, filters: Filters) -> Told:
    """Rank the kept studies by likeness to a sentence, or to a sentence and an example.

    Scores are the cosines that two images as rarely have by chance (`Words.alike`); beside an
    example by the share of the sentence, the rest are cosines as they are. Raises `BadText`.
    """
    text = search.words.texts([sentence.text])
    example = sentence.example
    # Near in the space is alike in meaning, which is no near-duplicate; parts are not in it.
    plain = replace(filters, part_weight=0.0, near_duplicate=None, minimum_score=None)
    asked = Example(
        vectors=_mixed(search.words, text, sentence),
        study_instance_uid="" if example is None else example.study_instance_uid,
        patient=PatientKey("") if example is None else example.patient,
    )
    ranking = similar_to_vectors(search.search, asked, plain)
    judged: Judged | None = None
    if example is None:
        judged = _judged(search, sentence.text, text, ranking)
    elif sentence.weight:  # what the example is like says nothing of the words
        alone = similar_to_vectors(search.search, replace(asked, vectors=text), replace(plain, k=1))
        read = search.words.understanding(sentence.text)
        judged = judge_beside(read, search.words, best=_best(alone))
    answered = ranking.cases if judged is None or judged.has_cases else ()
    least = -np.inf if filters.minimum_score is None else filters.minimum_score
    cases = _read(search.words, answered, sentence)
    kept = tuple(case for case in cases if case.score >= least)
    complete = ranking.complete and not search.lacking
    return Told(replace(ranking, cases=kept, complete=complete), judged)


def _judged(search: WordSearch, sentence: str, text: Vectors, ranking: Ranking) -> Judged:
    """Judge a sentence alone; filters may hide what it says, and that makes it no foreign one."""
    words, best = search.words, _best(ranking)
    read = words.understanding(sentence)
    best_of_all = best
    if not read.known and best is not None and best < words.floor:
        everyone = Example(vectors=text, study_instance_uid="", patient=PatientKey(""))
        best_of_all = _best(similar_to_vectors(search.search, everyone, Filters(k=1)))
    return judge(read, words, best=best, best_of_all=best_of_all)


def _best(ranking: Ranking) -> float | None:
    return ranking.cases[0].score if ranking.cases else None


def example_of(catalogue: Catalogue, study: StudyVectors) -> Example:
    """Return a kept study, or some of its vectors, as an example that words may go with."""
    modality = {
        series.series_instance_uid: series.modality
        for series in catalogue.matching_series(study.study_instance_uid, ())
    }
    return Example(
        vectors=study.vectors,
        study_instance_uid=study.study_instance_uid,
        patient=study.patient,
        modalities=tuple(modality.get(row.series_instance_uid, "") for row in study.rows),
    )


def _mixed(words: Words, text: Vectors, sentence: Sentence) -> Vectors:
    """Return a sentence (1, D), or what lies between it and each vector of its example."""
    if sentence.example is None:
        return text
    images = words.images(sentence.example.vectors, sentence.example.modalities)
    mixed = sentence.weight * text + (1.0 - sentence.weight) * images
    lengths = np.linalg.norm(mixed, axis=1, keepdims=True)
    if not (lengths > 0).all():
        raise QueryRefused("words and example say the opposite: give one of them")
    unit: Vectors = (mixed / lengths).astype(np.float32)
    return unit


def _read(words: Words, cases: Sequence[Case], sentence: Sentence) -> list[Case]:
    """Return cases with scores that read as those of images."""
    if not cases:
        return []
    share = 1.0 if sentence.example is None else sentence.weight
    cosines = np.array([case.score for case in cases])
    scores = share * words.alike(cosines) + (1.0 - share) * cosines
    return [
        replace(case, score=round(float(score), _DECIMALS))
        for case, score in zip(cases, scores, strict=True)
    ]
