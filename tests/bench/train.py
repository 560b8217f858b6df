"""Training: samples a second with real data beside the same steps on data that lie in memory.

    make bench-train DATA=manifest.csv

Every method takes turns: some steps fed by the loader, some on one batch that is there already. The
peak is one large bf16 matrix product in the same run. Times are printed, never asserted.
"""

import os
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import replace
from itertools import repeat
from pathlib import Path

import torch

from training.batches import Batch, Sampler, batches, make_batch
from training.config import Method, default
from training.flops import matmul_peak, step_flops
from training.loop import Meter, Stepper
from training.manifest import read_items
from training.optimiser import build_optimiser
from training.start import images_of, new_objective

STEPS, ROUNDS = 10, 3


def rate(stepper: Stepper, stream: Iterator[Batch], first: int) -> float:
    """Return samples a second over some steps."""
    began = time.perf_counter()
    for number in range(first, first + STEPS):
        stepper.step(number, stream, Meter())
    return STEPS * stepper.config.batch / (time.perf_counter() - began)


def main() -> None:
    """Print a line for each method."""
    torch.set_num_threads(2)
    data = Path(os.environ["DATA"])
    peak = max(matmul_peak(torch.bfloat16) for _ in range(3))
    print(f"peak of one bf16 product {peak / 1e12:.2f} TFLOP/s")
    print(f"{'':10}{'loader/s':>10}{'memory/s':>10}{'ratio':>8}{'MFU':>8}")
    with tempfile.TemporaryDirectory() as scratch:
        cache = Path(os.environ.get("CACHE", scratch))
        for method in Method:
            config = replace(default(method, steps=10_000), accumulate=1)
            images = images_of(read_items(data), config, cache)
            objective = new_objective(config)
            optimiser = build_optimiser(objective, config)
            stepper = Stepper(objective, objective, optimiser, config, Path(scratch))
            sampler = Sampler(images)
            ready = make_batch(sampler, config, 0)
            rate(stepper, repeat(ready), 0)
            fed = batches(sampler, config, first=0)
            pairs = [
                (rate(stepper, fed, n * STEPS), rate(stepper, repeat(ready), n * STEPS))
                for n in range(ROUNDS)
            ]
            loader, memory = (sorted(each)[ROUNDS // 2] for each in zip(*pairs, strict=True))
            mfu = loader * step_flops(config, ready) / config.batch / peak
            print(f"{method:10}{loader:10.1f}{memory:10.1f}{loader / memory:8.2f}{mfu:8.2f}")
            fed.close()


if __name__ == "__main__":
    sys.exit(main())
