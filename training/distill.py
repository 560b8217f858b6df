"""A start from ImageNet: the encoder learns to foretell what EfficientNet-Lite0 says of a view.

Owns: `Distilled`, the pictures that the teacher is shown. Does not own: the teacher (`lite0`).
Teacher and student see the same cut with the same changes, as arXiv:2106.05237 found best. What
is trained so is never called self-supervised: the teacher learned from labels.
"""

from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.nn import functional

from encoder.model import Encoder
from training import lite0
from training.baselines import IMAGENET_MEAN, IMAGENET_STD
from training.batches import Tokens
from training.config import TrainConfig

SLOTS = 2  # of every so many patches along T one frame is shown to the teacher


def pictures(tokens: Tokens, patch: tuple[int, int, int]) -> Tensor:
    """Put patches (N, L, P) together again: frames (N, F, 3, H, W), one of a patch, in bytes."""
    _, height, width = patch
    n, _, values = tokens.patches.shape
    slots, rows, columns = (len(axis.unique()) for axis in tokens.places[0].T)
    depth = values // (3 * height * width)
    cut = tokens.patches.view(n, slots, rows, columns, 3, depth, height, width)
    chosen = cut[:, ::SLOTS, :, :, :, depth // 2]
    frames: Tensor = chosen.permute(0, 1, 4, 2, 5, 3, 6)
    return frames.reshape(n, -1, 3, rows * height, columns * width)


class Teacher:
    """EfficientNet-Lite0 on pictures brought to `side_px`; its features as unit rows (N, 1280)."""

    def __init__(self, weights: Mapping[str, Tensor], side_px: int) -> None:
        # bf16 is enough for a target, and by far the fastest where there are matrix units.
        self._weights = {name: tensor.bfloat16() for name, tensor in weights.items()}
        self._side_px = side_px

    @torch.no_grad()
    def __call__(self, frames: Tensor) -> Tensor:
        """Map bytes (N, F, 3, H, W) to the mean features of the frames, of length 1."""
        mean, std = (
            torch.tensor(values, device=frames.device).view(1, 3, 1, 1)
            for values in (IMAGENET_MEAN, IMAGENET_STD)
        )
        size = (self._side_px, self._side_px)
        images = functional.interpolate(frames.flatten(0, 1).float() / 255, size, mode="bilinear")
        weights = {name: tensor.to(frames.device) for name, tensor in self._weights.items()}
        # Channels last: convolutions of one channel each are then nearly twice as fast on a CPU.
        normalised = ((images - mean) / std).to(torch.bfloat16, memory_format=torch.channels_last)
        features = lite0.features(weights, normalised).float()
        return functional.normalize(features.view(*frames.shape[:2], -1).mean(dim=1), dim=-1)


class Distiller(nn.Module):
    """Foretells the teacher's unit features from what the encoder pooled, by one linear layer."""

    def __init__(self, encoder: Encoder, config: TrainConfig) -> None:
        super().__init__()
        self._patch = encoder.config.patch
        self._teacher = Teacher(lite0.load_weights(), config.teacher_side_px)
        self.head = nn.Linear(2 * encoder.config.width, lite0.WIDTH)
        nn.init.zeros_(self.head.weight)

    def forward(self, pooled: Tensor, tokens: Tokens) -> Tensor:
        """Return the squared distance of each row (N, 2 D) to what the teacher says, (N,).

        The layer foretells values of about 1: at the size of a unit vector's values, .03, one step
        of Adam would move it farther than the features differ.
        """
        said = self._teacher(pictures(tokens, self._patch).to(pooled.device))
        error: Tensor = self.head(pooled).float() - said * lite0.WIDTH**0.5
        return error.square().mean(dim=-1)
