"""What the right answers are: every vector compared, under the policy of the product.

Knows nothing of the product's code: own patient out, filter, the best of each study, the first k.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from clusters import DAYS, DIM, Archive, Rows, Vectors, patient_id, unit

from index.records import PatientKey, Query

_BLOCK = 32  # questions compared at once: 128 MB of scores at a million vectors
_JITTER = 0.1  # length of what makes a kept vector a new one


@dataclass(frozen=True, slots=True)
class Question:
    """A vector (D,) and the patient who asks."""

    vector: Vectors
    patient: int

    def query(self, k: int, asked: Mapping[str, str]) -> Query:
        """Return it for the product."""
        patient = PatientKey(patient_id(self.patient))
        return Query(vectors=self.vector[None], k=k, exclude_patient=patient, **asked)


@dataclass(frozen=True, slots=True)
class Filter:
    """What is asked for, and which studies (S,) of the archive pass."""

    asked: Mapping[str, str]
    passes: np.ndarray

    def share(self, archive: Archive) -> float:
        """Return how much of the kept rows pass."""
        return float(self.passes[archive.tree.study[: archive.size]].mean())


def filters(archive: Archive) -> dict[str, Filter]:
    """Return filters by name: a modality is mostly far from the question, dates are anywhere."""
    everything = np.ones(len(archive.date), dtype=np.bool_)
    found = {"none": Filter({}, everything)}
    for modality in ("CT", "MG", "NM"):
        found[modality] = Filter({"modality": modality}, archive.modality == modality)
    for share in (0.30, 0.05, 0.01):
        last = str(archive.date_of(int(share * DAYS) - 1))
        found[f"until {last}"] = Filter({"date_to": last}, archive.date <= last)
    return found


def make_questions(archive: Archive, count: int) -> list[Question]:
    """Return kept vectors, a little moved, and vectors of patients of whom nothing is kept."""
    rng = np.random.default_rng(1)
    tree = archive.tree
    strangers = np.flatnonzero(tree.patient > tree.patient[archive.known - 1])
    rows = np.concatenate(
        [
            rng.choice(archive.size, count // 2, replace=False),
            rng.choice(strangers, count - count // 2, replace=False),
        ]
    )
    moved = archive.vectors[rows]
    moved[: count // 2] += rng.standard_normal((count // 2, DIM), np.float32) * _JITTER / DIM**0.5
    asked = [
        Question(vector, int(patient))
        for vector, patient in zip(unit(moved), tree.patient[rows], strict=True)
    ]
    return [asked[number] for number in rng.permutation(count)]


def scores(archive: Archive, questions: Sequence[Question]) -> Iterator[tuple[Question, Vectors]]:
    """Yield each question and its score against every kept row."""
    for start in range(0, len(questions), _BLOCK):
        block = questions[start : start + _BLOCK]
        found = np.stack([q.vector for q in block]) @ archive.vectors[: archive.size].T
        yield from zip(block, found, strict=True)


def nearest_rows(found: Vectors, k: int) -> Rows:
    """Return the k best rows, whoever's they are."""
    return np.argpartition(-found, k)[:k]


def nearest_studies(
    archive: Archive, question: Question, found: Vectors, wanted: Filter, k: int
) -> Rows:
    """Return the k best studies that pass, by number; fewer where fewer pass."""
    tree = archive.tree
    study, patient = tree.study[: archive.size], tree.patient[: archive.size]
    passing = np.where(wanted.passes[study] & (patient != question.patient), found, -np.inf)
    firsts = np.flatnonzero(np.diff(study, prepend=-1))
    best = np.maximum.reduceat(passing, firsts)
    order = np.argpartition(-best, k)[:k]
    return study[firsts[order[np.isfinite(best[order])]]]


def recall(found: Sequence[object], expected: Sequence[object]) -> float:
    """Return how much of what is right was found."""
    return len(set(found) & set(expected)) / max(len(set(expected)), 1)
