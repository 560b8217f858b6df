"""Where and in which precision the network runs, decided once by trying.

Owns: `DeviceChoice` and the micro-benchmark behind it. Does not own: the batches (`embedder`).
"""

import copy
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch

from encoder.clip import Kind
from encoder.errors import EncoderError
from encoder.model import Encoder

TRIAL_BATCH = 4
TRIAL_RUNS = 3


@dataclass(frozen=True, slots=True)
class DeviceChoice:
    """A torch device, a dtype, and the reason in words for the log."""

    device: str
    dtype: torch.dtype
    reason: str


def choose(
    encoder: Encoder, *, device: str = "auto", dtype: torch.dtype | None = None
) -> DeviceChoice:
    """Pick the device and the faster of fp32 and bf16, in well under a second.

    A given device or dtype is taken as it is. Raises EncoderError for a device that is not there.
    """
    device = available(device)
    if dtype is not None:
        return DeviceChoice(device, dtype, "dtype as asked")
    if not _has_bf16(device):
        return DeviceChoice(device, torch.float32, "no fast bf16 here")
    with _one_thread():
        fp32_s = _trial_s(encoder, device, torch.float32)
        bf16_s = _trial_s(encoder, device, torch.bfloat16)
    if bf16_s < fp32_s:
        reason = f"bf16 {fp32_s / bf16_s:.1f}x faster than fp32 here"
        return DeviceChoice(device, torch.bfloat16, reason)
    reason = f"fp32 {bf16_s / fp32_s:.1f}x faster than bf16 here"
    return DeviceChoice(device, torch.float32, reason)


def available(device: str = "auto") -> str:
    """Resolve auto to cuda or cpu; raises EncoderError for a device that is not there."""
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        torch.empty(1, device=device)
    except (RuntimeError, AssertionError) as error:  # torch asserts where CUDA is not built in
        raise EncoderError(f"device {device!r} cannot be used here: use auto or cpu") from error
    return device


def _has_bf16(device: str) -> bool:
    if device.startswith("cuda"):
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    return bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())


@contextmanager
def _one_thread() -> Iterator[None]:
    """Threads that wait for one another would spin for seconds where the machine is busy."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def _trial_s(encoder: Encoder, device: str, dtype: torch.dtype) -> float:
    """Time the real network on a small batch of stills, best of a few after one to warm up."""
    trial = copy.deepcopy(encoder).to(device, dtype)
    config = encoder.config
    _, height, width = config.patch
    extent = config.extent(Kind.STILL)
    tokens = extent.height // height * (extent.width // width)
    patches = torch.zeros(TRIAL_BATCH, tokens, 3 * height * width, device=device, dtype=dtype)
    positions = torch.zeros(TRIAL_BATCH, tokens, 3, device=device)
    times_s: list[float] = []
    with torch.inference_mode():
        for _ in range(1 + TRIAL_RUNS):
            begin = time.perf_counter()
            trial(patches, positions)[0].cpu()  # fetching waits for the device
            times_s.append(time.perf_counter() - begin)
    return min(times_s[1:])
