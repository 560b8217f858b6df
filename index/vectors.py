"""The contract of a vector index, what may enter one, and the exact index that is its oracle.

An index maps embedding ids to unit vectors and finds near ones by cosine; it knows nothing of
studies or patients. The catalogue is the truth, an index follows it. Vectors are kept as float16
by every engine (`half`), and scores are float32 products with them: the same everywhere.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Protocol

import numpy as np
from numpy.typing import ArrayLike, NDArray

from index.errors import BadVector
from index.half import halved, scores, widened
from index.rows import Rows

if TYPE_CHECKING:
    from index.catalogue import Catalogue

Ids = NDArray[np.int64]
Vectors = NDArray[np.float32]

READ = 8_192  # vectors read from the catalogue at a time
_SQUARE_TOLERANCE = 2e-3  # of a length; float16 rounding of a unit vector stays below this


def unit_rows(vectors: ArrayLike, dim: int | None = None) -> Vectors:
    """Return vectors as float32 (N, D), or (1, D) for one; raises BadVector for any unfit row."""
    rows = np.ascontiguousarray(vectors, dtype=np.float32)
    if rows.ndim == 1:
        rows = rows[None]
    if rows.ndim != 2 or (dim is not None and rows.shape[1] != dim):
        raise BadVector(f"shape {rows.shape} does not fit (N, {dim or 'D'})")
    with np.errstate(over="ignore"):
        squares = np.vecdot(rows, rows).tolist()
    if not all(abs(square - 1.0) <= _SQUARE_TOLERANCE for square in squares):
        finite = np.isfinite(rows).all()
        raise BadVector(
            "it is not of unit length" if finite else "it holds values that are not finite"
        )
    return rows


class Effort(StrEnum):
    """How hard an engine looks; what that takes is measured at the index's present size."""

    FAST = "fast"
    NORMAL = "normal"
    EXACT = "exact"  # every vector is compared


@dataclass(frozen=True, slots=True, eq=False)
class Candidates:
    """Embedding ids by falling score (cosine); `exact` when every vector was compared."""

    ids: Ids
    scores: Vectors
    exact: bool


@dataclass(frozen=True, slots=True)
class IndexStats:
    """What an index holds: vectors that can be found, nodes of its graph, nodes marked deleted.

    `waiting`: vectors without a node yet, which are compared one by one.
    """

    vectors: int
    nodes: int
    deleted: int
    waiting: int = 0


@dataclass(frozen=True, slots=True)
class CaughtUp:
    """How an index came level with the catalogue; `rebuilt_because` is empty if it was not."""

    added: int
    removed: int
    rebuilt_because: str = ""


@dataclass(frozen=True, slots=True, eq=False)
class Difference:
    """Ids that the index lacks, has beyond the catalogue, or has with another vector."""

    missing: Ids
    extra: Ids
    stale: Ids

    def __bool__(self) -> bool:
        return bool(len(self.missing) or len(self.extra) or len(self.stale))


class VectorIndex(Protocol):
    """Near vectors by id; every method may be called from any thread.

    Vectors that are not finite, not of unit length or not of `dim` raise BadVector. An engine over
    a database may raise DatabaseUnavailable anywhere.
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

    def purge(self, ids: Ids) -> None:
        """Remove vectors so that no file or table of the index holds them when it returns."""

    def candidates(self, vector: Vectors, k: int, *, effort: Effort = Effort.NORMAL) -> Candidates:
        """Return the nearest ids to a vector (D,): at least min(k, len(self)) of them.

        More where they cost nothing. Their scores are those that `among` gives. May miss near
        ones, unless k covers everything.
        """

    def among(self, vectors: Vectors, ids: Ids) -> Vectors:
        """Return the exact scores (M, N) of M vectors against N ids; -inf for unknown ids."""

    def ids(self) -> Ids:
        """Return all ids, ascending."""

    def __len__(self) -> int: ...

    def __contains__(self, key: int) -> bool: ...

    def catch_up(self, catalogue: Catalogue) -> CaughtUp:
        """Add what the catalogue has more, remove what it no longer has."""

    def compact(self) -> None:
        """Drop what deleted vectors left behind, where that is worth it; queries go on."""

    def save(self) -> None:
        """Keep what the index holds for the next start; raises IndexNotSaved."""

    def interrupt(self) -> None:
        """Let work that takes long end early, for the index is about to be closed."""

    def close(self) -> None:
        """Let go of the index; it is not saved."""

    def stats(self) -> IndexStats:
        """Return what the index holds."""

    def verify(self, catalogue: Catalogue) -> Difference:
        """Compare every vector with the catalogue's."""

    def rebuild(self, catalogue: Catalogue) -> None:
        """Make the index anew from the catalogue; exact search is served meanwhile."""

    def health(self) -> str:
        """Return what is wrong in one line; "" when all is well."""


