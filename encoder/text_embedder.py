"""From sentences to unit vectors.

Owns: batching, and the promise that what leaves is finite and of length one. Does not own: the
cutting of words (`wordpiece`), any head that brings text and image together.
"""

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from encoder.device import available
from encoder.errors import EncoderError
from encoder.text import build
from encoder.text_checkpoint import TextCheckpoint, text_model_id
from encoder.wordpiece import Sentence, Tokeniser

BATCH_TOKENS = 4096


class TextEmbedder:
    """One text tower, ready to use; `text_model_id` names exactly these weights and words."""

    def __init__(self, checkpoint: TextCheckpoint, *, device: str = "auto") -> None:
        """Build the network; raises EncoderError for a device that is not there."""
        config = checkpoint.description.config
        self.text_model_id = text_model_id(checkpoint)
        self.name = checkpoint.description.name
        self.dim = config.width
        self._tokeniser = Tokeniser(checkpoint.vocabulary, tokens=config.tokens)
        self._device = available(device)
        self._tower = build(config, checkpoint.network).eval().to(self._device)

    def read(self, text: str) -> Sentence:
        """Cut one sentence into pieces, which says what was not understood; BadText as there."""
        return self._tokeniser.read(text)

    def knows(self, text: str) -> bool:
        """Say whether a sentence can be read."""
        return self._tokeniser.knows(text)

    def embed(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Turn sentences into unit rows (N, D) in the same order.

        Raises BadText where one cannot be read, EncoderError where a vector is not finite.
        """
        sentences = [self.read(text) for text in texts]
        vectors = torch.empty(len(sentences), self.dim)
        # Alike in length together: little of a batch is padding.
        order = sorted(range(len(sentences)), key=lambda row: -len(sentences[row].numbers))
        while order:
            rows = order[: max(1, BATCH_TOKENS // len(sentences[order[0]].numbers))]
            order = order[len(rows) :]
            vectors[rows] = self._batch([sentences[row] for row in rows])
        if not vectors.isfinite().all():
            raise EncoderError(f"{self.name} gave a vector that is not finite: check its folder")
        return vectors.numpy()

    def _batch(self, sentences: Sequence[Sentence]) -> Tensor:
        """Run one batch, filled up to its longest sentence: unit rows (N, D) on the CPU."""
        numbers, present = padded(sentences, padding=self._tokeniser.padding)
        with torch.inference_mode():
            mean = self._tower(numbers.to(self._device), present.to(self._device))
            return functional.normalize(mean.float(), dim=1).cpu()


def padded(sentences: Sequence[Sentence], *, padding: int) -> tuple[Tensor, Tensor]:
    """Put sentences side by side: numbers (N, L), and where they are present (N, L)."""
    lengths = torch.tensor([len(sentence.numbers) for sentence in sentences])
    numbers = torch.full((len(sentences), int(lengths.max())), padding)
    for row, sentence in enumerate(sentences):
        numbers[row, : len(sentence.numbers)] = torch.tensor(sentence.numbers)
    return numbers, torch.arange(numbers.shape[1]) < lengths[:, None]
