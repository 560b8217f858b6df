"""Steps: batches through an objective until they are done, stopped or wrong.

Owns: the loop, saving in time, when to stop. Does not own: losses (`objectives`), rates
(`optimiser`), files (`run`), how progress looks (`Watcher`, the command line).
"""

import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Protocol

import torch
from torch import Tensor, nn

from training import run
from training.batches import Batch, Sampler, batches
from training.config import TrainConfig
from training.data import Images
from training.errors import NonFiniteLoss
from training.flops import step_flops
from training.objectives import Objective
from training.optimiser import build_optimiser, momentum, set_rates
from training.ranks import Ranks, agreed, averaged, spread_over, whole
from training.scores import rankme

LOG_EVERY = 20  # steps
RANK_ROWS = 2048  # vectors over which RankMe is taken


class Watcher(Protocol):
    """Is told what happens; may stop the run."""

    def log(self, step: int, values: dict[str, float]) -> None:
        """Take the means since the last call."""

    def stopping(self) -> bool:
        """Say whether to save and stop after this step."""


@dataclass(slots=True)
class Meter:
    """Sums up what happens between two lines of the log."""

    sums: Counter[str] = field(default_factory=Counter)
    steps: int = 0
    samples: int = 0
    flops: float = 0.0
    waited_s: float = 0.0
    pooled: list[Tensor] = field(default_factory=list)
    began_s: float = field(default_factory=time.perf_counter)

    def take(self, values: dict[str, float]) -> None:
        """Add the terms of one step."""
        self.steps += 1
        self.sums.update(values)

    def waiting_for(self, stream: Iterator[Batch]) -> Batch:
        """Take the next batch, and the time it was waited for."""
        began = time.perf_counter()
        batch = next(stream)
        self.waited_s += time.perf_counter() - began
        return batch

    def seen(self, batch: Batch, flops: float, pooled: Tensor | None) -> None:
        """Count what went through the network."""
        self.samples += batch.samples
        self.flops += flops
        if pooled is not None:
            self.pooled.append(pooled)

    def values(self, ranks: int) -> dict[str, float]:
        """Means of the terms, and rates of all processes over the time that passed."""
        elapsed_s = time.perf_counter() - self.began_s
        means = {key: value / self.steps for key, value in self.sums.items()}
        vectors = torch.cat(self.pooled)[-RANK_ROWS:].cpu().numpy()
        return {
            **means,
            "rankme": rankme(vectors),
            "samples_per_s": ranks * self.samples / elapsed_s,
            "tflops": ranks * self.flops / elapsed_s / 1e12,
            "waited": self.waited_s / elapsed_s,
        }


def train(
    objective: Objective,
    images: Images,
    config: TrainConfig,
    folder: Path,
    watcher: Watcher,
    *,
    resume: bool = False,
    save_every_s: float = 600.0,
    ranks: Ranks | None = None,
) -> run.Progress:
    """Train until `config.steps`, or until the watcher stops it; resumable either way.

    Raises BadRun where there is nothing to resume, or its config or data are others;
    NonFiniteLoss, having written the paths of that batch into the folder.
    """
    ranks = ranks or Ranks()
    progress = run.Progress(run.FORMAT, config, images.fingerprint, run.commit(), 0, 0.0, {})
    tensors: dict[str, Tensor] = {}
    if resume:
        progress = run.resumable(folder, config, images.fingerprint)
        tensors = run.read_state(folder, progress)
        run.restore_model(folder, objective, tensors)
    called = spread_over(objective, ranks)
    optimiser = build_optimiser(objective, config)
    run.restore_moments(objective, optimiser, tensors)
    stepper = Stepper(objective, called, optimiser, config, folder)
    return _steps(stepper, Sampler(images), progress, watcher, save_every_s, ranks)


@dataclass(frozen=True, slots=True)
class Stepper:
    """One step after the other: `called` is the objective, or what spreads it over processes."""

    objective: Objective
    called: nn.Module
    optimiser: torch.optim.Optimizer
    config: TrainConfig
    folder: Path

    def step(self, number: int, stream: Iterator[Batch], meter: Meter) -> dict[str, float]:
        """Forward and backward over the micro-batches of a step, then one move of the weights."""
        config = self.config
        rate = set_rates(self.optimiser, config, number)
        self.optimiser.zero_grad(set_to_none=True)
        device = next(self.objective.parameters()).device.type
        sums: Counter[str] = Counter()
        for _ in range(config.accumulate):
            batch = meter.waiting_for(stream)
            with torch.autocast(device, torch.bfloat16, enabled=config.bf16):
                terms = self.called(batch)
            if not terms["loss"].isfinite():
                raise _non_finite(number, batch, self.folder)
            (terms["loss"] / config.accumulate).backward()
            shares = {key: float(t.detach()) / config.accumulate for key, t in terms.items()}
            sums.update(shares)
            meter.seen(batch, step_flops(config, batch), self.objective.pooled)
        norm = nn.utils.clip_grad_norm_(self.objective.parameters(), config.clip_norm)
        self.optimiser.step()
        self.objective.advance(momentum(config, number))
        return {**sums, "gradient": float(whole(norm)), "lr": rate}


def _steps(
    stepper: Stepper,
    sampler: Sampler,
    progress: run.Progress,
    watcher: Watcher,
    save_every_s: float,
    ranks: Ranks,
) -> run.Progress:
    """Go step by step from where `progress` is; log, save and stop in time."""
    config, before_s, metrics, meter = stepper.config, progress.seconds, progress.metrics, Meter()
    first = progress.step * config.accumulate
    stream = batches(sampler, config, first=first, rank=ranks.rank, ranks=ranks.count)
    began = saved = time.monotonic()
    for step in range(progress.step, config.steps):
        meter.take(stepper.step(step, stream, meter))
        last = step + 1 == config.steps
        if last or (step + 1) % LOG_EVERY == 0:
            metrics, meter = averaged(meter.values(ranks.count), ranks), Meter()
            watcher.log(step + 1, metrics)
        stopping = agreed(watcher.stopping(), ranks)
        if stopping or last or agreed(time.monotonic() - saved > save_every_s, ranks):
            spent_s = before_s + time.monotonic() - began
            progress = replace(progress, step=step + 1, seconds=spent_s, metrics=metrics)
            run.save(stepper.folder, progress, stepper.objective, stepper.optimiser, ranks)
            saved = time.monotonic()
        if stopping:
            break
    return progress


def _non_finite(step: int, batch: Batch, folder: Path) -> NonFiniteLoss:
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "not-finite.txt"
    path.write_text("\n".join(batch.items) + "\n", encoding="utf-8")
    return NonFiniteLoss(step, batch.items, path)
