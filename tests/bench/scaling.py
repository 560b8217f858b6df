"""Which recipe, how much data, how wide, one encoder or many: all at equal compute.

    make bench-scaling DATA=manifest.csv OUT=folder [TFLOP=400]

Every row trains from nothing with the same count of floating-point operations (`training.flops`),
then is scored on the eval split, no pooling or whitening chosen. A row that stands in OUT is not
trained again, one that was cut off goes on. A line of scores a row, `scores.json` in its folder.
"""

import json
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np
import torch
from dot_plot import plot
from numpy.typing import NDArray

from encoder import checkpoint
from encoder.clip import Clip, Kind, Unit
from encoder.config import PRESETS
from encoder.embedder import Embedder
from training import run
from training.batches import Sampler, make_batch
from training.config import Method, TrainConfig, default
from training.data import EXCLUDED, Images, prepare
from training.evaluate import Embedded, Evaluation, evaluate
from training.flops import step_flops
from training.loop import train
from training.manifest import Item, Split, read_items
from training.start import images_of, new_objective
from training.watch import Journal

ENCODER = PRESETS["tiny"]
WIDTH = ENCODER.width // 2  # twice the samples for the same compute, and half the time a sample
PEAK = 1.0  # MFU is no matter here


@dataclass(frozen=True, slots=True)
class Row:
    """One line of the table: stages with their parts of the compute, and what they may see."""

    name: str
    stages: tuple[tuple[Method, float], ...] = ((Method.JOINT, 1.0),)
    width: int = WIDTH
    part: float = 1.0  # of the patients
    only: str = ""  # modality
    without: str = ""  # modality


BOTH = ((Method.MAE, 0.25), (Method.SIMDINO, 0.75))
FIRST = (
    Row("joint"),
    Row("MAE", ((Method.MAE, 1.0),)),
    Row("SimDINO", ((Method.SIMDINO, 1.0),)),
    Row("MAE, then SimDINO", BOTH),
    Row("joint, 50 % of the patients", part=0.5),
    Row("joint, 25 % of the patients", part=0.25),
    Row("joint, twice as wide", width=2 * WIDTH),
)


def rows(modalities: Sequence[str], scored: Sequence[str]) -> Iterator[Row]:
    """Name all rows: the unseen modalities leave training, specialists share the compute."""
    yield from FIRST
    yield from (Row(f"joint, {m} unseen", without=m) for m in ("ES", "US"))
    share = 1 / len(modalities)
    yield from (Row(f"only {m}", ((Method.JOINT, share),), only=m) for m in scored)


def seen(images: Images, items: dict[str, Item], row: Row) -> Images:
    """Keep the entries that a row may train on; patients are drawn by a fixed seed."""
    owners = sorted({items[e.path].patient_id or e.path for e in images.entries})
    kept = set(np.random.default_rng(0).permutation(owners)[: round(row.part * len(owners))])
    entries = [
        e
        for e in images.entries
        if (items[e.path].patient_id or e.path) in kept
        and e.modality != row.without
        and row.only in ("", e.modality)
    ]
    return Images(images.folder, images.fingerprint, entries, images.unreadable)


def trained(row: Row, images: Images, tflop: float, folder: Path) -> Path:
    """Train the stages of a row one after the other; return the folder of the last encoder."""
    init: Path | None = None
    for number, (method, share) in enumerate(row.stages):
        config = default(method, width=row.width)
        sampler = Sampler(images)
        flops = step_flops(config, make_batch(sampler, config, 0))
        config = replace(config, steps=max(1, round(share * tflop * 1e12 / flops)))
        out = folder / str(number)
        if not _complete(out, config):
            resume = (out / run.RUN_FILE).exists()
            with Journal(out, peak=PEAK, show=lambda step, values: None) as journal:
                train(new_objective(config, init), images, config, out, journal, resume=resume)
        init = out / run.ENCODER
    return init or folder


def _complete(out: Path, config: TrainConfig) -> bool:
    return (out / run.RUN_FILE).exists() and run.read(out).step == config.steps


