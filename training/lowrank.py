"""Changes of low rank to a text tower that else stays as it is.

Owns: `LowRank`, putting it on queries and values, and merging it into the weights. Does not own:
the tower (`encoder.text`), what it learns from (`adapt`, `unify`).
Source: LoRA, arXiv:2106.09685; on query and value as M3Bind has it. No dropout: a step draws
nothing that its number does not say.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional

from encoder.text import TextBlock, TextTower


class LowRank(nn.Linear):
    """Queries, keys and values of a block; queries and values change by `alpha / rank` up down."""

    def __init__(self, base: nn.Linear, *, rank: int, alpha: float, seed: int) -> None:
        super().__init__(base.in_features, base.out_features, device="meta")
        self.weight, self.bias = base.weight, base.bias
        width = base.in_features
        drawn = torch.randn(2, rank, width, generator=torch.Generator().manual_seed(seed))
        self.down = nn.Parameter(drawn / width**0.5)
        self.up = nn.Parameter(torch.zeros(2, width, rank))
        self._scale = alpha / rank

    def merged(self) -> Tensor:
        """Return the weight (3 D, D) with its change."""
        query, value = self._scale * (self.up @ self.down)
        return self.weight + torch.cat([query, torch.zeros_like(query), value])

    def forward(self, x: Tensor) -> Tensor:
        """Map (…, D) to (…, 3 D), without a gradient as large as the weight."""
        query, value = (
            self._scale * functional.linear(functional.linear(x, down), up)
            for down, up in zip(self.down, self.up, strict=True)
        )
        changed = torch.cat([query, torch.zeros_like(query), value], dim=-1)
        return functional.linear(x, self.weight, self.bias) + changed


def lower(tower: TextTower, *, rank: int, alpha: float, seed: int) -> TextTower:
    """Freeze a tower but for changes of this rank, none at all for 0; return it."""
    tower.requires_grad_(False)
    if rank:
        for number, block in enumerate(_blocks(tower)):
            block.qkv = LowRank(block.qkv, rank=rank, alpha=alpha, seed=seed * 1000 + number)
    return tower


@torch.no_grad()
def merged(tower: TextTower) -> dict[str, Tensor]:
    """Return the tensors of a plain tower that computes the same."""
    tensors = {
        name: tensor.detach().clone()
        for name, tensor in tower.state_dict().items()
        if not name.endswith((".up", ".down"))
    }
    for number, block in enumerate(_blocks(tower)):
        if isinstance(block.qkv, LowRank):
            tensors[f"blocks.{number}.qkv.weight"] = block.qkv.merged()
    return tensors


def _blocks(tower: TextTower) -> list[TextBlock]:
    return [block for block in tower.blocks if isinstance(block, TextBlock)]
