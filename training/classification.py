"""Which images are told into which classes, and how well that went: balanced accuracy.

Owns: `Choice`, how choices come from the rows of a manifest, balanced accuracy with what chance and
the commonest class reach. Does not own: who chooses (`few_shot`, `zero_shot`).

Balanced accuracy is the mean over the classes of the share of their items that are told right.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from training.findings import Figure, Row
from training.manifest import Item, Split
from training.resampling import Array, Units, interval, resampled_sums, units_of
from training.tasks import Names, NotScorable, Rows, names, rows_of

Right = NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class Choice:
    """One source: rows of the items that are told into `classes`, and of those to learn from.

    `labels` (T,) are the right classes of the `tested`, `units` (T,) their patients. Nobody of
    whom an item is tested is learnt from. `commonest` is the commonest class of the learnt.
    """

    name: str
    tested: Rows
    learnt: Rows
    labels: Names
    units: Units
    classes: tuple[str, ...]
    commonest: str


def choices(items: Sequence[Item]) -> tuple[list[Choice], list[NotScorable]]:
    """Make a choice of every source: eval items are told into the classes of its train items.

    Where a source has no train part, into the classes of its eval items. Eval items of a class
    that is not among them are left out, as are items without a label.
    """
    made: list[Choice] = []
    left_out: list[NotScorable] = []
    for source in sorted({item.source for item in items}):
        of_source = [row for row, item in enumerate(items) if item.source == source and item.label]
        found = _choice(source, items, of_source)
        if isinstance(found, Choice):
            made.append(found)
        else:
            left_out.append(NotScorable(source, found))
    return made, left_out


def _choice(source: str, items: Sequence[Item], of_source: Sequence[int]) -> Choice | str:
    """Make the choice of one source, or say why there is none."""
    labels, patients = names(items, "label"), names(items, "patient_id")
    asked = rows_of(row for row in of_source if items[row].split is Split.EVAL)
    trained = rows_of(row for row in of_source if items[row].split is Split.TRAIN)
    known = set(patients[asked]) - {""}
    learnt = rows_of(row for row in trained if patients[row] not in known)
    if not asked.size:
        return "no labelled item of the eval split"
    classes, counts = np.unique(labels[learnt if learnt.size else asked], return_counts=True)
    if len(classes) < 2:
        return "there is one class only: every choice is right"
    tested = asked[np.isin(labels[asked], classes)]
    if not tested.size:
        return "no eval item is of a class of the train items"
    return Choice(
        name=source,
        tested=tested,
        learnt=learnt,
        labels=labels[tested],
        units=units_of(patients[tested]),
        classes=tuple(map(str, classes)),
        commonest=str(classes[counts.argmax()]),
    )


@dataclass(frozen=True, slots=True)
class Accuracy:
    """Balanced accuracy of a choice, and what it was in every resample (RESAMPLES,), if any."""

    value: float
    drawn: Array | None
    chance: float
    majority: float


def accuracy(choice: Choice, right: Right, *, seed: int = 0) -> Accuracy:
    """Score what was told right (S, T) in S repetitions: their mean.

    Patients and, where there are several, repetitions are drawn anew; a class that a draw does not
    bring does not count in it. The same seed draws the same for all methods of a choice, and other
    numbers for each choice.
    """
    present, label = np.unique(choice.labels, return_inverse=True)
    member = label[:, None] == np.arange(len(present))
    told = right[:, :, None] * member
    value = float((told.sum(axis=1) / member.sum(axis=0)).mean())
    drawn = None
    if len(np.unique(choice.units)) > 1:
        random = np.random.default_rng([seed, *choice.name.encode()])
        drawn = _resampled(told.astype(np.float64), member, choice.units, random)
    majority = float(choice.commonest in present) / len(present)
    return Accuracy(value, drawn, 1 / len(choice.classes), majority)


def _resampled(told: Array, member: Right, units: Units, random: np.random.Generator) -> Array:
    """Draw patients and repetitions of what was told right (S, T, C) anew: (RESAMPLES,)."""
    repeated, count, classes = told.shape
    flat = told.transpose(1, 0, 2).reshape(count, repeated * classes)
    sums = resampled_sums(np.concatenate([flat, member], axis=1), units, random)
    right, sizes = sums[:, : repeated * classes], sums[:, repeated * classes :]
    share = np.full(repeated, 1 / repeated)
    weights = random.multinomial(repeated, share, size=len(sums))
    total = np.einsum("rsc,rs->rc", right.reshape(-1, repeated, classes), weights)
    asked = repeated * sizes
    recall = np.divide(total, asked, out=np.full(total.shape, np.nan), where=asked > 0)
    drawn: Array = np.nanmean(recall, axis=1)
    return drawn


def row(choice: Choice, method: str, accuracies: dict[str, Accuracy]) -> Row:
    """Lay out the accuracies of one method on one choice, by their names."""
    figures = {name: figure([one]) for name, one in accuracies.items()}
    return Row(choice.name, method, len(choice.tested), len(np.unique(choice.units)), figures)


def figure(accuracies: Sequence[Accuracy]) -> Figure:
    """Average accuracies of several choices with equal weight (macro)."""
    drawn = [one.drawn for one in accuracies if one.drawn is not None]
    bounds = None
    if len(drawn) == len(accuracies):
        (bounds,) = interval(np.mean(drawn, axis=0)[:, None])
    return Figure(
        value=float(np.mean([one.value for one in accuracies])),
        interval=bounds,
        chance=float(np.mean([one.chance for one in accuracies])),
        majority=float(np.mean([one.majority for one in accuracies])),
    )


def macro(found: Mapping[str, Sequence[dict[str, Accuracy]]]) -> list[Row]:
    """Average each method that has accuracies of as many choices as the first."""
    most = len(next(iter(found.values())))
    rows: list[Row] = []
    for method, each in found.items():
        if len(each) == most:
            figures = {name: figure([one[name] for one in each]) for name in each[0]}
            rows.append(Row("macro", method, None, None, figures))
    return rows
