"""The masked autoencoder: restore what was hidden of a clip from the little that was shown.

Owns: masking, the decoder, the loss on hidden patches. Does not own: the encoder (`encoder.model`).
Sources: MAE (arXiv:2111.06377), over space and time (arXiv:2205.09113).
"""

from dataclasses import replace

import torch
from torch import Tensor, nn
from torch.nn import functional

from encoder.config import EncoderConfig
from encoder.model import Block, sincos


def hide(draws: Tensor, part: float) -> tuple[Tensor, Tensor]:
    """Split tokens by random draws (N, L): ids of the shown (N, K) and the hidden (N, L - K).

    At least one is shown and one hidden.
    """
    length = draws.shape[1]
    shown = min(length - 1, max(1, round(length * (1 - part))))
    order = draws.argsort(dim=1)
    return order[:, :shown], order[:, shown:]


def take(tokens: Tensor, ids: Tensor) -> Tensor:
    """Pick tokens (N, K, D) by ids (N, K) from (N, L, D)."""
    return tokens.gather(1, ids.unsqueeze(-1).expand(-1, -1, tokens.shape[-1]))


def target(patches: Tensor) -> Tensor:
    """Normalise each patch of (N, L, P) by its own mean and deviation, as MAE found better."""
    values = patches.float()
    mean = values.mean(dim=-1, keepdim=True)
    return (values - mean) / (values.var(dim=-1, keepdim=True) + 1e-6).sqrt()


class Decoder(nn.Module):
    """A shallow network from shown tokens to the values of hidden ones."""

    def __init__(self, encoder: EncoderConfig, *, width: int, depth: int) -> None:
        super().__init__()
        # 64 values a head, as in the encoder, and plain residuals: it is shallow.
        small = replace(encoder, width=width, heads=max(1, width // 64), layer_scale=1.0)
        t, h, w = encoder.patch
        self.width, self.frames, self.frame_values = width, t, h * w
        self.enter = nn.Linear(encoder.width, width)
        self.mask = nn.Parameter(torch.empty(width))
        self.blocks = nn.ModuleList(Block(small) for _ in range(depth))
        self.norm = nn.LayerNorm(width)
        self.leave = nn.Linear(width, 3 * t * h * w)
        nn.init.normal_(self.mask, std=0.02)

    def forward(self, shown: Tensor, places: Tensor, hidden_places: Tensor, values: int) -> Tensor:
        """Map shown tokens (N, K, D) to `values` P of each hidden place (N, L - K, P)."""
        known = self.enter(shown)
        known = known + sincos(places, self.width).to(known.dtype)
        asked = self.mask + sincos(hidden_places, self.width)
        x = torch.cat([known, asked.to(known.dtype)], dim=1)
        for block in self.blocks:
            x = block(x)
        restored: Tensor = self.leave(self.norm(x[:, known.shape[1] :]))
        if values == restored.shape[-1]:
            return restored
        by_frame = restored.view(*restored.shape[:2], 3, self.frames, self.frame_values)
        frame: Tensor = by_frame.mean(dim=3).flatten(2)  # a still is one frame shown t times
        return frame


def restoration_loss(restored: Tensor, patches: Tensor) -> Tensor:
    """Mean squared error per hidden patch, averaged over them; float32."""
    return functional.mse_loss(restored.float(), target(patches))
