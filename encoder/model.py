"""A plain pre-norm Vision Transformer over space-time tokens.

Owns: the network from patches to CLS and token vectors. Does not own: where its weights come from
(`checkpoint`), pooling to one vector (`embedder`), any training head (`training`).
Sources: ViT (arXiv:2010.11929), registers (arXiv:2309.16588), LayerScale (arXiv:2103.17239).
"""

from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from encoder.config import EncoderConfig

# Measured on CPU: below this many tokens writing attention out beats the fused kernel.
EXPLICIT_BELOW_TOKENS = 128


def sincos(positions: Tensor, width: int) -> Tensor:
    """Turn grid places (N, L, 3) into fixed encodings (N, L, D), a third of D for each axis.

    Each third is sine and cosine at D / 6 frequencies from 1 down to 1 / 10000, as in the first
    Transformer (arXiv:1706.03762); places between the grid points are meaningful.
    """
    count = width // 6
    exponents = torch.arange(count, device=positions.device, dtype=torch.float32) / count
    angles = positions.float().unsqueeze(-1) * torch.pow(10000.0, -exponents)  # N L 3 D/6
    return torch.cat([angles.sin(), angles.cos()], dim=-1).flatten(2)


def attend(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    """Attention over (N, heads, L, D / heads), written out for short sequences."""
    if query.shape[-2] >= EXPLICIT_BELOW_TOKENS:
        return functional.scaled_dot_product_attention(query, key, value)
    weights = (query * query.shape[-1] ** -0.5) @ key.transpose(-2, -1)
    mixed: Tensor = weights.softmax(dim=-1) @ value
    return mixed


class PatchEmbedding(nn.Module):
    """A 3-D convolution whose stride is its kernel, as one matrix product."""

    def __init__(self, config: EncoderConfig) -> None:
        super().__init__()
        self.depth, height, width = config.patch
        self.frame_values = height * width
        values = 3 * self.depth * self.frame_values
        self.weight = nn.Parameter(torch.empty(config.width, values))
        self.bias = nn.Parameter(torch.empty(config.width))

    def forward(self, patches: Tensor) -> Tensor:
        """Map (N, L, P) to (N, L, D); a P of one frame stands for that frame `depth` times."""
        weight: Tensor = self.weight
        if patches.shape[-1] == 3 * self.frame_values:
            kernel = weight.view(-1, 3, self.depth, self.frame_values)
            weight = kernel.sum(dim=2).flatten(1)
        return functional.linear(patches, weight, self.bias)


class Block(nn.Module):
    """Attention and a two-layer perceptron, each on a normalised branch with a learned gain."""

    def __init__(self, config: EncoderConfig) -> None:
        super().__init__()
        width = config.width
        self.heads = config.heads
        self.norm1 = nn.LayerNorm(width)
        self.qkv = nn.Linear(width, 3 * width)
        self.projection = nn.Linear(width, width)
        self.scale1 = nn.Parameter(torch.full((width,), config.layer_scale))
        self.norm2 = nn.LayerNorm(width)
        self.expand = nn.Linear(width, 4 * width)
        self.contract = nn.Linear(4 * width, width)
        self.scale2 = nn.Parameter(torch.full((width,), config.layer_scale))

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, L, D) to the same shape."""
        n, length, width = x.shape
        qkv = self.qkv(self.norm1(x)).view(n, length, 3, self.heads, width // self.heads)
        query, key, value = qkv.permute(2, 0, 3, 1, 4)
        mixed = attend(query, key, value).transpose(1, 2).reshape(n, length, width)
        # Gains in the type of x: under autocast a float32 gain would make all that follows float32.
        x = torch.addcmul(x, self.scale1.to(x.dtype), self.projection(mixed))
        change: Tensor = self.contract(functional.gelu(self.expand(self.norm2(x))))
        return torch.addcmul(x, self.scale2.to(x.dtype), change)


class Encoder(nn.Module):
    """Patches and places to one CLS vector and one vector per token."""

    def __init__(self, config: EncoderConfig) -> None:
        super().__init__()
        self.config = config
        self.embedding = PatchEmbedding(config)
        self.prefix = nn.Parameter(torch.empty(1 + config.registers, config.width))
        self.blocks = nn.ModuleList(Block(config) for _ in range(config.depth))
        self.norm = nn.LayerNorm(config.width)

    def forward(self, patches: Tensor, positions: Tensor) -> tuple[Tensor, Tensor]:
        """Map patches (N, L, P) and places (N, L, 3) to CLS (N, D) and tokens (N, L, D)."""
        x = self.embedding(patches)
        x = x + sincos(positions, self.config.width).to(x.dtype)
        prefix = self.prefix.to(x.dtype).expand(len(x), -1, -1)  # CLS, then registers
        x = torch.cat([prefix, x], dim=1)
        for block in self.blocks:
            x = block(x)
        x = self.norm(x)
        return x[:, 0], x[:, len(self.prefix) :]


def build(config: EncoderConfig, weights: Mapping[str, Tensor]) -> Encoder:
    """Make a network that holds exactly these weights; RuntimeError where they do not fit."""
    with torch.device("meta"):  # no time spent on values that are replaced at once
        encoder = Encoder(config)
    encoder.load_state_dict(weights, assign=True)
    return encoder


def weight_shapes(config: EncoderConfig) -> dict[str, torch.Size]:
    """Name every tensor of the network with its shape."""
    with torch.device("meta"):
        return {name: tensor.shape for name, tensor in Encoder(config).state_dict().items()}


def initial_weights(config: EncoderConfig, seed: int) -> dict[str, Tensor]:
    """Draw the weights of an untrained encoder, bit for bit the same on every machine.

    Matrices are Xavier uniform, CLS and registers small, as in MAE (arXiv:2111.06377). NumPy's
    RandomState is used because its stream is frozen for good (NEP 19), unlike torch's.
    """
    stream = np.random.RandomState(seed)
    weights: dict[str, Tensor] = {}
    for name, shape in weight_shapes(config).items():
        if len(shape) == 2:
            bound = 0.02 * 3**0.5 if name == "prefix" else (6 / sum(shape)) ** 0.5
            drawn = (stream.random_sample(tuple(shape)) * 2 - 1) * bound
            weights[name] = torch.from_numpy(drawn.astype(np.float32))
        elif name.endswith(("scale1", "scale2")):
            weights[name] = torch.full(shape, config.layer_scale)
        else:
            weights[name] = torch.full(shape, float(name.endswith("weight")))
    return weights
