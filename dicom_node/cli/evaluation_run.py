"""What `similis evaluate` does once its options are understood; it loads torch."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Protocol

from dicom_node.cli.options import progress
from encoder import space_checkpoint
from encoder.text_space import TextSpace
from training.baselines import Method, method
from training.evaluate import (
    Embedded,
    Evaluation,
    embed_items,
    embedded_before,
    evaluate,
    in_common,
    placed,
)
from training.few_shot import few_shot
from training.findings import Findings
from training.manifest import Item
from training.tasks import Asking
from training.text_retrieval import text_retrieval
from training.zero_shot import zero_shot

VECTORS_SUFFIX = ".npz"


@dataclass(frozen=True, slots=True)
class Encoded:
    """Items by the name of each encoder, and the space of each, where words are asked for."""

    embedded: Mapping[str, Embedded]
    spaces: Sequence[TextSpace]


@dataclass(frozen=True, slots=True)
class _Column:
    """An encoder of the table, not run yet, or a file of its vectors."""

    name: str
    model_id: str
    embed: Callable[[], Embedded]


def encoded(
    encoders: Sequence[str],
    items: Sequence[Item],
    *,
    device: str,
    in_words: bool,
    space: Path | None,
) -> Encoded:
    """Embed with one encoder after the other, a bar for each; files of vectors are only read.

    With `in_words` the space of every encoder is opened first: an error must not wait for minutes.
    Raises BadCheckpoint where it is not there or was bound to another encoder.
    """
    columns = [_column(typed, items, device) for typed in encoders]
    names = [column.name for column in columns]
    spaces = [_space(column.model_id, space, device) for column in columns] if in_words else []
    embedded = in_common([column.embed() for column in columns])
    unique = (
        name if names.count(name) == 1 else typed
        for name, typed in zip(names, encoders, strict=True)
    )
    return Encoded(dict(zip(unique, embedded, strict=True)), spaces)


def _column(typed: str, items: Sequence[Item], device: str) -> _Column:
    if typed.endswith(VECTORS_SUFFIX):
        before = embedded_before(items, Path(typed))
        return _Column(Path(typed).stem, before.model_id, lambda: before)
    chosen = method(typed, device=device)
    return _Column(chosen.name, chosen.model_id, partial(_embed, items, chosen))


def _embed(items: Sequence[Item], chosen: Method) -> Embedded:
    with progress() as bars:
        bar = bars.add_task(f"embedding: {chosen.name}", total=len(items))
        return embed_items(items, chosen, partial(bars.advance, bar))


def _space(model_id: str, folder: Path | None, device: str) -> TextSpace:
    return TextSpace(space_checkpoint.load(folder, image_model_id=model_id), device=device)


def ranked(found: Encoded, asking: Asking) -> list[Evaluation]:
    """Rank with the vectors of every encoder, and with those of its space, where there is one."""
    evaluations: list[Evaluation] = []
    for place, (name, each) in enumerate(found.embedded.items()):
        evaluations.append(evaluate(name, each, asking))
        for space in found.spaces[place : place + 1]:
            evaluations.append(evaluate(f"{name}, {space.name}", placed(each, space), asking))
    return evaluations


class _OfSpace(Protocol):
    def __call__(
        self, name: str, embedded: Embedded, space: TextSpace, *, seed: int = 0
    ) -> Findings: ...


def _of_each(task: _OfSpace, found: Encoded, seed: int) -> list[Findings]:
    """Do a task of words with every encoder and its space."""
    pairs = zip(found.embedded.items(), found.spaces, strict=True)
    return [task(name, each, space, seed=seed) for (name, each), space in pairs]


def _few_shot(found: Encoded, seed: int) -> list[Findings]:
    return [few_shot(found.embedded, seed=seed)]


FINDINGS: dict[str, Callable[[Encoded, int], list[Findings]]] = {
    "few-shot": _few_shot,
    "zero-shot": partial(_of_each, zero_shot),
    "text-retrieval": partial(_of_each, text_retrieval),
}
