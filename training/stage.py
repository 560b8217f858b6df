"""One stage of a training of several: steps that are logged, saved and resumed.

Owns: the loop of a stage and its folder (`run`'s layout, without an encoder). Does not own: what is
learned (`adapt`, `bind`, `unify`). What a step draws comes from its number, so that a resumed stage
equals an uninterrupted one.
"""

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from training import run
from training.bind_config import BindConfig
from training.errors import BadRun, NonFiniteLoss
from training.loop import LOG_EVERY, Watcher
from training.optimiser import cosine

FORMAT = 1
WARMUP = 0.1  # of the steps
WEIGHT_DECAY = 0.01  # of matrices
CLIP_NORM = 1.0


@dataclass(frozen=True, slots=True)
class StageProgress:
    """What `run.json` of a stage says; unknown keys are refused."""

    format: int
    config: BindConfig
    data: str  # fingerprint of all that any stage learns from
    commit: str
    step: int
    seconds: float
    metrics: dict[str, float]


class Stage(nn.Module):
    """What a stage learns: parameters, and the loss of a step."""

    def terms(self, step: int) -> dict[str, Tensor]:
        """Return `loss`, which is lowered, and what else is logged."""
        raise NotImplementedError

    def names(self, step: int) -> Sequence[str]:
        """Name what step `step` draws, for when its loss is no number; no text of a report."""
        raise NotImplementedError


def stream(config: BindConfig, stage: str, step: int) -> np.random.Generator:
    """Return the draws of one step, which depend on nothing else."""
    return np.random.default_rng([config.seed, *stage.encode(), step])


def train_stage(
    stage: Stage,
    config: BindConfig,
    folder: Path,
    watcher: Watcher,
    *,
    steps: int,
    lr: float,
    data: str,
    save_every_s: float = 600.0,
) -> StageProgress:
    """Train until `steps`, or until the watcher stops it, going on where `folder` left off.

    Raises BadRun where the folder was begun with another config or data; NonFiniteLoss, having
    written what that step drew into the folder.
    """
    optimiser = _optimiser(stage, lr)
    progress = _begun(stage, optimiser, config, folder, data)
    before_s, began = progress.seconds, time.monotonic()
    saved = began
    for step in range(progress.step, steps):
        _set_rate(optimiser, lr, step, steps)
        values = _step(stage, optimiser, step, folder)
        last = step + 1 == steps
        if last or (step + 1) % LOG_EVERY == 0:
            watcher.log(step + 1, values)
        stopping = watcher.stopping()
        if stopping or last or time.monotonic() - saved > save_every_s:
            saved = time.monotonic()
            progress = replace(
                progress, step=step + 1, seconds=before_s + saved - began, metrics=values
            )
            run.write(folder, progress, {**_state(stage), **run.moments(stage, optimiser)})
        if stopping:
            break
    return progress


def _begun(
    stage: Stage, optimiser: torch.optim.Optimizer, config: BindConfig, folder: Path, data: str
) -> StageProgress:
    """Put back what `folder` has of this stage, if anything, and say how far it came."""
    if not (folder / run.RUN_FILE).exists():
        return StageProgress(FORMAT, config, data, run.commit(), 0, 0.0, {})
    progress = run.resumable_as(folder, StageProgress, config, data)
    tensors = run.read_state(folder, progress)
    _restore(folder, stage, tensors)
    run.restore_moments(stage, optimiser, tensors)
    return progress


def _step(
    stage: Stage, optimiser: torch.optim.Optimizer, step: int, folder: Path
) -> dict[str, float]:
    """Forward, backward, one move of the weights."""
    optimiser.zero_grad(set_to_none=True)
    terms = stage.terms(step)
    if not terms["loss"].isfinite():
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / "not-finite.txt"
        names = stage.names(step)
        path.write_text("\n".join(names) + "\n", encoding="utf-8")
        raise NonFiniteLoss(step, names, path)
    torch.autograd.backward(terms["loss"])
    norm = nn.utils.clip_grad_norm_(stage.parameters(), CLIP_NORM)
    optimiser.step()
    values = {name: float(term.detach()) for name, term in terms.items()}
    return {**values, "gradient": float(norm), "lr": optimiser.param_groups[0]["lr"]}


def _optimiser(stage: Stage, lr: float) -> torch.optim.AdamW:
    """Let matrices decay, and what has one axis or none not."""
    learning = [parameter for parameter in stage.parameters() if parameter.requires_grad]
    groups = [
        {"params": [p for p in learning if p.ndim > 1], "weight_decay": WEIGHT_DECAY},
        {"params": [p for p in learning if p.ndim <= 1], "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(groups, lr=lr)


def _set_rate(optimiser: torch.optim.Optimizer, lr: float, step: int, steps: int) -> None:
    """Go up in a line over the warm-up, then down a cosine to nothing."""
    warmup = max(1.0, WARMUP * steps)
    rate = lr * min(1.0, (step + 1) / warmup)
    if step >= warmup:
        rate = cosine(lr, 0.0, (step - warmup) / max(steps - warmup, 1))
    for group in optimiser.param_groups:
        group["lr"] = rate


def _learning(stage: Stage) -> Iterator[tuple[str, nn.Parameter]]:
    return ((name, p) for name, p in stage.named_parameters() if p.requires_grad)


def _state(stage: Stage) -> dict[str, Tensor]:
    """Name what is learned; what is frozen comes from where it came from before."""
    return {f"model.{name}": parameter.detach() for name, parameter in _learning(stage)}


@torch.no_grad()
def _restore(folder: Path, stage: Stage, tensors: dict[str, Tensor]) -> None:
    for name, parameter in _learning(stage):
        found = tensors.get(f"model.{name}")
        if found is None or found.shape != parameter.shape:
            advice = "Copy the whole folder again, or start a new run."
            raise BadRun(folder, f"{run.STATE_FILE} does not fit its config", advice)
        parameter.copy_(found)
