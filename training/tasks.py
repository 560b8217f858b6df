"""Who is asked about what: the queries, the gallery and what counts as a hit.

Owns: `Task` and how tasks come from the rows of a manifest. Does not own: vectors and numbers
(`scores`).
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from itertools import permutations

import numpy as np
from numpy.typing import NDArray

from training.captions import finding
from training.errors import NothingToScore
from training.manifest import Item, Split

Rows = NDArray[np.intp]
Names = NDArray[np.str_]


class Hit(StrEnum):
    """What makes an item of another modality a hit."""

    BODY_PART = "body-part"
    FINDING = "finding"
    PATIENT = "patient"


@dataclass(frozen=True, slots=True)
class Task:
    """Queries and gallery as rows of the items, with what is compared.

    `classes` (N,) makes a hit where it is the same. `patients` (N,) takes the query's own patient
    out of its gallery; an empty one is unknown and nobody's. `rule` says all this in words.
    """

    name: str
    queries: Rows
    gallery: Rows
    classes: Names
    patients: Names
    rule: str


@dataclass(frozen=True, slots=True)
class NotScorable:
    """A source that gives no score, and why."""

    name: str
    reason: str


Asking = Callable[[Sequence[Item]], tuple[list[Task], list[NotScorable]]]

AS_GIVEN = "query: eval items, gallery: train items of the source; hit: same label"
LEAVE_ONE_OUT = "query: each eval item, gallery: all the others; hit: same label"


def by_source(items: Sequence[Item]) -> tuple[list[Task], list[NotScorable]]:
    """Make a task of every source: eval items ask, train items of the same source answer.

    A source without a train part is asked leave-one-out. One without an eval part is not scored:
    its items may have been trained on. Items without a label neither ask nor answer.
    """
    tasks: list[Task] = []
    left_out: list[NotScorable] = []
    labels, patients = names(items, "label"), names(items, "patient_id")
    for source in sorted({item.source for item in items}):
        of_source = [row for row, item in enumerate(items) if item.source == source and item.label]
        asked = rows_of(row for row in of_source if items[row].split is Split.EVAL)
        trained = rows_of(row for row in of_source if items[row].split is Split.TRAIN)
        gallery, rule = (trained, AS_GIVEN) if trained.size else (asked, LEAVE_ONE_OUT)
        if reason := _why_not(labels, asked, gallery):
            left_out.append(NotScorable(source, reason))
        else:
            tasks.append(Task(source, asked, gallery, labels, patients, rule))
    return tasks, left_out


def across(items: Sequence[Item], asking: str, answering: str, hit: Hit) -> Task:
    """Make the task that asks with one modality and is answered by another.

    Eval items of both: heads may have learned train items with the very labels that make a hit.
    The query's own patient is left out, but with `Hit.PATIENT` it is what is looked for.
    Raises NothingToScore where either side has no item with what is compared.
    """
    by_patient, what = hit is Hit.PATIENT, hit.replace("-", " ")
    classes = _compared(items, hit)
    patients = np.full(len(items), "") if by_patient else names(items, "patient_id")
    known = [row for row, item in enumerate(items) if classes[row] and item.split is Split.EVAL]
    asked, gallery = (
        rows_of(row for row in known if items[row].modality == modality)
        for modality in (asking, answering)
    )
    name = f"{asking}:{answering}"
    for modality, rows in ((asking, asked), (answering, gallery)):
        if not rows.size:
            raise NothingToScore(f"{name}: no eval item of {modality} has a {what}")
    kept = "the same patient" if by_patient else f"same {what}, the query's own patient left out"
    rule = f"query: eval items of {asking}, gallery: eval items of {answering}; hit: {kept}"
    return Task(name, asked, gallery, classes, patients, rule)


def pair(asking: str, answering: str, hit: Hit) -> Asking:
    """Return how the one task of two modalities is made of items; that raises as `across`."""
    return lambda items: ([across(items, asking, answering, hit)], [])


def every_pair(items: Sequence[Item]) -> tuple[list[Task], list[NotScorable]]:
    """Make a task of every two modalities that share a body part or a finding, both ways."""
    tasks: list[Task] = []
    left_out: list[NotScorable] = []
    modalities = sorted({item.modality for item in items})
    for asking, answering in permutations(modalities, 2):
        for hit in (Hit.BODY_PART, Hit.FINDING):
            try:
                task = across(items, asking, answering, hit)
            except NothingToScore:
                continue  # one of them has nothing to compare by
            task = replace(task, name=f"{task.name} by {hit.replace('-', ' ')}")
            shared = set(task.classes[task.queries]) & set(task.classes[task.gallery])
            if reason := _why_not(task.classes, task.queries, task.gallery) if shared else "":
                left_out.append(NotScorable(task.name, reason))
            elif shared:
                tasks.append(task)
    return tasks, left_out


def names(items: Sequence[Item], column: str) -> Names:
    """Return one column of the items as an array (N,)."""
    return np.array([getattr(item, column) for item in items], dtype=np.str_)


def _compared(items: Sequence[Item], hit: Hit) -> Names:
    """Return what makes a hit of each item (N,), empty where it is unknown."""
    if hit is Hit.FINDING:
        return np.array([finding(item.label) for item in items], dtype=np.str_)
    return names(items, "patient_id" if hit is Hit.PATIENT else "body_part")


def nothing_of(left_out: Sequence[NotScorable]) -> NothingToScore:
    """Return the error that says why nothing at all can be scored."""
    reasons = "; ".join(f"{one.name}: {one.reason}" for one in left_out)
    return NothingToScore(reasons or "no item")


def rows_of(rows: Iterable[int]) -> Rows:
    """Return row numbers as an array."""
    return np.fromiter(rows, dtype=np.intp)


def _why_not(labels: Names, asked: Rows, gallery: Rows) -> str:
    """Say why a source gives no score, or nothing."""
    if not asked.size:
        return "no labelled item of the eval split"
    if len(set(labels[gallery])) < 2:
        return "the gallery has one class only: every answer is right"
    if not set(labels[asked]) & set(labels[gallery]):
        return "no class of the queries is in the gallery"
    return ""
