"""The contract of a vector index, what may enter one, and the exact index that is its oracle.

An index maps embedding ids to unit vectors and finds near ones by cosine; it knows nothing of
studies or patients. The catalogue is the truth, an index follows it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import ArrayLike, NDArray

from index.errors import BadVector

Ids = NDArray[np.int64]
Vectors = NDArray[np.float32]

_AMONG_ROWS = 16_384  # rows gathered at a time: 25 MB at 384 dimensions
_NORM_TOLERANCE = 1e-3  # float16 rounding of a unit vector stays below this


def unit_rows(vectors: ArrayLike, dim: int | None = None) -> Vectors:
    """Return vectors as float32 (N, D), or (1, D) for one; raises BadVector for any unfit row."""
    rows = np.atleast_2d(np.ascontiguousarray(vectors, dtype=np.float32))
    if rows.ndim != 2 or (dim is not None and rows.shape[1] != dim):
        raise BadVector(f"shape {rows.shape} does not fit (N, {dim or 'D'})")
    norms = np.linalg.norm(rows.astype(np.float64), axis=1)
    if not np.isfinite(norms).all():
        raise BadVector("it holds values that are not finite")
    if (np.abs(norms - 1.0) > _NORM_TOLERANCE).any():
        raise BadVector("it is not of unit length")
    return rows


@dataclass(frozen=True, slots=True, eq=False)
class Candidates:
    """Embedding ids by falling score (cosine); `exact` when every vector was compared."""

    ids: Ids
    scores: Vectors
    exact: bool


@dataclass(frozen=True, slots=True)
class IndexStats:
    """What an index holds: vectors that can be found, nodes of its graph, nodes marked deleted."""

    vectors: int
    nodes: int
    deleted: int


class VectorIndex(Protocol):
    """Near vectors by id; every method may be called from any thread.

    Vectors that are not finite, not of unit length or not of `dim` raise BadVector.
    """

    @property
    def model_id(self) -> str:
        """Return which model made the vectors."""

    @property
    def dim(self) -> int:
        """Return the length of a vector."""

    def add(self, ids: Ids, vectors: Vectors) -> None:
        """Make vectors (N, D) findable; ids that are there already stay as they are."""

    def remove(self, ids: Ids) -> None:
        """Make vectors unfindable; unknown ids are no error."""

    def candidates(self, vector: Vectors, k: int) -> Candidates:
        """Return the nearest ids to a vector (D,): at least min(k, len(self)) of them.

        More only where vectors are identical. May miss near ones, unless k covers everything.
        """

    def among(self, vectors: Vectors, ids: Ids) -> Vectors:
        """Return the exact scores (M, N) of M vectors against N ids; -inf for unknown ids."""

    def ids(self) -> Ids:
        """Return all ids, ascending."""

    def __len__(self) -> int: ...

    def __contains__(self, key: int) -> bool: ...

    def save(self) -> None:
        """Keep what the index holds for the next start; raises IndexNotSaved."""

    def close(self) -> None:
        """Let go of the index; it is not saved."""

    def stats(self) -> IndexStats:
        """Return what the index holds."""


class ExactIndex:
    """Every vector in one matrix, compared one by one: the oracle, and the base of the others.

    Has no lock: one thread at a time may change it, and none may read it meanwhile.
    """

    def __init__(self, *, model_id: str, dim: int) -> None:
        self.model_id = model_id
        self.dim = dim
        self._matrix = np.empty((0, dim), dtype=np.float32)  # the first len(self) rows are in use
        self._ids = np.empty(0, dtype=np.int64)  # of each row
        self._row_of: dict[int, int] = {}

    def add(self, ids: Ids, vectors: Vectors) -> None:
        """Make vectors (N, D) findable."""
        rows = unit_rows(vectors, self.dim) if len(ids) else self._matrix[:0]
        for key, vector in zip(map(int, ids), rows, strict=True):
            if key in self._row_of:
                continue
            row = len(self._row_of)
            if row == len(self._ids):
                self._grow()
            self._matrix[row], self._ids[row], self._row_of[key] = vector, key, row

    def remove(self, ids: Ids) -> None:
        """Make vectors unfindable; the last row fills the gap."""
        for key in map(int, ids):
            row = self._row_of.pop(key, None)
            last = len(self._row_of)
            if row is None or row == last:
                continue
            self._matrix[row], self._ids[row] = self._matrix[last], self._ids[last]
            self._row_of[int(self._ids[row])] = row

    def candidates(self, vector: Vectors, k: int) -> Candidates:
        """Return the k nearest ids."""
        scores = self._matrix[: len(self)] @ unit_rows(vector, self.dim)[0]
        nearest = np.arange(len(scores))
        if k < len(scores):
            nearest = np.argpartition(-scores, k - 1)[:k]
        nearest = nearest[np.lexsort((self._ids[nearest], -scores[nearest]))]
        return Candidates(self._ids[nearest], scores[nearest], exact=True)

    def among(self, vectors: Vectors, ids: Ids) -> Vectors:
        """Return the exact scores (M, N)."""
        queries = unit_rows(vectors, self.dim)
        rows = np.array([self._row_of.get(key, -1) for key in ids.tolist()], dtype=np.int64)
        scores = np.full((len(queries), len(rows)), -np.inf, dtype=np.float32)
        known = np.flatnonzero(rows >= 0)
        for part in np.array_split(known, 1 + len(known) // _AMONG_ROWS):
            scores[:, part] = queries @ self._matrix[rows[part]].T
        return scores

    def vectors(self, ids: Ids) -> Vectors:
        """Return the vectors (N, D) of ids that are there."""
        return self._matrix[[self._row_of[key] for key in ids.tolist()]]

    def ids(self) -> Ids:
        """Return all ids, ascending."""
        return np.sort(self._ids[: len(self)])

    def __len__(self) -> int:
        return len(self._row_of)

    def __contains__(self, key: int) -> bool:
        return key in self._row_of

    def save(self) -> None:
        """Keep nothing: the catalogue holds all that is needed."""

    def close(self) -> None:
        """Let go of the vectors."""
        self.remove(self.ids())

    def stats(self) -> IndexStats:
        """Return what the index holds."""
        return IndexStats(vectors=len(self), nodes=0, deleted=0)

    def _grow(self) -> None:
        more = max(1024, len(self._ids))
        self._matrix = np.concatenate([self._matrix, np.empty((more, self.dim), np.float32)])
        self._ids = np.concatenate([self._ids, np.empty(more, np.int64)])
