"""What a task of evaluation found, as values that one table and one JSON are made of.

Owns: `Figure`, `Row` and `Findings`, and how they are laid out. Does not own: the numbers
(`few_shot`, `zero_shot`, `text_retrieval`), the table of retrieval (`evaluate`).
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from training.tasks import NotScorable


@dataclass(frozen=True, slots=True)
class Figure:
    """A score, its 95 % interval (None: one patient only), and what it stands beside.

    `majority` is None where always the commonest answer makes no sense.
    """

    value: float
    interval: tuple[float, float] | None
    chance: float
    majority: float | None = None


@dataclass(frozen=True, slots=True)
class Row:
    """The figures of one method, by their names, on `queries` items or sentences.

    `units` counts what was resampled: patients, or items where none is known. Neither is of an
    average over names.
    """

    name: str
    method: str
    queries: int | None
    units: int | None
    figures: Mapping[str, Figure]


@dataclass(frozen=True, slots=True)
class Findings:
    """All rows of a task, those of a name together; `rule` says in words what was asked.

    `model_ids` name the encoders and the space, `unreadable` are lines "path: reason".
    """

    task: str
    rule: str
    rows: tuple[Row, ...]
    model_ids: Mapping[str, str]
    unreadable: tuple[str, ...] = ()
    not_scorable: tuple[NotScorable, ...] = ()


def as_json(findings: Findings) -> dict[str, Any]:
    """Return findings as plain values, every figure with interval and chance."""
    return {
        "task": findings.task,
        "rule": findings.rule,
        "model_ids": dict(findings.model_ids),
        "unreadable": list(findings.unreadable),
        "rows": [
            {
                "name": row.name,
                "method": row.method,
                "queries": row.queries,
                "resampled_units": row.units,
                "metrics": {name: asdict(figure) for name, figure in row.figures.items()},
            }
            for row in findings.rows
        ],
        "not_scorable": {one.name: one.reason for one in findings.not_scorable},
    }


def columns(findings: Findings) -> tuple[str, ...]:
    """Name the columns of `table`."""
    return ("name", "method", "queries", "patients", *_metrics(findings.rows))


def table(findings: Findings) -> list[tuple[str, ...]]:
    """Return rows under `columns`: of every name chance, the commonest answer, each method."""
    shown = _metrics(findings.rows)
    rows: list[tuple[str, ...]] = []
    for name in dict.fromkeys(row.name for row in findings.rows):
        of_name = [row for row in findings.rows if row.name == name]
        first = of_name[0]
        size = _size(first)
        chance = {each: f"{figure.chance:.3f}" for each, figure in _all(of_name).items()}
        rows.append((name, "(chance)", *size, *(chance.get(each, "") for each in shown)))
        majority = {
            each: f"{figure.majority:.3f}"
            for each, figure in _all(of_name).items()
            if figure.majority is not None
        }
        if majority:
            rows.append((name, "(majority)", *size, *(majority.get(each, "") for each in shown)))
        for row in of_name:
            cells = (_cell(row.figures.get(each)) for each in shown)
            rows.append((name, row.method, *_size(row), *cells))
    return rows


def _all(rows: Sequence[Row]) -> dict[str, Figure]:
    """Return every figure by its name, of the first row that has it."""
    return {name: figure for row in reversed(rows) for name, figure in row.figures.items()}


def _metrics(rows: Sequence[Row]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(name for row in rows for name in row.figures))


def _size(row: Row) -> tuple[str, str]:
    queries, units = ("" if count is None else str(count) for count in (row.queries, row.units))
    return queries, units


def _cell(figure: Figure | None) -> str:
    if figure is None:
        return ""
    if figure.interval is None:
        return f"{figure.value:.3f}"
    low, high = figure.interval
    return f"{figure.value:.3f} {low:.2f}..{high:.2f}"
