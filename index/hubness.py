"""Figures on samples of vectors: hubs, and whether two sets of scores differ.

A vector that is near to very many others turns up in answers where it does not belong, one that is
near to none is never found: both grow with the dimension of the space (Radovanović, Nanopoulos &
Ivanović, "Hubs in Space", JMLR 11, 2010). Knows arrays only.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from index.vectors import Ids, Vectors

# Of the two-sample Kolmogorov-Smirnov test at 5 %, large samples: sqrt(-ln(0.05 / 2) / 2).
_KS_CRITICAL = 1.358


@dataclass(frozen=True, slots=True, kw_only=True)
class Hubness:
    """How often vectors of a sample occur among the `k` nearest of the others there: N_k.

    N_k is `k` on average. `skewness` is its third standardised moment: 0 without hubs, above 1 a
    few vectors are everywhere. `antihubs` is the share with N_k = 0, `largest` the greatest N_k.
    """

    sampled: int
    k: int
    skewness: float
    antihubs: float
    largest: int


def other_scores(
    queries: Vectors, owners: Ids, gallery: Vectors, gallery_owners: Ids
) -> NDArray[np.float32]:
    """Return the scores (Q, G) of queries against a gallery, -inf between those of one owner."""
    scores = queries @ gallery.T
    scores[owners[:, None] == gallery_owners[None, :]] = -np.inf
    return scores


def hubness(vectors: Vectors, owners: Ids, *, k: int = 10) -> Hubness | None:
    """Return the hubness of vectors (N, D), those of one owner (N,) being no neighbours.

    None where somebody lacks k neighbours: N_k would tell the number of owners, no hubs.
    """
    scores = other_scores(vectors, owners, vectors, owners)
    if len(vectors) <= k or (np.isfinite(scores).sum(axis=1) < k).any():
        return None
    nearest = np.argpartition(-scores, k - 1, axis=1)[:, :k]
    occurrences = np.bincount(nearest.ravel(), minlength=len(vectors))
    centred = occurrences - occurrences.mean()
    deviation = float(occurrences.std())
    return Hubness(
        sampled=len(vectors),
        k=k,
        skewness=float((centred**3).mean()) / deviation**3 if deviation else 0.0,
        antihubs=float((occurrences == 0).mean()),
        largest=int(occurrences.max()),
    )


def ks_distance(one: NDArray[np.float32], other: NDArray[np.float32]) -> float:
    """Return the greatest distance of two samples' distributions, 0..1 (Kolmogorov-Smirnov)."""
    one, other = np.sort(one), np.sort(other)
    values = np.concatenate([one, other])
    below_one = np.searchsorted(one, values, side="right") / len(one)
    below_other = np.searchsorted(other, values, side="right") / len(other)
    return float(np.abs(below_one - below_other).max())


def ks_chance(size: int, other_size: int) -> float:
    """Return the distance that two samples of one distribution exceed once in twenty times."""
    return _KS_CRITICAL * float(np.sqrt((size + other_size) / (size * other_size)))
