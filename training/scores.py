"""Retrieval scores: how often the nearest items are of the query's kind.

Owns: ranking by cosine, the metrics, what chance and the commonest class would reach, and RankMe.
Does not own: who is asked about what (`tasks`), vectors (`evaluate`), who is drawn anew for an
interval (`resampling`). NumPy only.

Of one query, with rel(i) = 1 where the i-th item of its ranking is a hit, R hits in its gallery:
    any-hit R@k = 1 if any of rel(1..k) else 0
    P@k         = (rel(1) + ... + rel(k)) / k, also where the gallery is shorter than k
    AP@10       = sum over i = 1..10 of P@i * rel(i), divided by min(R, 10)
Scores are means over the queries; mAP@10 is the mean of AP@10. A query with R = 0 cannot be
answered: it is left out and counted. Equal cosines keep the order of the gallery.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from training.errors import NothingToScore
from training.resampling import interval, resampled_means, units_of
from training.tasks import Task

Array = NDArray[np.float64]
Matrix = NDArray[np.float32]

CUTS = (1, 5, 10)
DEPTH = 10
METRICS = (*(f"R@{k}" for k in CUTS), *(f"P@{k}" for k in CUTS), "mAP@10")
_QUERIES_AT_ONCE = 512


@dataclass(frozen=True, slots=True)
class Score:
    """Scores by the names of METRICS, each with its 95 % interval (None: one patient only)."""

    values: dict[str, float]
    intervals: dict[str, tuple[float, float]] | None


@dataclass(frozen=True, slots=True)
class Judged:
    """One task, asked of one set of vectors.

    `queries` are the rows that could be answered, `top` (Q, DEPTH) the rows that answer them (-1
    where there are fewer), `hits` (Q, DEPTH) which of these are right, `metrics` (Q, M) in the
    order of METRICS, `units` (Q,) who was resampled: patients, or items where none is known.
    """

    task: Task
    queries: NDArray[np.intp]
    top: NDArray[np.intp]
    hits: NDArray[np.bool_]
    metrics: Array
    units: NDArray[np.intp]
    chance: Array
    majority: Array
    rankme: float

    @property
    def unanswerable(self) -> int:
        """How many queries have no hit in their gallery and are left out."""
        return len(self.task.queries) - len(self.queries)


def judge(vectors: Matrix, task: Task) -> Judged:
    """Ask every query of a task; `vectors` (N, D) are of all items and need no unit length.

    Raises NothingToScore where no query has a hit in its gallery.
    """
    unit = unit_rows(vectors)
    answers = ask(unit, task)
    common = _commonest(task.classes[task.gallery])
    return Judged(
        task=task,
        queries=answers.queries,
        top=answers.top,
        hits=answers.hits,
        metrics=metrics_of(answers.hits, answers.relevant),
        units=units_of(task.patients[answers.queries]),
        chance=chance_of(answers.relevant, answers.sizes).mean(axis=0),
        majority=_majority(task.classes[answers.queries] == common, answers.relevant).mean(axis=0),
        rankme=rankme(unit[np.union1d(task.queries, task.gallery)]),
    )


@dataclass(frozen=True, slots=True)
class Answers:
    """The queries (Q,) that have a hit in their gallery, and what they got.

    `top` and `hits` as in `Judged`; `relevant` (Q,) counts the hits there are, `sizes` (Q,) the
    items in the gallery of each.
    """

    queries: NDArray[np.intp]
    top: NDArray[np.intp]
    hits: NDArray[np.bool_]
    relevant: NDArray[np.intp]
    sizes: NDArray[np.intp]


def ask(unit: Matrix, task: Task) -> Answers:
    """Rank the gallery for every query; `unit` (N, D) has rows of length 1.

    Raises NothingToScore where no query has a hit in its gallery.
    """
    chunks = [_ask(unit, task, rows) for rows in _chunks(task.queries)]
    columns = [np.concatenate(column) for column in zip(*chunks, strict=True)]
    answerable = columns[2] > 0
    if not answerable.any():
        raise NothingToScore(f"{task.name}: no query has an item of its class from another patient")
    top, hits, relevant, sizes = (column[answerable] for column in columns)
    return Answers(task.queries[answerable], top, hits, relevant, sizes)


def unit_rows(vectors: Matrix) -> Matrix:
    """Bring every row to length 1; a row of zeros stays."""
    lengths: Matrix = np.linalg.norm(vectors, axis=1, keepdims=True).astype(np.float32)
    lengths[lengths == 0] = 1
    return vectors / lengths


def _chunks(rows: NDArray[np.intp]) -> Iterator[NDArray[np.intp]]:
    for start in range(0, len(rows), _QUERIES_AT_ONCE):
        yield rows[start : start + _QUERIES_AT_ONCE]


def _ask(
    unit: Matrix, task: Task, rows: NDArray[np.intp]
) -> tuple[NDArray[np.intp], NDArray[np.bool_], NDArray[np.intp], NDArray[np.intp]]:
    """Rank the gallery for some queries: best rows, hits, hits there are, size of the gallery."""
    patients, gallery = task.patients, task.gallery
    own = (patients[rows, None] == patients[gallery]) & (patients[rows, None] != "")
    allowed = ~own & (rows[:, None] != gallery)
    relevant = allowed & (task.classes[rows, None] == task.classes[gallery])
    cosines = np.where(allowed, unit[rows] @ unit[gallery].T, -np.inf)
    order = np.argsort(-cosines, axis=1, kind="stable")[:, :DEPTH]
    shown = np.take_along_axis(allowed, order, axis=1)
    top = np.full((len(rows), DEPTH), -1, dtype=np.intp)
    hits = np.zeros((len(rows), DEPTH), dtype=np.bool_)
    top[:, : order.shape[1]] = np.where(shown, gallery[order], -1)
    hits[:, : order.shape[1]] = np.take_along_axis(relevant, order, axis=1)
    return top, hits, relevant.sum(axis=1), allowed.sum(axis=1)


def metrics_of(hits: NDArray[np.bool_], relevant: NDArray[np.intp]) -> Array:
    """Turn hits (Q, DEPTH) and the hits there are (Q,), at least one, into metrics (Q, M)."""
    found = np.cumsum(hits, axis=1)
    precision = found / np.arange(1, DEPTH + 1)
    average = (precision * hits).sum(axis=1) / np.minimum(relevant, DEPTH)
    at = np.array(CUTS) - 1
    return np.column_stack([found[:, at] > 0, precision[:, at], average])


def chance_of(relevant: NDArray[np.intp], sizes: NDArray[np.intp]) -> Array:
    """Return what a random order reaches on average, (Q, M), exactly.

    With R hits among G: R@k is 1 - C(G - R, k) / C(G, k); place i holds a hit with R / G, and the
    places before it hold (i - 1) (R - 1) / (G - 1) more on average.
    """
    r, g = relevant.astype(float), sizes.astype(float)
    places = np.arange(DEPTH)
    # The chance that place i + 1 misses too, where all before it missed.
    left, misses = g[:, None] - places, (g - r)[:, None] - places
    missed = np.cumprod(np.where(left > 0, misses.clip(0) / left.clip(1), 1.0), axis=1)
    there = (places < g[:, None]) * (r / g)[:, None]
    expected = np.cumsum(there, axis=1) / (places + 1)
    before = places * ((r - 1) / (g - 1).clip(1))[:, None]
    average = (there * (1 + before) / (places + 1)).sum(axis=1) / np.minimum(r, DEPTH)
    at = np.array(CUTS) - 1
    return np.column_stack([1 - missed[:, at], expected[:, at], average])


def _majority(is_common: NDArray[np.bool_], relevant: NDArray[np.intp]) -> Array:
    """Return what always showing the commonest class reaches: all for its queries, else nothing."""
    hits = is_common[:, None] & (np.arange(DEPTH) < relevant[:, None])
    return metrics_of(hits, relevant)


def _commonest(classes: NDArray[np.str_]) -> str:
    names, counts = np.unique(classes, return_counts=True)
    return str(names[counts.argmax()])


def rankme(vectors: Matrix) -> float:
    """Return the effective rank: exp of the entropy of the normalised singular values.

    RankMe (Garrido et al., arXiv:2210.02885), of the vectors (N, D) as they are: 1 where all point
    the same way, at most min(N, D).
    """
    wide = vectors.astype(np.float64)
    gram = wide @ wide.T if len(wide) < wide.shape[1] else wide.T @ wide
    singular = np.sqrt(np.linalg.eigvalsh(gram).clip(0))
    shares = singular / singular.sum()
    shares = shares[shares > 0]
    return float(np.exp(-(shares * np.log(shares)).sum()))


def score(judged: Sequence[Judged], *, seed: int = 0) -> Score:
    """Average the metrics of each task, then over tasks with equal weight (macro).

    The interval is the 2.5th to the 97.5th percentile of means over patients drawn anew with
    replacement, within each task; the same seed draws the same.
    """
    means = np.mean([one.metrics.mean(axis=0) for one in judged], axis=0)
    values = dict(zip(METRICS, map(float, means), strict=True))
    if any(len(np.unique(one.units)) < 2 for one in judged):
        return Score(values, None)
    random = np.random.default_rng(seed)
    drawn = [resampled_means(one.metrics, one.units, random) for one in judged]
    bounds = interval(np.mean(drawn, axis=0))
    return Score(values, dict(zip(METRICS, bounds, strict=True)))
