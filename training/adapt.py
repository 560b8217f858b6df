"""Stage 0: the text tower learns the language of radiology.

Owns: pairs of sentences that mean the same, the loss over them, how well held-out ones find each
other. Does not own: the terms (`terms`), captions (`captions`), the change of weights (`lowrank`).
Source: InfoNCE with the other pairs of a batch as wrong answers (arXiv:1807.03748).
"""

import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional
from torch.nn.attention import SDPBackend, sdpa_kernel

from encoder.text import TextTower
from encoder.text_embedder import padded
from encoder.wordpiece import Tokeniser
from training.bind_config import BindConfig
from training.captions import draw
from training.pairs import Pairs
from training.stage import Stage, stream
from training.terms import abbreviation_pairs, terms
from training.terms import pairs as name_pairs

TEMPERATURE = 0.05  # as sentence encoders have it (arXiv:2104.08821)
READ_BATCH = 64

SentencePair = tuple[str, str]


@dataclass(frozen=True, slots=True)
class Synonyms:
    """Pairs to learn from, and others to be scored by."""

    learned: tuple[SentencePair, ...]
    held_out: tuple[SentencePair, ...]


def synonyms(pairs: Pairs, others: Sequence[SentencePair], config: BindConfig) -> Synonyms:
    """Collect names of one code, abbreviations, captions that say the same, and `others`.

    A part of the codes is held out, with all their names.
    """
    every = list(terms())
    random.Random(config.seed).shuffle(every)
    held_out = round(config.held_out * len(every))
    learned = (*name_pairs(every[held_out:]), *abbreviation_pairs(), *_said_twice(pairs, config))
    return Synonyms((*learned, *others), name_pairs(every[:held_out]))


def _said_twice(pairs: Pairs, config: BindConfig) -> Iterator[SentencePair]:
    """Pair captions with ones of the same facts in other words."""
    stream = random.Random(config.seed)
    for group in pairs.groups:
        for number in group.captions:
            caption = pairs.captions[number]
            slots = {slot for slot, _ in caption.said}
            known = {slot: group.known[slot] for slot in slots}
            for other in draw(known, stream, count=config.captions):
                if other.text != caption.text and {slot for slot, _ in other.said} == slots:
                    yield caption.text, other.text
                    break


class Reader:
    """Turns sentences into vectors of a tower that learns."""

    def __init__(self, tower: TextTower, tokeniser: Tokeniser, *, bf16: bool) -> None:
        self.tower = tower
        self._tokeniser, self._bf16 = tokeniser, bf16

    def knows(self, text: str) -> bool:
        """Say whether a sentence can be read."""
        return self._tokeniser.knows(text)

    def vectors(self, texts: Sequence[str]) -> Tensor:
        """Return unit rows (N, W); BadText for one that cannot be read."""
        sentences = [self._tokeniser.read(text) for text in texts]
        numbers, present = padded(sentences, padding=self._tokeniser.padding)
        # The fused kernel's way back takes longer than all the rest of a step, on a CPU.
        with sdpa_kernel(SDPBackend.MATH), torch.autocast("cpu", torch.bfloat16, self._bf16):
            mean = self.tower(numbers, present)
        return functional.normalize(mean.float(), dim=1)

    @torch.no_grad()
    def all_vectors(
        self, texts: Sequence[str], advance: Callable[[int], None] = lambda _: None
    ) -> Tensor:
        """Do as `vectors` for many, without what learning needs; like lengths together.

        `advance` is told how many more were read.
        """
        order = sorted(range(len(texts)), key=lambda row: len(texts[row]))
        rows = torch.empty(len(texts), self.tower.config.width)
        for first in range(0, len(order), READ_BATCH):
            batch = order[first : first + READ_BATCH]
            rows[batch] = self.vectors([texts[row] for row in batch])
            advance(len(batch))
        return rows


class Adaptation(Stage):
    """A tower that learns which sentences mean the same."""

    def __init__(self, reader: Reader, pairs: Sequence[SentencePair], config: BindConfig) -> None:
        super().__init__()
        self.tower = reader.tower
        self._reader, self._config = reader, config
        self._pairs = [pair for pair in pairs if all(reader.knows(text) for text in pair)]

    def _drawn(self, step: int) -> list[int]:
        count = min(self._config.adapt_batch, len(self._pairs))
        chosen = stream(self._config, "adapt", step).choice(len(self._pairs), count, replace=False)
        return [int(number) for number in chosen]

    def names(self, step: int) -> Sequence[str]:
        """Name the pairs by number: their text may be of a report."""
        return [f"pair {number}" for number in self._drawn(step)]

    def terms(self, step: int) -> dict[str, Tensor]:
        """Return `loss`: each sentence has to find the other one of its pair, either way."""
        drawn = [self._pairs[number] for number in self._drawn(step)]
        left, right = zip(*drawn, strict=True)
        logits = self._reader.vectors(left) @ self._reader.vectors(right).T / TEMPERATURE
        target = torch.arange(len(drawn))
        same = _alike(left)[:, None] == _alike(right)[None, :]
        same |= _alike(left)[:, None] == _alike(left)[None, :]
        same |= _alike(right)[:, None] == _alike(right)[None, :]
        same &= target[:, None] != target[None, :]  # no wrong answers, but none to be found either
        logits = logits.masked_fill(same, -torch.inf)
        loss = functional.cross_entropy(logits, target) + functional.cross_entropy(logits.T, target)
        return {"loss": loss / 2}


def _alike(texts: Sequence[str]) -> Tensor:
    """Number texts so that the same, but for case, has the same number."""
    _, numbers = np.unique([text.casefold() for text in texts], return_inverse=True)
    return torch.from_numpy(numbers)


def found_first(reader: Reader, pairs: Sequence[SentencePair]) -> float:
    """Return how many of the left sentences have their right one nearest of all (R@1)."""
    pairs = [pair for pair in pairs if all(reader.knows(text) for text in pair)]
    if not pairs:
        return 0.0
    left, right = zip(*pairs, strict=True)
    nearest = (reader.all_vectors(left) @ reader.all_vectors(right).T).argmax(dim=1)
    return float(
        np.mean([right[int(row)] == said for row, said in zip(nearest, right, strict=True)])
    )
