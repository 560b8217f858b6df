"""How likely each label is if one of them is right: cosines turned into shares.

Owns: the softmax, and the temperature at which the shares of train images are likeliest. Does not
own: the vectors of labels (`zero_shot`), where a temperature is kept (`encoder.space_checkpoint`).
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from training.pairs import Group, Pairs
from training.phrases import LABELS

START = 0.07  # where nothing tells; CLIP starts there (arXiv:2103.00020 section 2.5)
TRIED = tuple(float(each) for each in np.geomspace(0.01, 1.0, 81).round(4))


def shares(cosines: NDArray[np.floating], temperature: float) -> NDArray[np.float64]:
    """Turn cosines with labels (..., K) into shares that sum to 1."""
    logits = np.asarray(cosines, dtype=np.float64) / temperature
    weights = np.exp(logits - logits.max(axis=-1, keepdims=True))
    spread: NDArray[np.float64] = weights / weights.sum(axis=-1, keepdims=True)
    return spread


@dataclass(frozen=True, slots=True)
class _Label:
    """Images that have a label, and the captions that say it."""

    rows: list[int]
    captions: list[int]


def likeliest(pairs: Pairs, placed: Tensor, captions: Tensor) -> float:
    """Return the temperature at which the labels of images (N, D) are likeliest to be told.

    Labels are told apart among images of which all else that is known is the same; `captions`
    (S, D) are in the order of the pairs' captions. A choice counts by its size to the `evenness`.
    The heads have seen these images: with others the shares are bolder than they should be.
    """
    fits: list[tuple[float, NDArray[np.float64]]] = []
    for labels in _choices(pairs):
        words = torch.stack([captions[label.captions].mean(dim=0) for label in labels])
        count = sum(len(label.rows) for label in labels)
        cosines = [placed[label.rows] @ functional.normalize(words, dim=1).T for label in labels]
        told = np.array([_surprise([c.numpy() for c in cosines], each) for each in TRIED])
        fits.append((float(count) ** pairs.evenness, told))
    if not fits:
        return START
    weights = [weight for weight, _ in fits]
    mean = np.average([told for _, told in fits], axis=0, weights=weights)
    return TRIED[int(mean.argmin())]


def _surprise(cosines: Sequence[NDArray[np.floating]], temperature: float) -> float:
    """Return minus the log share of the right label, its cosines by row; labels weigh the same."""
    each = [
        -np.log(shares(rows, temperature)[:, label].clip(1e-12)).mean()
        for label, rows in enumerate(cosines)
    ]
    return float(np.mean(each))


def _choices(pairs: Pairs) -> list[list[_Label]]:
    """Gather by what else is known the labels that images have, where there are two at least."""
    found: dict[object, dict[object, _Label]] = {}
    for group in pairs.groups:
        slot = next((name for name in LABELS if name in group.known), "")
        said = [int(row) for row in group.captions if slot in dict(pairs.captions[row].said)]
        if not said:
            continue
        label = found.setdefault(_all_else(group, slot), {}).setdefault(
            group.known[slot], _Label([], [])
        )
        label.rows.extend(group.rows.tolist())
        label.captions.extend(said)
    return [list(labels.values()) for labels in found.values() if len(labels) > 1]


def _all_else(group: Group, slot: str) -> object:
    known = sorted((name, ways) for name, ways in group.known.items() if name != slot)
    return group.modality, slot, tuple(known)
