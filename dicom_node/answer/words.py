"""The question in words: which kept cases are what a sentence says, be it beside an example?

C-FIND, HTTP and the command line all ask through here. The sentence is in no log and no message.
"""

from dataclasses import dataclass, replace
from itertools import chain

import numpy as np

from dicom_node.answer.query import Example, Filters, similar_to_vectors
from dicom_node.answer.verdict import Judged, judge, judge_beside
from dicom_node.errors import QueryRefused
from dicom_node.words.space import Words, WordSearch
from encoder.lexicon import Understood
from index.catalogue import Catalogue
from index.records import Case, PatientKey, Ranking, StudyVectors
from index.search import MAX_K, Search
from index.vectors import Vectors

_DECIMALS = 6
_OVERFETCH = 5  # candidates, for each case that is asked for, where some will not do


@dataclass(frozen=True, slots=True, eq=False)
class Beside:
    """An example that a sentence goes with, where images are searched, and the sentence's share.

    `version` names the encoder of these images.
    """

    example: Example
    images: Search
    weight: float
    version: str


@dataclass(frozen=True, slots=True, eq=False)
class Sentence:
    """A sentence, alone or beside an example."""

    text: str
    beside: Beside | None = None


@dataclass(frozen=True, slots=True)
class Told:
    """What a sentence has found, how far it was understood, and what ranked: space or encoder."""

    ranking: Ranking
    judged: Judged
    version: str


def similar_to_words(search: WordSearch, sentence: Sentence, filters: Filters) -> Told:
    """Rank the kept studies by likeness to a sentence, or to a sentence and an example.

    Scores are the cosines that two images as rarely have by chance (`Words.alike`), beside an
    example mixed with its cosines by the share of the sentence. Raises `BadText`.
    """
    text = search.words.texts([sentence.text])
    read = search.words.understanding(sentence.text)
    beside = sentence.beside
    if beside is not None and not (read.says_something and beside.weight):  # words take no share
        ranking = similar_to_vectors(beside.images, beside.example, filters)
        return Told(ranking, judge_beside(read, search.words, best=None), beside.version)
    # Near in the space is alike in meaning, which is no near-duplicate.
    plain = replace(filters, near_duplicate=None, minimum_score=None)
    if beside is None:
        told = _by_words(search, _asked(text), read, plain)
    else:
        plain = replace(plain, k=min(_OVERFETCH * filters.k, MAX_K))
        told = _by_both(search, _asked(text, beside.example), read, beside, plain)
    ranking = told.ranking
    least = -np.inf if filters.minimum_score is None else filters.minimum_score
    kept = tuple(case for case in ranking.cases[: filters.k] if case.score >= least)
    complete = ranking.complete and not search.lacking
    return replace(told, ranking=replace(ranking, cases=kept, complete=complete))


def _asked(text: Vectors, example: Example | None = None) -> Example:
    """Return the vector of a sentence to search with, for other patients than of its example."""
    if example is None:
        return Example(vectors=text, study_instance_uid="", patient=PatientKey(""))
    return Example(
        vectors=text, study_instance_uid=example.study_instance_uid, patient=example.patient
    )


def _by_words(search: WordSearch, asked: Example, read: Understood, filters: Filters) -> Told:
    if read.unlike:
        filters = replace(filters, k=min(_OVERFETCH * filters.k, MAX_K))
    ranking = similar_to_vectors(search.search, asked, filters)
    # Where a CT is asked for, and CT was learned, an endoscopy that is near is none.
    cases = tuple(case for case in ranking.cases if case.modality not in read.unlike)
    best = cases[0].score if cases else None
    judged = judge(read, search.words, best=best, others=bool(ranking.cases and not cases))
    if not judged.has_cases:
        cases = ()
    ranked = [replace(case, rank=rank) for rank, case in enumerate(cases, start=1)]
    ranking = replace(ranking, cases=_read(search.words, tuple(ranked)))
    return Told(ranking, judged, search.words.version)


def _by_both(
    search: WordSearch, asked: Example, read: Understood, beside: Beside, filters: Filters
) -> Told:
    ranking = similar_to_vectors(search.search, asked, filters)
    judged = judge_beside(read, search.words, best=_best(ranking))
    return Told(_both(search, ranking, asked, beside, filters), judged, search.words.version)


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
        parts=study.parts,
        modalities=tuple(modality.get(row.series_instance_uid, "") for row in study.rows),
    )


def _both(
    search: WordSearch, by_words: Ranking, asked: Example, beside: Beside, filters: Filters
) -> Ranking:
    """Rank by the score of the sentence and that of the example, mixed by their shares.

    Each score is the one that its side gives when it is asked alone: so the answer goes over to
    that of the example as the share of the sentence goes to 0, to that of the sentence as it goes
    to 1, and scores read as those of images in between.
    """
    rankings = (by_words, *_found_else(search, asked, beside, filters))
    found = sorted(chain.from_iterable(each.cases for each in rankings), key=lambda c: c.rank)
    uids = list(dict.fromkeys(case.study_instance_uid for case in found))[:MAX_K]
    if not uids:
        return by_words
    these = replace(filters, k=len(uids), studies=frozenset(uids))
    images = similar_to_vectors(beside.images, beside.example, these).cases
    said = {
        case.study_instance_uid: case.score
        for case in _read(search.words, similar_to_vectors(search.search, asked, these).cases)
    }
    mixed = [
        replace(case, score=_share(beside.weight, said[case.study_instance_uid], case.score))
        for case in images  # whose series and part it is that the example is most like
        if case.study_instance_uid in said
    ]
    mixed.sort(key=lambda case: (-case.score, case.study_instance_uid))
    return Ranking(
        cases=tuple(replace(case, rank=rank) for rank, case in enumerate(mixed, start=1)),
        complete=all(each.complete for each in rankings) and len(mixed) == len(uids),
        exact=all(each.exact and len(each.cases) < filters.k for each in rankings),
        model_id=by_words.model_id,
        searched=by_words.searched,
    )


def _found_else(
    search: WordSearch, asked: Example, beside: Beside, filters: Filters
) -> tuple[Ranking, Ranking]:
    """Return who is like the example, and who is near to what lies between it and the sentence.

    The latter, for who is good by both need be among the best of neither.
    """
    between = replace(asked, vectors=_mixed(search.words, asked.vectors, beside))
    return (
        similar_to_vectors(beside.images, beside.example, filters),
        similar_to_vectors(search.search, between, filters),
    )


def _mixed(words: Words, text: Vectors, beside: Beside) -> Vectors:
    """Return what lies between a sentence (1, D) and each vector of its example."""
    images = words.images(beside.example.vectors, beside.example.modalities)
    mixed = beside.weight * text + (1.0 - beside.weight) * images
    lengths = np.linalg.norm(mixed, axis=1, keepdims=True)
    if not (lengths > 0).all():
        raise QueryRefused("words and example say the opposite: give one of them")
    unit: Vectors = (mixed / lengths).astype(np.float32)
    return unit


def _read(words: Words, cases: tuple[Case, ...]) -> tuple[Case, ...]:
    """Return cases with scores that read as those of images."""
    if not cases:
        return ()
    scores = words.alike(np.array([case.score for case in cases]))
    return tuple(
        replace(case, score=round(float(score), _DECIMALS))
        for case, score in zip(cases, scores, strict=True)
    )


def _share(weight: float, word: float, image: float) -> float:
    return round(weight * word + (1.0 - weight) * image, _DECIMALS)
