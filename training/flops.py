"""How many floating-point operations a step takes, and how many this machine could do.

Owns: the count that MFU is taken from. A multiply and an add are two; only matrix products count.
"""

import time

import torch

from encoder.config import EncoderConfig
from training.batches import Batch, Tokens
from training.config import Method, TrainConfig

PEAK_SIZE = 2048


def forward_flops(encoder: EncoderConfig, tokens: int, values: int) -> float:
    """One pass of one sample: `tokens` patches of `values` numbers, and CLS and registers."""
    length, width = tokens + 1 + encoder.registers, encoder.width
    linear = 2 * 12 * width**2 * length
    attention = 2 * 2 * length**2 * width
    return encoder.depth * (linear + attention) + 2 * tokens * values * width


def step_flops(config: TrainConfig, batch: Batch) -> float:
    """Forward and backward of a batch: three passes where gradients flow, one where not."""
    wide = [tokens for view in batch.globals for tokens in view]
    narrow = [tokens for view in batch.locals for tokens in view]
    if config.method is Method.MAE:
        return 3 * sum(_masked(config, tokens) for tokens in wide)
    whole = sum(_whole(config, tokens) for tokens in wide)
    if config.method is Method.DISTILL:
        return 3 * whole  # the convolutions of ImageNet's network come on top
    student = whole
    if config.method is Method.JOINT:
        student = sum(_masked(config, tokens, config.hidden_joint) for tokens in wide)
    return whole + 3 * (student + sum(_whole(config, tokens) for tokens in narrow))


def _whole(config: TrainConfig, tokens: Tokens) -> float:
    n, length, values = tokens.patches.shape
    return n * forward_flops(config.encoder, length, values)


def _masked(config: TrainConfig, tokens: Tokens, hidden: float | None = None) -> float:
    """Encode what is shown, decode everything at the decoder's width."""
    n, length, values = tokens.patches.shape
    still = values == 3 * config.encoder.patch[1] * config.encoder.patch[2]
    if hidden is None:
        hidden = config.hidden_still if still else config.hidden_clip
    shown = max(1, round(length * (1 - hidden)))
    width = config.decoder_width
    decoder = config.decoder_depth * (2 * 12 * width**2 * length + 4 * length**2 * width)
    leave = 2 * (length - shown) * width * values
    return n * (forward_flops(config.encoder, shown, values) + decoder + leave)


def matmul_peak(dtype: torch.dtype, *, device: str = "cpu", seconds: float = 1.0) -> float:
    """Measure floating-point operations per second of one large matrix product here."""
    a = torch.randn(PEAK_SIZE, PEAK_SIZE, device=device).to(dtype)
    product = a @ a
    best, until = float("inf"), time.perf_counter() + seconds
    while time.perf_counter() < until:
        began = time.perf_counter()
        torch.mm(a, a, out=product)
        if device != "cpu":
            torch.cuda.synchronize()
        best = min(best, time.perf_counter() - began)
    return 2 * PEAK_SIZE**3 / best
