"""Stage 1: of each modality a head for images and one for sentences, and their agreement.

Owns: the heads of any number of modalities, the loss that keeps an image with its sentences, the
centre loss that draws the text heads together. Does not own: what is true of what (`pairs`), the
loss of one batch (`contrast`), what the heads are distilled into (`unify`).
Source: M3Bind (arXiv:2506.18072): own loss of each modality, and the squared distance of all pairs
of text encoders on the same sentences. That vectors of the encoder and of the tower stay as they
are and linear heads learn, is our choice.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from training.bind_config import BindConfig
from training.contrast import contrast
from training.pairs import Pairs, Rows
from training.stage import Stage, stream

SCALE, OFFSET = 10.0, -5.0  # of cosines, to begin with; both are learned
CENTRE_TERMS = 128  # of a step


@dataclass(frozen=True, slots=True)
class Sentences:
    """Vectors of the tower (S, W), unit rows: of captions, of terms, of what fits no image.

    `texts` are in the same order, as the tower read them.
    """

    texts: tuple[str, ...]
    vectors: Tensor
    captions: int
    foreign: int

    def foreign_rows(self) -> Rows:
        """Rows of what is true of no image; they are the last."""
        return np.arange(len(self.texts) - self.foreign, len(self.texts))

    def terms(self, draws: np.random.Generator, count: int) -> Rows:
        """Draw rows of terms, each at most once."""
        last = len(self.texts) - self.foreign
        return draws.choice(
            np.arange(self.captions, last), min(count, last - self.captions), replace=False
        )


@dataclass(frozen=True, slots=True)
class Batch:
    """Images (B,), rows of sentences (S,), truth (B, S), and terms (C,) to agree on."""

    images: Rows
    sentences: Rows
    truth: Tensor
    terms: Rows


def batch(
    pairs: Pairs, sentences: Sentences, config: BindConfig, stage: str, step: int, size: int
) -> Batch:
    """Draw what a step learns from; captions of other modalities count unless `across` is off."""
    draws = stream(config, stage, step)
    images, captions = pairs.drawn(draws, size)
    foreign = sentences.foreign_rows()
    truth = pairs.truth(images, captions)
    if not config.across:
        # A caption is drawn with its image: it is of the modality of that one.
        modality = torch.from_numpy(pairs.modality_of[images])
        truth = truth * (modality[:, None] == modality[None, :])
    truth = torch.cat([truth, -torch.ones(size, len(foreign))], dim=1)
    terms = sentences.terms(draws, CENTRE_TERMS)
    return Batch(images, np.concatenate([captions, foreign]), truth, terms)


class Heads(nn.Module):
    """Linear maps of M modalities to unit vectors of the space."""

    def __init__(self, count: int, width: int, dim: int, *, seed: int) -> None:
        super().__init__()
        drawn = torch.randn(count, dim, width, generator=torch.Generator().manual_seed(seed))
        self.weight = nn.Parameter(drawn / width**0.5)
        self.bias = nn.Parameter(torch.zeros(count, dim))

    def forward(self, rows: Tensor) -> Tensor:
        """Map rows (N, W) by every head: (M, N, D)."""
        mapped = torch.einsum("nw,mdw->mnd", rows, self.weight) + self.bias[:, None]
        return functional.normalize(mapped, dim=2)


class Binding(Stage):
    """The heads of all modalities and what they learn."""

    def __init__(self, pairs: Pairs, sentences: Sentences, config: BindConfig) -> None:
        super().__init__()
        count, dim = len(pairs.modalities), config.dim
        self.images = Heads(count, pairs.vectors.shape[1], dim, seed=2 * config.seed)
        self.texts = Heads(count, sentences.vectors.shape[1], dim, seed=2 * config.seed + 1)
        self.log_scale = nn.Parameter(torch.tensor(SCALE).log())
        self.offset = nn.Parameter(torch.tensor(OFFSET))
        self._pairs, self._sentences, self._config = pairs, sentences, config

    def _drawn(self, step: int) -> Batch:
        config = self._config
        return batch(self._pairs, self._sentences, config, "bind", step, config.bind_batch)

    def names(self, step: int) -> Sequence[str]:
        """Name the images of a step."""
        return [self._pairs.paths[row] for row in self._drawn(step).images]

    def terms(self, step: int) -> dict[str, Tensor]:
        """Return `loss`, and its parts `contrast` and `centre`."""
        config, drawn = self._config, self._drawn(step)
        said = self.texts(self._sentences.vectors[drawn.sentences])
        common = torch.cat([said, self.texts(self._sentences.vectors[drawn.terms])], dim=1)
        apart = contrast(
            config.contrast,
            self._cosines(drawn.images, said),
            drawn.truth,
            scale=self.log_scale.exp(),
            offset=self.offset,
        )
        together = centre(common)
        loss = apart + config.centre * together
        return {"loss": loss, "contrast": apart, "centre": together}

    def _cosines(self, images: Rows, said: Tensor) -> Tensor:
        """Compare each image with sentences (M, S, D) as the text head of its modality has them."""
        modality = torch.from_numpy(self._pairs.modality_of[images])
        placed = self.images(self._pairs.vectors[images])[modality, torch.arange(len(images))]
        by_modality = torch.einsum("nd,msd->mns", placed, said)
        return by_modality[modality, torch.arange(len(images))]


def centre(said: Tensor) -> Tensor:
    """Return the mean squared distance of all pairs of M heads on S sentences (M, S, D)."""
    count = len(said)
    if count < 2:
        return said.sum() * 0.0
    # Of unit rows: the sum over pairs is M^2 less the square of the sum's length.
    of_pairs = count**2 - said.sum(dim=0).square().sum(dim=1)
    return 2 * of_pairs.mean() / (count * (count - 1))
