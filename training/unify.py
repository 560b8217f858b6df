"""Stage 2: one text encoder in place of all text heads, and an image head for other modalities.

Owns: the student, what it copies, the head of modalities that were not bound. Does not own: the
teachers (`bind`). How M3Bind distils is not known to us; this is our reading: on every sentence the
student comes as near to all frozen heads as it can, and, by a weight, keeps images apart too.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from encoder.text import TextTower
from training.adapt import Reader
from training.bind import Batch, Binding, Heads, Sentences, batch
from training.bind_config import BindConfig
from training.contrast import contrast
from training.pairs import Pairs, Rows
from training.stage import Stage


class Unifying(Stage):
    """The student, a tower with a projection, beside frozen heads; `other` is the one image head.

    The projection begins as the mean of the text heads, and stays that without `distil`.
    """

    def __init__(
        self,
        bound: Binding,
        reader: Reader,
        pairs: Pairs,
        sentences: Sentences,
        config: BindConfig,
    ) -> None:
        super().__init__()
        self.tower: TextTower = reader.tower
        self.projection = nn.Linear(sentences.vectors.shape[1], config.dim)
        with torch.no_grad():
            self.projection.weight.copy_(bound.texts.weight.mean(dim=0))
            self.projection.bias.copy_(bound.texts.bias.mean(dim=0))
        self.projection.requires_grad_(config.distil)
        self.other = Heads(1, pairs.vectors.shape[1], config.dim, seed=2 * config.seed + 2)
        self._bound = [bound.requires_grad_(False)]  # in a list: no part of what is saved here
        self._reader, self._pairs = reader, pairs
        self._sentences, self._config = sentences, config

    def _drawn(self, step: int) -> Batch:
        config = self._config
        return batch(self._pairs, self._sentences, config, "unify", step, config.unify_batch)

    def names(self, step: int) -> Sequence[str]:
        """Name the images of a step."""
        return [self._pairs.paths[row] for row in self._drawn(step).images]

    def terms(self, step: int) -> dict[str, Tensor]:
        """Return `loss` and its parts: `copy`, `contrast` of bound heads, `other` of the one."""
        config, drawn = self._config, self._drawn(step)
        said = self.said(drawn.sentences)
        other = self._contrast(drawn, self.other, said.detach())
        if not config.distil:
            return {"loss": other, "other": other}
        copied = (self._copied(drawn.sentences, said) + self._copied_terms(drawn.terms)) / 2
        apart = self._contrast(drawn, self._bound[0].images, said)
        loss = copied + config.unify_contrast * apart + other
        return {"loss": loss, "copy": copied, "contrast": apart, "other": other}

    def said(self, rows: Rows) -> Tensor:
        """Return the student's unit rows (S, D) of sentences."""
        if self._config.distil and self._config.unify_rank:
            vectors = self._reader.vectors([self._sentences.texts[row] for row in rows])
        else:
            vectors = self._sentences.vectors[rows]
        return functional.normalize(self.projection(vectors), dim=1)

    def _copied_terms(self, rows: Rows) -> Tensor:
        return self._copied(rows, self.said(rows)) if len(rows) else torch.zeros(())

    def _copied(self, rows: Rows, said: Tensor) -> Tensor:
        """Return one less the cosine to each frozen head, its mean over heads and sentences."""
        taught = self._bound[0].texts(self._sentences.vectors[rows])
        return 1 - torch.einsum("sd,msd->ms", said, taught).mean()

    def _contrast(self, drawn: Batch, heads: Heads, said: Tensor) -> Tensor:
        """Compare images, by the head of their modality or the only one, with what was said."""
        bound, images = self._bound[0], drawn.images
        modality = torch.from_numpy(self._pairs.modality_of[images]) % len(heads.weight)
        placed = heads(self._pairs.vectors[images])[modality, torch.arange(len(images))]
        return contrast(
            self._config.contrast,
            placed @ said.T,
            drawn.truth,
            scale=bound.log_scale.exp(),
            offset=bound.offset,
        )
