"""Telling images and sentences apart where several answers are right.

Owns: the two losses over cosines (B, S) of images and sentences, and what is right. Does not own:
where cosines come from (`bind`, `unify`).
"""

import torch
from torch import Tensor
from torch.nn import functional

from training.bind_config import Contrast


def contrast(
    kind: Contrast, cosines: Tensor, truth: Tensor, *, scale: Tensor, offset: Tensor
) -> Tensor:
    """Return the loss of cosines (B, S); `truth` is 1, -1, or 0 for what does not count."""
    if kind is Contrast.SIGLIP:
        return siglip(scale * cosines + offset, truth)
    return (clip(scale * cosines, truth) + clip(scale * cosines.T, truth.T)) / 2


def siglip(logits: Tensor, truth: Tensor) -> Tensor:
    """Judge every pair by itself (arXiv:2303.15343)."""
    each = functional.softplus(-truth * logits) * truth.abs()
    return each.sum() / truth.abs().sum().clamp(min=1)


def clip(logits: Tensor, truth: Tensor) -> Tensor:
    """Let each row choose among columns; its right ones share the target (arXiv:2004.11362)."""
    logits = logits.masked_fill(truth == 0, -torch.inf)
    asks = (truth > 0).any(dim=1)
    logits, right = logits[asks], truth[asks] > 0
    likely = functional.log_softmax(logits, dim=1).masked_fill(~right, 0.0)
    return -(likely.sum(dim=1) / right.sum(dim=1)).sum() / max(1, len(logits))