def clips_of(images: Images) -> Iterator[Clip]:
    """Give the cached pictures as clips: they are normalised, so their values stay as they are."""
    for number, entry in enumerate(images.entries):
        array = np.moveaxis(images.array(number).astype(np.float32), -1, 0)
        spacing = (entry.depth_px, 1.0, 1.0) if entry.kind is Kind.VOLUME else (1.0, 1.0, 1.0)
        colour = np.broadcast_to(array, (3, *array.shape[1:]))
        yield Clip(colour, spacing, entry.kind, Unit.COLOUR, None, ())


def judged(
    name: str, encoders: dict[str, Path], images: Images, items: dict[str, Item]
) -> Evaluation:
    """Embed every item with the encoder of its modality, or the one under "", and score them.

    A source has one modality, so vectors of two encoders never meet.
    """
    by_encoder: dict[str, NDArray[np.float32]] = {
        modality: Embedder(checkpoint.load(folder), device="cpu").embed(clips_of(images))
        for modality, folder in encoders.items()
    }
    default = next(iter(by_encoder.values()))
    vectors = np.stack(
        [by_encoder.get(e.modality, default)[row] for row, e in enumerate(images.entries)]
    )
    shown = tuple(items[entry.path] for entry in images.entries)
    return evaluate(name, Embedded(shown, vectors, name, ()))


def scores(evaluation: Evaluation) -> dict[str, list[float]]:
    """Return mAP@10, its interval, and P@5 of every source and their macro average."""
    pairs = zip(evaluation.judged, evaluation.scores, strict=True)
    named = {one.task.name: each for one, each in pairs} | {"macro": evaluation.macro}
    return {
        name: [
            score.values["mAP@10"],
            *(score.intervals["mAP@10"] if score.intervals else (float("nan"),) * 2),
            score.values["P@5"],
        ]
        for name, score in named.items()
    }


def folder_of(out: Path, row: Row) -> Path:
    """Name the folder of a row."""
    return out / row.name.replace(" ", "-").replace(",", "").replace("%", "percent")


def report(path: Path, evaluated: Callable[[], Evaluation]) -> None:
    """Score a row unless its scores are there, keep them, and print them as a line."""
    if not path.exists():
        text = json.dumps(scores(evaluated()), indent=1) + "\n"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    found = json.loads(path.read_text(encoding="utf-8"))
    cells = (f"{name} {m:.3f} ({low:.3f}..{high:.3f}) P@5 {p:.3f}"
             for name, (m, low, high, p) in found.items())  # fmt: skip
    print(f"{path.parent.name}: {'; '.join(cells)}", flush=True)


def main() -> None:
    """Train and score what is not there yet, print a line for each row, and draw them."""
    torch.set_num_threads(int(os.environ.get("THREADS", "2")))
    out, tflop = Path(os.environ["OUT"]), float(os.environ.get("TFLOP", "400"))
    items = [i for i in read_items(Path(os.environ["DATA"])) if i.modality not in EXCLUDED]
    by_path = {item.path: item for item in items}
    cache = Path(os.environ.get("CACHE", out / "cache"))
    images = images_of(items, default(Method.JOINT), cache)
    shown = prepare(items, cache, side=ENCODER.still.height)
    modalities = sorted({e.modality for e in images.entries})
    scored = sorted({i.modality for i in items if i.split is Split.EVAL and i.label})
    specialists: dict[str, Path] = {}
    paths: dict[str, Path] = {}
    for row in rows(modalities, scored):
        folder = folder_of(out, row)
        encoder = trained(row, seen(images, by_path, row), tflop, folder)
        paths[row.name] = folder / "scores.json"
        report(paths[row.name], partial(judged, row.name, {"": encoder}, shown, by_path))
        if row.only:
            specialists[row.only] = encoder
    name = "specialists, each for its modality"
    paths[name] = out / "specialists" / "scores.json"
    report(paths[name], partial(judged, name, specialists, shown, by_path))
    (out / "scaling.svg").write_text(drawing(paths), encoding="utf-8")


def drawing(paths: dict[str, Path]) -> str:
    """Draw the macro mAP@10 of each row with its interval."""
    found = {
        name: json.loads(path.read_text(encoding="utf-8"))["macro"]
        for name, path in paths.items()
        if not name.startswith("only")
    }
    return plot("macro mAP@10 and 95 % interval, equal compute", found)


if __name__ == "__main__":
    sys.exit(main())
