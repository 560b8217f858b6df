"""A small text tower with random weights and an alphabet for a vocabulary."""

import re
import string
from collections.abc import Iterable
from dataclasses import replace

import torch

from encoder.text import TextConfig, weight_shapes
from encoder.text_checkpoint import (
    FORMAT,
    Storage,
    TextCheckpoint,
    TextDescription,
    stored,
)
from encoder.wordpiece import SPECIAL

WORDS = ("chest", "x", "ray", "right", "lower", "lobe", "opacity", "in", "a", "child", "##ren")
ALPHABET = string.ascii_lowercase + string.digits + string.punctuation
VOCABULARY = tuple(
    dict.fromkeys((*SPECIAL, *WORDS, *ALPHABET, *(f"##{letter}" for letter in ALPHABET)))
)
CONFIG = TextConfig(vocabulary=len(VOCABULARY), width=24, depth=2, heads=2, hidden=48, tokens=16)


def small_network(seed: int = 1) -> dict[str, torch.Tensor]:
    """Draw every tensor of the small tower."""
    stream = torch.Generator().manual_seed(seed)
    shapes = weight_shapes(CONFIG)
    return {name: torch.randn(shape, generator=stream) * 0.3 for name, shape in shapes.items()}


def small_tower(seed: int = 1, storage: Storage = Storage.HALF) -> TextCheckpoint:
    """Return the small tower as a checkpoint."""
    description = TextDescription(
        format=FORMAT, name="small", origin="drawn", licence="none", config=CONFIG
    )
    return TextCheckpoint(description, stored(small_network(seed), storage), VOCABULARY)


def word_tower(sentences: Iterable[str]) -> TextCheckpoint:
    """Return a tower that has a piece for every word of some sentences and hardly mixes them.

    A sentence is about the mean of vectors drawn for its words: what differs in words differs.
    """
    words = {
        word for sentence in sentences for word in re.findall(r"\w+|[^\w\s]", sentence.lower())
    }
    vocabulary = tuple(dict.fromkeys((*VOCABULARY, *sorted(words))))
    config = replace(CONFIG, vocabulary=len(vocabulary), tokens=48)
    stream = torch.Generator().manual_seed(1)
    network = {
        name: torch.randn(shape, generator=stream) * (1.0 if name == "pieces.weight" else 0.05)
        for name, shape in weight_shapes(config).items()
    }
    network |= {name: torch.ones_like(each) for name, each in network.items()
                if re.search(r"norm\d?\.weight$", name)}  # fmt: skip
    description = TextDescription(
        format=FORMAT, name="words", origin="drawn", licence="none", config=config
    )
    return TextCheckpoint(description, stored(network, Storage.HALF), vocabulary)
