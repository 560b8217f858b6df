"""Embedding: stills, cines and volumes a second, as a share of the processor, beside Lite0.

    make bench-embed

Clips are made up, at the size at which the reader hands them over. "network" is what the encoder
takes once the tokens lie ready; "whole" adds `normalise` and `tokenise`. The peak is one large
matrix product in the same dtype in the same run. EfficientNet-Lite0 gets the same pixels, 128 by
128, in the faster of its dtypes, in turns with us. Times are printed, never asserted.
"""

import sys
import time
from collections.abc import Callable
from functools import partial
from statistics import median

import numpy as np
import torch

from encoder import checkpoint
from encoder.clip import Clip, Kind, Unit
from encoder.embedder import BATCH_TOKENS, Embedder
from encoder.normalise import normalise
from encoder.tokens import tokenise
from training import lite0
from training.flops import forward_flops, matmul_peak

ROUNDS = 5
# What a reader hands over: frames, height, width; how many of them make a round.
CLIPS: dict[str, tuple[Kind, tuple[int, int, int], int]] = {
    "still, 512 x 512": (Kind.STILL, (1, 512, 512), 64),
    "cine, 32 frames of 240 x 320": (Kind.CINE, (32, 240, 320), 16),
    "CT, 275 slices, shrunk while read": (Kind.VOLUME, (275, 128, 128), 8),
}


def seconds(work: Callable[[], object]) -> float:
    """Time one call."""
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


def clip_of(kind: Kind, shape: tuple[int, int, int]) -> Clip:
    """Make a clip of noise."""
    array = np.random.default_rng(0).random((1, *shape), dtype=np.float32)
    return Clip(array, (1.0, 1.0, 1.0), kind, Unit.STORED, None, ())


def main() -> None:
    """Print a table of clips a second, then the ratio to Lite0."""
    torch.set_num_threads(2)
    embedder = Embedder(checkpoint.load(), device="cpu")
    dtype = embedder.choice.dtype
    peak = max(matmul_peak(dtype) for _ in range(3))
    print(f"{embedder.version}, {dtype}, peak of one product {peak / 1e12:.2f} TFLOP/s")
    print(f"{'':36}{'network/s':>10}{'whole/s':>10}{'of peak':>9}")
    for name, (kind, shape, count) in CLIPS.items():
        clips = [clip_of(kind, shape)] * count
        config = embedder.config
        ready = [tokenise(normalise(clips[0], config.extent(kind)), config.patch)] * count
        length, values = ready[0][0].shape
        flops = forward_flops(config, length, values)
        embedder.embed(clips)
        network = median(seconds(partial(in_batches, embedder, ready)) for _ in range(ROUNDS))
        whole = median(seconds(partial(embedder.embed, clips)) for _ in range(ROUNDS))
        share = flops * count / network / peak
        print(f"{name:36}{count / network:10.1f}{count / whole:10.1f}{share:9.0%}")
    beside_lite0(embedder)


def in_batches(embedder: Embedder, ready: list[tuple[np.ndarray, np.ndarray]]) -> None:
    """Run tokens through the network in the batches that `embed` makes."""
    size = max(1, BATCH_TOKENS // len(ready[0][0]))
    for start in range(0, len(ready), size):
        embedder._outputs(ready[start : start + size])


def beside_lite0(embedder: Embedder) -> None:
    """Print images a second of both networks on the same pixels, in turns."""
    weights = lite0.load_weights()
    images = torch.rand(64, 3, 128, 128)
    clip = clip_of(Kind.STILL, (1, 128, 128))
    extent = embedder.config.extent(Kind.STILL)
    ready = [tokenise(normalise(clip, extent), embedder.config.patch)] * 64

    def theirs(dtype: torch.dtype) -> Callable[[], object]:
        cast = {name: tensor.to(dtype) for name, tensor in weights.items()}
        batch = images.to(dtype).contiguous(memory_format=torch.channels_last)
        return lambda: lite0.features(cast, batch)

    works = {
        "Similis": lambda: in_batches(embedder, ready),
        "Lite0, fp32": theirs(torch.float32),
        "Lite0, bf16": theirs(torch.bfloat16),
    }
    times: dict[str, list[float]] = {name: [] for name in works}
    with torch.inference_mode():
        for _ in range(ROUNDS + 1):
            for name, work in works.items():
                times[name].append(seconds(work))
    rates = {name: 64 / median(taken[1:]) for name, taken in times.items()}
    for name, rate in rates.items():
        print(f"{name:36}{rate:10.1f} images/s of 128 x 128")
    best = max(rate for name, rate in rates.items() if name != "Similis")
    print(f"ratio to the faster Lite0: {rates['Similis'] / best:.2f}")


if __name__ == "__main__":
    sys.exit(main())
