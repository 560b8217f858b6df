"""What `similis train` does: data in, steps with a bar, a run folder out.

Apart from its options because it loads torch, which no other command should wait for.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
import typer
from rich.progress import Progress as Bars

from dicom_node.cli.options import configured, progress
from dicom_node.parts import existing_parts
from training import flops, run
from training.config import Spread, TrainConfig
from training.data import Images
from training.errors import BadRun
from training.loop import Watcher
from training.loop import train as run_steps
from training.manifest import Item, catalogue_items, read_items
from training.ranks import Ranks, ranks_of_environment
from training.start import images_of, new_objective
from training.watch import Journal, Silent, stopped_by_signals

CATALOGUE = "catalogue:"
_SHOWN = {"loss": 3, "alignment": 3, "expansion": 3, "rankme": 0, "samples_per_s": 0, "mfu": 2}


@dataclass(frozen=True, slots=True)
class Order:
    """What was asked for on the command line."""

    settings: TrainConfig
    data: str
    out: Path
    init: Path | None
    resume: bool
    allow: tuple[str, ...]
    exclude: tuple[str, ...]
    cache: Path | None
    device: str
    threads: int | None
    spread: Spread
    save_every_s: float
    config: Path | None


def carry_out(order: Order) -> None:
    """Train as ordered; raises what `training` raises."""
    if (order.out / run.RUN_FILE).exists() and not order.resume:
        raise BadRun(order.out, "there is a run in it", "Give --resume, or another --out.")
    if order.threads is not None:
        torch.set_num_threads(order.threads)
    items = items_of(order.data, order.config)
    with ranks_of_environment(order.device, order.spread) as ranks, progress() as bars:
        bars.disable = not ranks.writes
        done = _run(order, _images(order, items, bars), ranks, bars)
    if ranks.writes:
        typer.echo(f"{order.out / run.ENCODER}: {done.step} of {order.settings.steps} steps")


def items_of(data: str, config: Path | None) -> tuple[Item, ...]:
    """Read a manifest or a folder, or take the series of a node's catalogue."""
    if not data.startswith(CATALOGUE):
        return read_items(Path(data))
    folder = data.removeprefix(CATALOGUE)
    parts = existing_parts(configured(config, Path(folder) if folder else None))
    try:
        return catalogue_items(parts.catalogue, parts.folder.store)
    finally:
        parts.close()


def _images(order: Order, items: tuple[Item, ...], bars: Bars) -> Images:
    reading = bars.add_task("reading images", total=None)
    images = images_of(
        items,
        order.settings,
        order.cache or order.out.parent / "cache",
        allow=order.allow,
        exclude=order.exclude,
        advance=lambda: bars.advance(reading),
    )
    bars.update(reading, completed=len(images), total=len(images))
    for unreadable in images.unreadable:
        typer.echo(f"left out: {unreadable}", err=True)
    return images


def _run(order: Order, images: Images, ranks: Ranks, bars: Bars) -> run.Progress:
    """Build what is trained and train it, showing where it is."""
    settings = order.settings
    objective = new_objective(settings, order.init, ranks.device)
    task = bars.add_task(str(settings.method), total=settings.steps)

    def show(step: int, values: Mapping[str, float]) -> None:
        shown = [f"{key} {values[key]:.{n}f}" for key, n in _SHOWN.items() if key in values]
        bars.update(task, completed=step, description=f"{settings.method}: {', '.join(shown)}")

    def steps(watcher: Watcher) -> run.Progress:
        return run_steps(
            objective,
            images,
            settings,
            order.out,
            watcher,
            resume=order.resume,
            save_every_s=order.save_every_s,
            ranks=ranks,
        )

    if not ranks.writes:
        with stopped_by_signals(silent := Silent()):
            return steps(silent)
    peak = ranks.count * flops.matmul_peak(torch.bfloat16, device=ranks.device)
    with Journal(order.out, peak=peak, show=show) as journal, stopped_by_signals(journal):
        return steps(journal)
