"""A text space in which an image lies wherever a test puts it."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from text_spaces import DIM, MODALITIES, small_space

from encoder.clip import Kind
from encoder.text_space import TextSpace
from training.evaluate import Embedded
from training.manifest import Item, Split

MODEL_ID = "0123456789abcdef"


def open_space() -> TextSpace:
    """Return a space that takes vectors (N, DIM) as they are, of whatever modality."""
    drawn = small_space(image_model_id=MODEL_ID, image_dim=DIM)
    rows = len(MODALITIES) + 1
    as_it_is = {
        "heads.weight": torch.eye(DIM).repeat(rows, 1, 1),
        "heads.bias": torch.zeros(rows, DIM),
        "gaps": torch.zeros(rows, DIM),
    }
    return TextSpace(replace(drawn, tensors={**drawn.tensors, **as_it_is}), device="cpu")


def image(modality: str, body_part: str, label: str, **changes: str) -> Item:
    """Return an eval item of a source named as its modality."""
    values = {"split": "eval", "patient": "", "caption": "", "source": modality, **changes}
    return Item(
        path=values.get("path", "x"),
        files=(Path("x"),),
        split=Split(values["split"]),
        kind=Kind.STILL,
        modality=modality,
        body_part=body_part,
        label=label,
        patient_id=values["patient"],
        caption=values["caption"],
        source=values["source"],
    )


def lying_at(items: list[Item], vectors: NDArray[np.float32]) -> Embedded:
    """Give items their vectors (N, DIM)."""
    return Embedded(tuple(items), vectors.astype(np.float32), MODEL_ID, ())
