"""What `similis train bind` does: images and words in, stages with a bar, a text space out.

Apart from its options because it loads torch, which no other command should wait for.
"""

from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch
import typer
from rich.progress import Progress as Bars

from dicom_node.cli.options import progress
from dicom_node.cli.training_run import items_of
from encoder import checkpoint as checkpoints
from encoder import text_checkpoint
from encoder.space_checkpoint import space_id
from encoder.wordpiece import Tokeniser
from training import minilm, pairs
from training.baselines import SimilisEncoder
from training.bind_config import BindConfig
from training.data import chosen
from training.errors import BadRun
from training.loop import Watcher
from training.manifest import Item, Split
from training.reports import Report, read_reports
from training.run import RUN_FILE
from training.text_space import SPACE, Materials, train_space
from training.watch import Journal, stopped_by_signals

_SHOWN = ("loss", "contrast", "centre", "copy")


@dataclass(frozen=True, slots=True)
class Order:
    """What was asked for on the command line."""

    settings: BindConfig
    data: str
    out: Path
    reports: Path | None
    encoder: Path | None
    text: Path | None
    resume: bool
    allow: tuple[str, ...]
    exclude: tuple[str, ...]
    device: str
    threads: int | None
    config: Path | None


def carry_out(order: Order) -> None:
    """Bind as ordered; raises what `training` raises."""
    if any(order.out.glob(f"*/{RUN_FILE}")) and not order.resume:
        raise BadRun(order.out, "there is a run in it", "Give --resume, or another --out.")
    if order.threads is not None:
        torch.set_num_threads(order.threads)
    with progress() as bars, ExitStack() as stack:
        materials = _materials(order, bars)
        journals: list[Journal] = []

        def watching(name: str, folder: Path, steps: int) -> Watcher:
            task = bars.add_task(name, total=steps)

            def show(step: int, values: Mapping[str, float]) -> None:
                shown = [f"{key} {values[key]:.3f}" for key in _SHOWN if key in values]
                bars.update(task, completed=step, description=f"{name}: {', '.join(shown)}")

            journal = stack.enter_context(Journal(folder, peak=1.0, show=show))
            stack.enter_context(stopped_by_signals(journal))
            if journals and journals[-1].stopping():  # asked for between two stages
                journal.stop()
            journals.append(journal)
            return journal

        def reading(name: str, total: int) -> Callable[[int], None]:
            return partial(bars.advance, bars.add_task(name, total=total))

        space = train_space(materials, order.settings, order.out, watching, reading)
    if space is None:
        typer.echo(f"{order.out}: stopped; --resume goes on")
    else:
        bound = ", ".join(space.description.modalities)
        typer.echo(f"{order.out / SPACE}: text space {space_id(space)} of {bound}")


def _materials(order: Order, bars: Bars) -> Materials:
    """Gather what is said of the train items, which needs no long wait, and embed them."""
    items = items_of(order.data, order.config)
    train = [item for item in items if item.split is Split.TRAIN]
    mine = chosen(train, allow=order.allow, exclude=order.exclude)
    tower = minilm.checkpoint() if order.text is None else text_checkpoint.load(order.text)
    tokens = tower.description.config.tokens
    known = pairs.known_of(
        mine, _reports(order, items), Tokeniser(tower.vocabulary, tokens=tokens).knows
    )
    if known.unread:
        _tell(f"{len(known.unread)} labels, descriptions or comments cannot be read: only English "
              "is understood")  # fmt: skip
    encoder = SimilisEncoder(checkpoints.load(order.encoder), "images", device=order.device)
    task = bars.add_task("embedding", total=len(mine))
    images = pairs.embedded(mine, encoder, order.out, lambda: bars.advance(task))
    bars.update(task, completed=len(mine))
    for unreadable in images.unreadable:
        _tell(unreadable)
    gathered = pairs.gather(images.items, images.vectors, known.wordings, order.settings)
    if unsaid := len(images.items) - len(gathered.paths):
        _tell(f"{unsaid} images, drawn by the seed: more captions than most_captions")
    return Materials(
        pairs=gathered,
        others=tuple(pairs.neighbours(known.others)),
        tower=tower,
        image_model_id=encoder.model_id,
    )


def _reports(order: Order, items: Sequence[Item]) -> Sequence[Report]:
    """Read the reports, without those of studies that the space will be judged by."""
    if order.reports is None:
        return ()
    found = read_reports(order.reports)
    for unreadable in found.unreadable:
        _tell(unreadable)
    kept = pairs.not_of([item for item in items if item.split is Split.EVAL], found.reports)
    if count := len(found.reports) - len(kept):
        _tell(f"{count} reports are of studies of the eval split")
    return kept


def _tell(left_out: str) -> None:
    typer.echo(f"left out: {left_out}", err=True)
