"""SimDINO: views of one image agree, images of a batch spread, and nothing else is needed.

Owns: the coding rate and its balance, the alignment, the projection head, the teacher's average.
Does not own: the encoder, the views. Source: arXiv:2502.10385 and its published code.
"""

import torch
import torch.distributed
from torch import Tensor, nn
from torch.distributed.nn import functional as distributed
from torch.nn import functional


class Head(nn.Module):
    """Three layers and no normalisation but the last: outputs (N, D) lie on the unit sphere."""

    def __init__(self, width: int, *, hidden: int, out: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Linear(width, hidden),
            nn.GELU(),
            nn.Linear(hidden, hidden),
            nn.GELU(),
            nn.Linear(hidden, out),
        )
        for layer in self.layers:
            if isinstance(layer, nn.Linear):
                nn.init.trunc_normal_(layer.weight, std=0.02)
                nn.init.zeros_(layer.bias)

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, width) to unit rows (N, out), the length taken in float32."""
        return functional.normalize(self.layers(x).float(), dim=-1)


def alignment(teacher: Tensor, student: Tensor) -> Tensor:
    """Mean cosine of every teacher view (2, N, D) with every other student view (V, N, D).

    The first two student views are the teacher's; a view is not compared with itself.
    """
    cosines = torch.einsum("tnd,vnd->tv", teacher, student) / student.shape[1]
    views, others = len(teacher), len(student)
    itself = torch.eye(views, others, dtype=torch.bool, device=cosines.device)
    return cosines.masked_fill(itself, 0).sum() / (views * (others - 1))


def coding_rate(vectors: Tensor, eps: float) -> Tensor:
    """Nats to code unit rows (N, D) to a precision: 1/2 logdet(I + D / (N eps) W^T W) in float32.

    Over several processes the rows are those of all of them. Never negative; larger where the
    rows spread over more directions.
    """
    width = vectors.shape[1]
    with torch.autocast(vectors.device.type, enabled=False):
        rows = vectors.float()
        second = rows.T @ rows / len(rows)
        if torch.distributed.is_initialized():
            second = _sum_of_all(second) / torch.distributed.get_world_size()
        identity = torch.eye(width, device=rows.device)
        factor, _ = torch.linalg.cholesky_ex(identity + second * (width / eps))
        half_logdet: Tensor = factor.diagonal().log().sum()
        return half_logdet


def _sum_of_all(tensor: Tensor) -> Tensor:
    """Sum over the processes; gradients flow back to every one of them."""
    total: Tensor = distributed.all_reduce(tensor)  # type: ignore[no-untyped-call]
    return total


def balance(samples: int, width: int) -> float:
    """The published scale (D + N) / (D N): rates of other batches and widths stay comparable."""
    return (width + samples) / (width * samples)


def expansion(teacher: Tensor, student: Tensor, eps: float) -> Tensor:
    """Balanced coding rate of the mean of student and teacher, averaged over the global views.

    teacher (2, N, D); student (V, N, D). The mean of both damps the early spikes of the rate.
    """
    ranks = torch.distributed.get_world_size() if torch.distributed.is_initialized() else 1
    mixed = (student[: len(teacher)] + teacher) / 2
    rates = torch.stack([coding_rate(view, eps) for view in mixed])
    return balance(mixed.shape[1] * ranks, mixed.shape[2]) * rates.mean()


@torch.no_grad()
def follow(teacher: nn.Module, student: nn.Module, momentum: float) -> None:
    """Move the teacher's weights towards the student's: teacher * m + student * (1 - m)."""
    pairs = zip(teacher.parameters(), student.parameters(), strict=True)
    for theirs, ours in pairs:
        theirs.lerp_(ours, 1 - momentum)
