"""How well an index does its work: recall, hubs, drift of the scores, and what lies on disk.

All of it is measured now, on samples of the vectors that are kept; nothing is remembered for it.
Owns which vectors are sampled and what is compared; the figures themselves are `hubness`'s.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import pairwise

import numpy as np

from index.catalogue import Catalogue
from index.hubness import Hubness, hubness, ks_chance, ks_distance, other_scores
from index.lookups import Origins
from index.vectors import Ids, IndexStats, VectorIndex, Vectors

SAMPLE = 20_000  # vectors whose origins are read
HUB_SAMPLE = 2_000  # of these; all pairs of them are compared
RECALL_SAMPLE = 100
K = 10
MONTHS = 3  # that are compared with what came before them
MONTH_SAMPLE = 500  # vectors of a month
LEAST = 30  # vectors of a month: the distance of fewer is chance
_BLOCK = 20  # queries compared with everything at once: 80 MB at a million vectors
_SAME = 1e-5  # scores that differ by less are one


@dataclass(frozen=True, slots=True)
class Recall:
    """How many of the `k` truly nearest the index gives, over `queries` of its own vectors.

    `exact`: the index compared every vector, as it does while there are few.
    """

    queries: int
    k: int
    recall: float
    exact: bool


@dataclass(frozen=True, slots=True)
class Drift:
    """How far the scores of a month ("2026-01") are from those before `MONTHS`.

    A score is that of the nearest vector of another patient, in one gallery for all. `distance` is
    that of Kolmogorov and Smirnov, `chance` what it exceeds once in twenty times without drift.
    """

    month: str
    vectors: int
    distance: float
    chance: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Health:
    """The figures of one generation of vectors."""

    model_id: str
    stats: IndexStats
    recall: Recall | None
    hubness: Hubness | None
    drift: tuple[Drift, ...]


def health(catalogue: Catalogue, index: VectorIndex, *, now: datetime, seed: int = 0) -> Health:
    """Measure an index; None, or no months, where there are too few vectors."""
    rng = np.random.default_rng(seed)
    sample = catalogue.origins(rng.permutation(index.ids())[:SAMPLE].tolist())
    return Health(
        model_id=index.model_id,
        stats=index.stats(),
        recall=recall(catalogue, index, sample.ids[:RECALL_SAMPLE]),
        hubness=hubness(*_owned(catalogue, sample.part(slice(HUB_SAMPLE))), k=K),
        drift=drift(catalogue, sample, now),
    )


def recall(catalogue: Catalogue, index: VectorIndex, sample: Ids) -> Recall | None:
    """Compare what the index gives for vectors of its own with what comparing everything gives."""
    everything = index.ids()
    k = min(K, len(everything) - 1)
    sample, vectors = catalogue.vectors(sample.tolist())
    if k < 1 or not len(sample):
        return None
    found, exact = 0, True
    for start in range(0, len(sample), _BLOCK):
        block = vectors[start : start + _BLOCK]
        scores = index.among(block, everything)
        least = -np.partition(-scores, k, axis=1)[:, k]  # of itself and k others
        for vector, enough in zip(block, least - _SAME, strict=True):
            given = index.candidates(vector, k + 1)
            true = index.among(vector[None], given.ids[: k + 1])[0]
            found += max(0, int((true >= enough).sum()) - 1)  # without itself
            exact &= given.exact
    return Recall(len(sample), k, found / (k * len(sample)), exact)


def drift(catalogue: Catalogue, sample: Origins, now: datetime) -> tuple[Drift, ...]:
    """Compare the last months with what came before them, oldest first; `sample` is in no order."""
    starts = _months(now)
    older = np.flatnonzero(sample.received_at < starts[0])
    half = min(len(older) // 2, HUB_SAMPLE)
    gallery = sample.part(older[:half])
    usual = _nearest_other(catalogue, sample.part(older[half : half + MONTH_SAMPLE]), gallery)
    found = []
    for start, end in pairwise([*starts, np.inf]):
        rows = np.flatnonzero((sample.received_at >= start) & (sample.received_at < end))
        scores = _nearest_other(catalogue, sample.part(rows[:MONTH_SAMPLE]), gallery)
        if min(len(scores), len(usual)) >= LEAST:
            month = datetime.fromtimestamp(start, UTC).strftime("%Y-%m")
            chance = ks_chance(len(scores), len(usual))
            found.append(Drift(month, len(scores), ks_distance(scores, usual), chance))
    return tuple(found)


def _months(now: datetime) -> list[float]:
    """Return when the last `MONTHS` months began in UTC, that of `now` being the last."""
    last = now.astimezone(UTC)
    counts = [12 * last.year + last.month - 1 - ago for ago in reversed(range(MONTHS))]
    return [datetime(n // 12, n % 12 + 1, 1, tzinfo=UTC).timestamp() for n in counts]


def _nearest_other(catalogue: Catalogue, asking: Origins, gallery: Origins) -> Vectors:
    """Return for each that has one the score of the nearest vector of another patient."""
    if not len(asking.ids) or not len(gallery.ids):
        return np.empty(0, dtype=np.float32)
    queries, kept = _owned(catalogue, asking), _owned(catalogue, gallery)
    best: Vectors = other_scores(*queries, *kept).max(axis=1)
    return best[np.isfinite(best)]


def _owned(catalogue: Catalogue, origins: Origins) -> tuple[Vectors, Ids]:
    """Return the vectors (N, D), and whose they are, without those deleted just now."""
    ids, vectors = catalogue.vectors(origins.ids.tolist())
    return vectors, origins.patients[np.isin(origins.ids, ids)]
