"""Multinomial logistic regression on vectors that stay as they are.

Owns: the fit and its penalty. Does not own: which items it learns from (`few_shot`).
"""

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

Matrix = NDArray[np.float32]
Labels = NDArray[np.intp]

# Half of it times the squared weights is added to the mean loss. Of 1e-4 to 1, by tens, it was the
# best for 8 and 16 shots a class within the train split, told from patients to others.
PENALTY = 0.1
_STEPS = 200
_SMALL_GRADIENT = 1e-6


@dataclass(frozen=True, slots=True)
class Logistic:
    """What was fitted: vectors are moved and scaled as those that it was fitted on."""

    centre: Tensor
    scale: float
    weight: Tensor
    bias: Tensor

    def scores(self, vectors: Matrix) -> NDArray[np.float64]:
        """Return the logits (N, C) of vectors (N, D)."""
        scaled = (torch.from_numpy(vectors).double() - self.centre) / self.scale
        logits: NDArray[np.float64] = (scaled @ self.weight + self.bias).numpy()
        return logits


def fit(vectors: Matrix, labels: Labels, classes: int, *, penalty: float = PENALTY) -> Logistic:
    """Fit on vectors (N, D) with class numbers (N,) by L-BFGS; the bias is not penalised.

    Every class weighs the same, also one of fewer vectors. Vectors are centred and brought to a
    mean squared length of 1 first, so that a penalty means the same for every encoder.
    """
    wide = torch.from_numpy(vectors).double()
    centre = wide.mean(dim=0)
    scale = float((wide - centre).square().sum(dim=1).mean().sqrt()) or 1.0
    scaled, wanted = (wide - centre) / scale, torch.from_numpy(labels)
    of_class = 1 / torch.bincount(wanted, minlength=classes).double()
    weight = torch.zeros(scaled.shape[1], classes, dtype=torch.float64, requires_grad=True)
    bias = torch.zeros(classes, dtype=torch.float64, requires_grad=True)
    descent = torch.optim.LBFGS(
        [weight, bias],
        max_iter=_STEPS,
        tolerance_grad=_SMALL_GRADIENT,
        line_search_fn="strong_wolfe",
    )

    def loss() -> Tensor:
        descent.zero_grad()
        value = functional.cross_entropy(scaled @ weight + bias, wanted, weight=of_class)
        value = value + penalty / 2 * weight.square().sum()
        value.backward()  # type: ignore[no-untyped-call]  # torch does not type it
        return value

    descent.step(loss)  # type: ignore[no-untyped-call]  # as above
    return Logistic(centre, scale, weight.detach(), bias.detach())
