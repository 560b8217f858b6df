"""How much effort a graph needs, measured: how many of the forty nearest a search finds.

An ef that finds 99 % of the nearest among 100,000 vectors finds 96 % among a million, so it is
measured at the size the index has. Of forty, since the ten cases of an answer are chosen from so
many: others are of the same patient or the same study. A graph misses all of the forty or none of
them: a few queries less tell much less, so that the target has to be reached with one standard
error to spare. Knows no lock.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from index.vectors import Effort, ExactIndex, Ids, Vectors

TARGETS = {Effort.FAST: 0.95, Effort.NORMAL: 0.99}  # recall at forty
NEAREST = 40  # of each query
_SAMPLE = 512
_JITTER = 0.3  # length of what is added to a vector: a query is no vector of the index
_LADDER = (48, 64, 96, 128, 192, 256, 384, 512, 768, 1024)
_TOLERANCE = 1e-6
_ROWS = 16_384  # compared at a time


def sample(exact: ExactIndex, rng: np.random.Generator) -> Vectors:
    """Return queries near vectors of an index."""
    ids = rng.choice(exact.ids(), min(_SAMPLE, len(exact)), replace=False)
    noise = rng.standard_normal((len(ids), exact.dim), dtype=np.float32)
    rows = exact.vectors(ids) + _JITTER * noise / np.linalg.norm(noise, axis=1, keepdims=True)
    return np.asarray(rows / np.linalg.norm(rows, axis=1, keepdims=True), dtype=np.float32)


def least_scores(among: Callable[[Vectors, Ids], Vectors], queries: Vectors, ids: Ids) -> Vectors:
    """Return the score of the fortieth nearest of `ids` to each query."""
    best = np.full((len(queries), NEAREST), -np.inf, dtype=np.float32)
    for start in range(0, len(ids), _ROWS):
        found = among(queries, ids[start : start + _ROWS])
        best = np.partition(np.concatenate([best, found], axis=1), -NEAREST, axis=1)[:, -NEAREST:]
    return np.asarray(best.min(axis=1))


def measured_efforts(
    queries: Vectors, least: Vectors, search: Callable[[Vectors, int], Vectors]
) -> dict[Effort, int]:
    """Return for each effort the least ef of a ladder that reaches its target; else the last.

    `least` are the scores of the fortieth nearest (N,) of the queries (N, D).
    """
    efforts: dict[Effort, int] = {}
    for ef in _LADDER:
        hits = [
            min(NEAREST, int((search(query, ef)[:NEAREST] >= score - _TOLERANCE).sum()))
            for query, score in zip(queries, least, strict=True)
        ]
        recalls = np.array(hits) / NEAREST
        sure = recalls.mean() - recalls.std() / len(recalls) ** 0.5
        for effort, target in TARGETS.items():
            if sure >= target:
                efforts.setdefault(effort, ef)
        if len(efforts) == len(TARGETS):
            break
    return {effort: efforts.get(effort, _LADDER[-1]) for effort in TARGETS}