class ExactIndex:
    """Every vector in one matrix, compared one by one: the oracle, and the base of the others.

    Has no lock: one thread at a time may change it, and none may read it meanwhile.
    """

    def __init__(self, *, model_id: str, dim: int) -> None:
        self.model_id = model_id
        self.dim = dim
        self._empty()

    def _empty(self) -> None:
        self._matrix = np.empty((0, self.dim), dtype=np.float16)  # the first _count are in use
        self._ids = np.empty(0, dtype=np.int64)  # of each row
        self._count = 0
        self._rows = Rows()

    def add(self, ids: Ids, vectors: Vectors) -> None:
        """Make vectors (N, D) findable."""
        if len(ids):
            self.add_halves(np.asarray(ids), halved(unit_rows(vectors, self.dim)))

    def add_halves(self, ids: Ids, halves: NDArray[np.float16]) -> Ids:
        """Make rounded vectors findable; return the positions of those that were new."""
        _, firsts = np.unique(ids, return_index=True)
        new = np.sort(firsts)
        new = new[self._rows.of(ids[new]) < 0]
        end = self._count + len(new)
        self._reserve(end)
        self._matrix[self._count : end] = halves[new]
        self._ids[self._count : end] = ids[new]
        self._rows.put(ids[new], np.arange(self._count, end))
        self._count = end
        return new

    def remove(self, ids: Ids) -> None:
        """Make vectors unfindable; the last rows fill the gaps, and are cleared."""
        gone = np.unique(self._rows.of(np.asarray(ids, dtype=np.int64)))
        gone = gone[gone >= 0]
        end = self._count - len(gone)
        self._rows.put(self._ids[gone], np.full(len(gone), -1))
        gaps = gone[gone < end]
        moved = np.setdiff1d(np.arange(end, self._count), gone, assume_unique=True)
        self._matrix[gaps], self._ids[gaps] = self._matrix[moved], self._ids[moved]
        self._rows.put(self._ids[gaps], gaps)
        self._matrix[end : self._count] = 0
        self._count = end

    def purge(self, ids: Ids) -> None:
        """Remove vectors: there is nothing but the matrix, and no row of it keeps them."""
        self.remove(ids)

    def candidates(self, vector: Vectors, k: int, *, effort: Effort = Effort.NORMAL) -> Candidates:
        """Return the k nearest ids."""
        products = scores(unit_rows(vector, self.dim), self._matrix[: self._count])[0]
        return nearest(self._ids[: self._count], products, k)

    def among(self, vectors: Vectors, ids: Ids) -> Vectors:
        """Return the exact scores (M, N)."""
        queries = unit_rows(vectors, self.dim)
        rows = self._rows.of(np.asarray(ids, dtype=np.int64))
        known = rows >= 0
        if known.all():
            return scores(queries, self._matrix, rows)
        found = np.full((len(queries), len(rows)), -np.inf, dtype=np.float32)
        found[:, known] = scores(queries, self._matrix, rows[known])
        return found

    def halves(self, ids: Ids) -> NDArray[np.float16]:
        """Return the vectors (N, D) of ids that are there, as they are kept."""
        return self._matrix[self._rows.of(ids)]

    def vectors(self, ids: Ids) -> Vectors:
        """Return the vectors (N, D) of ids that are there."""
        return widened(self.halves(ids))

    def ids(self) -> Ids:
        """Return all ids, ascending."""
        return np.sort(self._ids[: self._count])

    def known(self, ids: Ids) -> NDArray[np.bool_]:
        """Tell which ids are there."""
        return self._rows.of(ids) >= 0

    def __len__(self) -> int:
        return self._count

    def __contains__(self, key: int) -> bool:
        return key in self._rows

    def catch_up(self, catalogue: Catalogue) -> CaughtUp:
        """Compare all ids with the catalogue's."""
        present = self.ids()  # first: what comes in between is then not taken for a leftover
        wanted = catalogue.embedding_ids(self.model_id)
        missing = np.setdiff1d(wanted, present, assume_unique=True)
        extra = np.setdiff1d(present, wanted, assume_unique=True)
        self.remove(extra)
        for start in range(0, len(missing), READ):
            self.add(*catalogue.vectors(missing[start : start + READ].tolist()))
        return CaughtUp(len(missing), len(extra))

    def compact(self) -> None:
        """Do nothing: removed vectors leave nothing behind."""

    def save(self) -> None:
        """Keep nothing: the catalogue holds all that is needed."""

    def interrupt(self) -> None:
        """Do nothing: nothing takes long."""

    def close(self) -> None:
        """Let go of the vectors."""
        self._empty()

    def stats(self) -> IndexStats:
        """Return what the index holds."""
        return IndexStats(vectors=len(self), nodes=0, deleted=0)

    def verify(self, catalogue: Catalogue) -> Difference:
        """Compare every vector with the catalogue's."""
        return difference(self, catalogue, self.differing)

    def differing(self, ids: Ids, vectors: Vectors) -> Ids:
        """Return the ids that are here with another vector than these (N, D)."""
        here = self.known(ids)
        other = (self.halves(ids[here]) != halved(vectors[here])).any(axis=1)
        stale: Ids = ids[here][other]
        return stale

    def rebuild(self, catalogue: Catalogue) -> None:
        """Read every vector again."""
        self._empty()
        self.catch_up(catalogue)

    def health(self) -> str:
        """Return "": there is nothing that could be ill."""
        return ""

    def _reserve(self, count: int) -> None:
        more = max(count, 1024, 2 * len(self._ids)) - len(self._ids)
        if count > len(self._ids):
            self._matrix = np.concatenate([self._matrix, np.zeros((more, self.dim), np.float16)])
            self._ids = np.concatenate([self._ids, np.empty(more, np.int64)])


def nearest(ids: Ids, products: Vectors, k: int) -> Candidates:
    """Return the k best of all ids by falling score, then by id."""
    best = np.arange(len(products))
    if k < len(products):
        best = np.argpartition(-products, k - 1)[:k]
    best = best[np.lexsort((ids[best], -products[best]))]
    return Candidates(ids[best], products[best], exact=True)


def difference(
    index: VectorIndex, catalogue: Catalogue, differing: Callable[[Ids, Vectors], Ids]
) -> Difference:
    """Compare an index with the catalogue; `differing` tells which ids it has otherwise."""
    present = index.ids()
    wanted = catalogue.embedding_ids(index.model_id)
    shared = np.intersect1d(wanted, present, assume_unique=True)
    stale = [np.empty(0, dtype=np.int64)]
    for start in range(0, len(shared), READ):
        stale.append(differing(*catalogue.vectors(shared[start : start + READ].tolist())))
    return Difference(
        missing=np.setdiff1d(wanted, present, assume_unique=True),
        extra=np.setdiff1d(present, wanted, assume_unique=True),
        stale=np.concatenate(stale),
    )
