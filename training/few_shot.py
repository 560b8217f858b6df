"""Classes learnt from a few images each, on vectors of an encoder that stays as it is.

Owns: which shots are drawn, the two heads. Does not own: who is tested and the score
(`classification`), the fit of a regression (`logistic`).
Sources: prototypes are the means of classes, the nearest by Euclidean distance wins
(arXiv:1703.05175); logistic regression on frozen features as for CLIP (arXiv:2103.00020).
"""

from collections.abc import Callable, Mapping

import numpy as np
from numpy.typing import NDArray

from training import logistic
from training.baselines import Matrix
from training.classification import Accuracy, Choice, accuracy, choices, macro, row
from training.evaluate import Embedded
from training.findings import Findings, Row
from training.scores import unit_rows
from training.tasks import NotScorable, Rows, nothing_of

SHOTS = (1, 2, 4, 8, 16)
DRAWS = 20
RULE = (
    "balanced accuracy of the eval items of each source, told into the classes of its train items "
    "from 1, 2, 4, 8 and 16 of these a class (all, where there are fewer), the same for every "
    f"encoder, of no patient who is tested; mean of {DRAWS} draws, 95 % over patients and draws"
)

Labels = NDArray[np.intp]
Head = Callable[[Matrix, Labels, Matrix], Labels]


def prototypes(shots: Matrix, labels: Labels, tested: Matrix) -> Labels:
    """Tell vectors (T, D) into the class whose mean of shots (S, D) is nearest."""
    means = np.stack([shots[labels == number].mean(axis=0) for number in range(labels.max() + 1)])
    distances = np.square(tested[:, None] - means).sum(axis=2)
    nearest: Labels = distances.argmin(axis=1)
    return nearest


def regression(shots: Matrix, labels: Labels, tested: Matrix) -> Labels:
    """Tell vectors (T, D) into the likeliest class by logistic regression on shots (S, D)."""
    fitted = logistic.fit(shots, labels, int(labels.max()) + 1)
    likeliest: Labels = fitted.scores(tested).argmax(axis=1)
    return likeliest


HEADS: dict[str, Head] = {"prototypes": prototypes, "logistic regression": regression}


def few_shot(embedded: Mapping[str, Embedded], *, seed: int = 0) -> Findings:
    """Score every encoder, by its name, with every head; all have the same items.

    Raises NothingToScore where no source has classes to learn.
    """
    first = next(iter(embedded.values()))
    scored, left_out = choices(first.items)
    for choice in scored:
        if not choice.learnt.size:
            left_out.append(NotScorable(choice.name, "no train item to learn from"))
    scored = [choice for choice in scored if choice.learnt.size]
    if not scored:
        raise nothing_of(left_out)
    labels = np.array([item.label for item in first.items])
    rows: list[Row] = []
    found: dict[str, list[dict[str, Accuracy]]] = {}
    for choice in scored:
        for name, each in embedded.items():
            for head in HEADS:
                one = learnt(choice, each.vectors, labels, HEADS[head], seed=seed)
                rows.append(row(choice, f"{name}, {head}", one))
                found.setdefault(f"{name}, {head}", []).append(one)
    return Findings(
        task="few-shot",
        rule=RULE,
        rows=(*rows, *macro(found)),
        model_ids={name: each.model_id for name, each in embedded.items()},
        unreadable=tuple(dict.fromkeys(one for e in embedded.values() for one in e.unreadable)),
        not_scorable=tuple(left_out),
    )


def learnt(
    choice: Choice, vectors: Matrix, labels: NDArray[np.str_], head: Head, *, seed: int
) -> dict[str, Accuracy]:
    """Score a head by the number of shots; `vectors` (N, D) and `labels` (N,) are of all items."""
    unit = unit_rows(vectors)
    numbers = np.searchsorted(choice.classes, labels)
    scores: dict[str, Accuracy] = {}
    for count in SHOTS:
        drawn = shots(choice, labels, count, seed=seed)
        told = np.stack([head(unit[rows], numbers[rows], unit[choice.tested]) for rows in drawn])
        scores[f"{count}-shot"] = accuracy(choice, told == numbers[choice.tested], seed=seed)
    return scores


def shots(choice: Choice, labels: NDArray[np.str_], count: int, *, seed: int) -> list[Rows]:
    """Draw `count` learnt items of every class, DRAWS times; more shots hold the fewer."""
    drawn: list[Rows] = []
    for number in range(DRAWS):
        random = np.random.default_rng((seed, number))
        orders = [random.permutation(choice.learnt[labels[choice.learnt] == name])
                  for name in choice.classes]  # fmt: skip
        drawn.append(np.concatenate([order[:count] for order in orders]))
    return drawn
