"""The text tower: a BERT of few layers over word pieces.

Owns: its shape and the network from piece numbers to one vector a sentence. Does not own: words
(`wordpiece`), where weights come from (`text_checkpoint`), heads and losses (`training`).
Sources: BERT (arXiv:1810.04805), post-norm; MiniLM (arXiv:2002.10957).
"""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

NORM_EPSILON = 1e-12


@dataclass(frozen=True, slots=True)
class TextConfig:
    """Pieces it knows, width D, blocks, heads, width of the perceptrons, most tokens a sentence.

    Raises ValueError for numbers that fit no network.
    """

    vocabulary: int
    width: int
    depth: int
    heads: int
    hidden: int
    tokens: int

    def __post_init__(self) -> None:
        if min(self.vocabulary, self.width, self.depth, self.heads, self.hidden) < 1:
            raise ValueError("vocabulary, width, depth, heads and hidden must be positive")
        if self.width % self.heads:
            raise ValueError(f"width {self.width} must be a multiple of heads")
        if self.tokens < 3:
            raise ValueError("a sentence has at least three tokens: first, one piece, last")


class TextBlock(nn.Module):
    """Attention and a two-layer perceptron, each added and then normalised."""

    def __init__(self, config: TextConfig) -> None:
        super().__init__()
        self.heads = config.heads
        self.qkv = nn.Linear(config.width, 3 * config.width)
        self.projection = nn.Linear(config.width, config.width)
        self.norm1 = nn.LayerNorm(config.width, eps=NORM_EPSILON)
        self.expand = nn.Linear(config.width, config.hidden)
        self.contract = nn.Linear(config.hidden, config.width)
        self.norm2 = nn.LayerNorm(config.width, eps=NORM_EPSILON)

    def forward(self, x: Tensor, present: Tensor) -> Tensor:
        """Map (N, L, D) to the same shape; `present` (N, L) is False at padding."""
        n, length, width = x.shape
        qkv = self.qkv(x).view(n, length, 3, self.heads, width // self.heads)
        query, key, value = qkv.permute(2, 0, 3, 1, 4)
        mixed = functional.scaled_dot_product_attention(
            query, key, value, attn_mask=present[:, None, None, :]
        )
        x = self.norm1(x + self.projection(mixed.transpose(1, 2).reshape(n, length, width)))
        changed: Tensor = self.norm2(x + self.contract(functional.gelu(self.expand(x))))
        return changed


class TextTower(nn.Module):
    """Piece numbers to one vector a sentence."""

    def __init__(self, config: TextConfig) -> None:
        super().__init__()
        self.config = config
        # Drawn, as torch would do here, values without storage have it load its compiler: seconds.
        empty = torch.empty(config.vocabulary, config.width)
        self.pieces = nn.Embedding(config.vocabulary, config.width, _weight=empty)
        self.positions = nn.Parameter(torch.empty(config.tokens, config.width))
        self.norm = nn.LayerNorm(config.width, eps=NORM_EPSILON)
        self.blocks = nn.ModuleList(TextBlock(config) for _ in range(config.depth))

    def forward(self, numbers: Tensor, present: Tensor) -> Tensor:
        """Map piece numbers (N, L) to the mean of the tokens that are present, (N, D)."""
        x = self.norm(self.pieces(numbers) + self.positions[: numbers.shape[1]])
        for block in self.blocks:
            x = block(x, present)
        counted = present.unsqueeze(-1).to(x.dtype)
        mean: Tensor = (x * counted).sum(dim=1) / counted.sum(dim=1)
        return mean


def build(config: TextConfig, weights: Mapping[str, Tensor]) -> TextTower:
    """Make a network that holds exactly these weights; RuntimeError where they do not fit."""
    with torch.device("meta"):  # no time spent on values that are replaced at once
        tower = TextTower(config)
    tower.load_state_dict(weights, assign=True)
    return tower


def weight_shapes(config: TextConfig) -> dict[str, torch.Size]:
    """Name every tensor of the network with its shape."""
    with torch.device("meta"):
        return {name: tensor.shape for name, tensor in TextTower(config).state_dict().items()}
