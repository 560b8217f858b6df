"""What is measured once the heads stand: gaps, the reading of scores, and where the space ends.

Owns: `Measured` and how it comes from train pairs. Does not own: applying it
(`encoder.text_space`).
Source: images and sentences lie apart as wholes, and their difference of means, taken off, lets
modalities share a ranking (GR-CLIP, arXiv:2507.19054). The mean of a modality's own sentences is
put in its place: a mean of zero would take away what names the modality.
"""

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from training.bind_config import BindConfig
from training.pairs import Pairs, Rows
from training.shares import likeliest
from training.stage import stream

DRAWN = 3000  # images, and as many sentences
FALSE_REFUSED = 0.95  # part of captions that `near` tells from images they are false of
BLOCK = 8192  # images that all sentences are compared with at once
LEVELS = (*np.linspace(0.0, 0.99, 34), 0.995, 0.998, 0.999, 0.9995, 0.9999)  # of the knots


@dataclass(frozen=True, slots=True)
class Measured:
    """Gaps (M + 1, D), knots (2, K), what cosines say, and how well the floor parts sentences."""

    gaps: Tensor
    knots: Tensor
    floor: float
    near: float
    temperature: float
    inside: float  # part of captions whose best image is at or above the floor
    outside: float  # part of foreign sentences whose best image is below it


def measure(
    pairs: Pairs, placed: Tensor, other: Tensor, captions: Tensor, foreign: Tensor,
    config: BindConfig,
) -> Measured:  # fmt: skip
    """Measure on train images (N, D) by their own heads, and by the one for all others.

    `captions` (S, D) are in the order of the pairs' captions; `foreign` (F, D) are sentences that
    nothing was learned from.
    """
    gaps = torch.stack([
        *(_gap(pairs, placed, captions, modality) for modality in pairs.modalities),
        _gap(pairs, other, captions, None),
    ]) * config.gap  # fmt: skip
    moved = functional.normalize(placed - gaps[torch.from_numpy(pairs.modality_of)], dim=1)
    images, said = pairs.drawn(stream(config, "calibrate", 0), DRAWN)
    drawn = _Drawn(images, moved[images] @ captions[said].T, pairs.truth(images, said))
    floor, inside, outside = _floor(moved, captions[np.unique(said)], foreign)
    return Measured(
        gaps=gaps,
        knots=_knots(pairs, drawn),
        floor=floor,
        near=_near(pairs, drawn, floor),
        temperature=likeliest(pairs, moved, captions),
        inside=inside,
        outside=outside,
    )


@dataclass(frozen=True, slots=True)
class _Drawn:
    """Images (N,), cosines with a caption of each (N, N), and which are true, as in `Pairs`."""

    images: Rows
    cosines: Tensor
    truth: Tensor


def _gap(pairs: Pairs, placed: Tensor, captions: Tensor, modality: str | None) -> Tensor:
    """Return the mean of images less that of their captions, (D,); groups count by evenness."""
    mine = [group for group in pairs.groups if modality in (None, group.modality)]
    weights = torch.tensor([float(len(group.rows)) ** pairs.evenness for group in mine])
    apart = [placed[g.rows].mean(dim=0) - captions[g.captions].mean(dim=0) for g in mine]
    return (torch.stack(apart) * weights[:, None]).sum(dim=0) / weights.sum()


def _knots(pairs: Pairs, drawn: _Drawn) -> Tensor:
    """Set cosines of images and captions that do not fit beside those of two unlike images.

    Images of one patient or one group are not unlike; both are taken as rare at the same level.
    """
    images = drawn.images
    across = drawn.cosines[drawn.truth < 0].numpy()
    vectors = functional.normalize(pairs.vectors[images], dim=1)
    owners = np.array([pairs.patients[row] or pairs.paths[row] for row in images])
    groups = pairs.group_of[images]
    unlike = (owners[:, None] != owners[None, :]) & (groups[:, None] != groups[None, :])
    between = (vectors @ vectors.T).numpy()[unlike]
    if not across.size or not between.size:  # too little to tell: scores stay as they are
        return torch.tensor([[-1.0, 1.0], [-1.0, 1.0]])
    left, right = (np.quantile(each, LEVELS).clip(-1, 1) for each in (across, between))
    left, first = np.unique(np.float32(left), return_index=True)
    inner = (left > -1) & (left < 1)
    knots = np.array([left[inner], np.maximum.accumulate(np.float32(right[first]))[inner]])
    ends = np.array([[-1.0], [-1.0]]), np.array([[1.0], [1.0]])
    return torch.from_numpy(np.concatenate([ends[0], knots, ends[1]], axis=1).astype(np.float32))


def _near(pairs: Pairs, drawn: _Drawn, floor: float) -> float:
    """Find what the best cosine of a caption with images of a modality seldom reaches.

    The modality is one of which no image is what the caption says. It is no more than the floor,
    and the floor where there is none: of one modality, or of comments alone, nothing tells.
    """
    modality_of = pairs.modality_of[drawn.images]
    best = []
    for modality in np.unique(modality_of):
        mine = torch.from_numpy(modality_of == modality)
        false = (drawn.truth[mine] < 0).all(dim=0)
        best.append(drawn.cosines[mine][:, false].amax(dim=0).numpy())
    every: NDArray[np.float32] = np.concatenate(best)
    return min(float(np.quantile(every, FALSE_REFUSED)), floor) if every.size else floor


def _floor(moved: Tensor, captions: Tensor, foreign: Tensor) -> tuple[float, float, float]:
    """Choose the best cosine that parts captions from foreign sentences most evenly."""
    inside = _best(captions, moved)
    if not len(foreign):
        return -1.0, 1.0, 0.0
    outside = _best(foreign, moved)
    tried = np.unique(np.concatenate([inside, outside]))
    kept = np.array([(inside >= floor).mean() for floor in tried])
    refused = np.array([(outside < floor).mean() for floor in tried])
    best = int((kept + refused).argmax())
    return float(tried[best]), float(kept[best]), float(refused[best])


def _best(said: Tensor, moved: Tensor) -> NDArray[np.float32]:
    """Return the best cosine (S,) of sentences among any number of images (N, D)."""
    best = torch.stack([(said @ block.T).amax(dim=1) for block in torch.split(moved, BLOCK)])
    return best.amax(dim=0).numpy()
