"""From the rows of a manifest and some encoders to one table of retrieval scores.

Owns: embedding items with what cannot be read left out, and the result of an evaluation as values.
Does not own: the metrics (`scores`), the tasks (`tasks`), the encoders (`baselines`), how a result
is printed (the command line) or shown (`report_page`).
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from encoder.clip import Clip
from encoder.config import Extent
from encoder.errors import UnreadableImage
from encoder.text_space import TextSpace
from training.baselines import Matrix, Method
from training.errors import NothingToScore
from training.manifest import Item, Split
from training.reading import read_largest, stop_if_too_many, why_unreadable
from training.scores import METRICS, Judged, Score, judge, rankme, score, unit_rows
from training.tasks import Asking, NotScorable, by_source, nothing_of
from training.vectors_file import load

Advance = Callable[[], None]


@dataclass(frozen=True, slots=True)
class Embedded:
    """Items with their vectors (N, D), in the order of the manifest, and what was left out.

    `unreadable` are lines "path: reason".
    """

    items: tuple[Item, ...]
    vectors: Matrix
    model_id: str
    unreadable: tuple[str, ...]


@dataclass(slots=True)
class _Reader:
    """Reads items one by one and keeps count of those that cannot be read."""

    items: Sequence[Item]
    extent: Extent
    advance: Advance
    kept: list[Item] = field(default_factory=list)
    unreadable: list[str] = field(default_factory=list)

    def clips(self) -> Iterator[Clip]:
        for item in self.items:
            try:
                clip = read_largest(item, self.extent)
            except (UnreadableImage, OSError) as error:
                self.unreadable.append(why_unreadable(item, error))
                stop_if_too_many(self.unreadable, len(self.items))
            else:
                self.kept.append(item)
                yield clip
            self.advance()


def embed_items(items: Sequence[Item], method: Method, advance: Advance) -> Embedded:
    """Embed the largest clip of every item; call `advance` after each.

    Raises TooManyUnreadable as soon as more than 5 % cannot be read.
    """
    reader = _Reader(items, method.extent, advance)
    raw = method.embed(reader.clips())
    train = np.array([item.split is Split.TRAIN for item in reader.kept], dtype=np.bool_)
    vectors = method.fitted(raw, train)
    return Embedded(tuple(reader.kept), vectors, method.model_id, tuple(reader.unreadable))


def embedded_before(items: Sequence[Item], path: Path) -> Embedded:
    """Take the vectors of items from a file that `similis embed` wrote of the same manifest.

    Raises BadVectorsFile, TooManyUnreadable where it lacks more than 5 % of the items.
    """
    file = load(path)
    rows = {name: row for row, name in enumerate(file.ids)}
    missing = tuple(f"{item.path}: not in {path}" for item in items if item.path not in rows)
    stop_if_too_many(missing, len(items))
    kept = tuple(item for item in items if item.path in rows)
    vectors = file.vectors[[rows[item.path] for item in kept]]
    return Embedded(kept, vectors, file.model_id, missing)


def placed(embedded: Embedded, space: TextSpace) -> Embedded:
    """Bring the vectors of an encoder into a space that was bound to it."""
    modalities = [item.modality for item in embedded.items]
    vectors = space.images(embedded.vectors, modalities)
    return replace(embedded, vectors=vectors, model_id=space.space_id)


def in_common(embedded: Sequence[Embedded]) -> list[Embedded]:
    """Keep the items that every encoder could read, so that all are asked the same."""
    paths = [{item.path for item in each.items} for each in embedded]
    shared = set.intersection(*paths)
    kept: list[Embedded] = []
    for each in embedded:
        rows = [row for row, item in enumerate(each.items) if item.path in shared]
        items = tuple(each.items[row] for row in rows)
        kept.append(replace(each, items=items, vectors=each.vectors[rows]))
    return kept


@dataclass(frozen=True, slots=True)
class Evaluation:
    """How one encoder did: every task, the macro average over them, and what gave no score."""

    encoder: str
    embedded: Embedded
    judged: tuple[Judged, ...]
    scores: tuple[Score, ...]
    macro: Score
    rankme: float
    not_scorable: tuple[NotScorable, ...]


def evaluate(name: str, embedded: Embedded, asking: Asking = by_source) -> Evaluation:
    """Judge vectors by the tasks that `asking` makes of their items.

    Raises NothingToScore where no task can be scored.
    """
    tasks, not_scorable = asking(embedded.items)
    judged: list[Judged] = []
    for task in tasks:
        try:
            judged.append(judge(embedded.vectors, task))
        except NothingToScore as error:
            not_scorable.append(NotScorable(task.name, error.reason))
    if not judged:
        raise nothing_of(not_scorable)
    return Evaluation(
        encoder=name,
        embedded=embedded,
        judged=tuple(judged),
        scores=tuple(score([one]) for one in judged),
        macro=score(judged),
        rankme=rankme(unit_rows(embedded.vectors)),
        not_scorable=tuple(not_scorable),
    )


def as_json(evaluation: Evaluation) -> dict[str, Any]:
    """Return an evaluation as plain values, every metric with interval, chance and majority."""
    pairs = zip(evaluation.judged, evaluation.scores, strict=True)
    chance = np.mean([one.chance for one in evaluation.judged], axis=0)
    majority = np.mean([one.majority for one in evaluation.judged], axis=0)
    return {
        "encoder": evaluation.encoder,
        "model_id": evaluation.embedded.model_id,
        "items": len(evaluation.embedded.items),
        "unreadable": list(evaluation.embedded.unreadable),
        "rankme": evaluation.rankme,
        "macro": _metrics(evaluation.macro, chance, majority),
        "sources": {one.task.name: _task(one, scores) for one, scores in pairs},
        "not_scorable": {one.name: one.reason for one in evaluation.not_scorable},
    }


def _task(judged: Judged, scores: Score) -> dict[str, Any]:
    return {
        "rule": judged.task.rule,
        "queries": len(judged.queries),
        "unanswerable": judged.unanswerable,
        "resampled_units": len(np.unique(judged.units)),
        "gallery": len(judged.task.gallery),
        "rankme": judged.rankme,
        "metrics": _metrics(scores, judged.chance, judged.majority),
    }


def _metrics(scores: Score, chance: Any, majority: Any) -> dict[str, Any]:
    return {
        name: {
            "value": scores.values[name],
            "interval": None if scores.intervals is None else list(scores.intervals[name]),
            "chance": float(chance[column]),
            "majority": float(majority[column]),
        }
        for column, name in enumerate(METRICS)
    }


COLUMNS = (
    *("source", "encoder", "queries", "patients", "R@1=P@1", "R@5", "R@10", "P@5", "P@10"),
    *("mAP@10", "95 %", "RankMe"),
)
_SHOWN = ("R@1", "R@5", "R@10", "P@5", "P@10", "mAP@10")


def table(evaluations: Sequence[Evaluation]) -> list[tuple[str, ...]]:
    """Return rows under COLUMNS: per source and macro, chance, the commonest class, each encoder.

    Patients are what was resampled; where none is known, items.
    """
    first = evaluations[0]
    rows: list[tuple[str, ...]] = []
    for place, one in enumerate(first.judged):
        name = one.task.name
        size = (str(len(one.queries)), _units(one))
        rows += _levels(name, size, one.chance, one.majority)
        for each in evaluations:
            rows.append(_row(name, each.encoder, size, each.scores[place], each.judged[place]))
    size = ("", "")
    chance = np.mean([one.chance for one in first.judged], axis=0)
    majority = np.mean([one.majority for one in first.judged], axis=0)
    rows += _levels("macro", size, chance, majority)
    rows += [_row("macro", each.encoder, size, each.macro, each) for each in evaluations]
    return rows


def _units(judged: Judged) -> str:
    count = len(np.unique(judged.units))
    known = judged.task.patients[judged.queries] != ""
    return str(count) if known.any() else f"({count} items)"


def _levels(name: str, size: tuple[str, str], chance: Any, majority: Any) -> list[tuple[str, ...]]:
    places = [METRICS.index(shown) for shown in _SHOWN]
    return [
        (name, f"({level})", *size, *(f"{values[p]:.3f}" for p in places), "", "")
        for level, values in (("chance", chance), ("majority", majority))
    ]


def _row(
    name: str, encoder: str, size: tuple[str, str], scores: Score, ranked: Judged | Evaluation
) -> tuple[str, ...]:
    values = (f"{scores.values[shown]:.3f}" for shown in _SHOWN)
    interval = "one patient"
    if scores.intervals is not None:
        low, high = scores.intervals["mAP@10"]
        interval = f"{low:.3f}..{high:.3f}"
    return (name, encoder, *size, *values, interval, f"{ranked.rankme:.0f}")
