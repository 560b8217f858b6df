"""The vector index built in: an HNSW graph (hnswlib) over an exact matrix.

The graph proposes, the matrix scores. Both follow the catalogue: at start the graph file is
checked and caught up with, or rebuilt when it cannot be trusted. All that hnswlib leaves to its
user is done here and in `graph_file`: locking, capacity, too few results, identical vectors.
Costs about 3.3 kB of memory per vector of 384.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from threading import Lock
from typing import Any, Self

import hnswlib
import numpy as np

from index.catalogue import Catalogue
from index.config import IndexConfig
from index.graph_file import SPACE, GraphHeader, UnusableGraph, load_graph, save_graph
from index.half import halved, widened
from index.lock import ReadWriteLock
from index.twins import Twins
from index.vectors import (
    Candidates,
    CaughtUp,
    Difference,
    Effort,
    ExactIndex,
    Ids,
    IndexStats,
    Vectors,
    unit_rows,
)

_FIRST_CAPACITY = 1024
_BATCH = 256  # vectors added while queries wait
_READ = 8_192  # vectors read from the catalogue at a time
_COMPARED = 256  # vectors of a loaded graph compared with the catalogue


class HnswIndex:
    """Implements `VectorIndex`; queries run beside each other, changes one at a time."""

    def __init__(self, folder: Path, *, model_id: str, dim: int, config: IndexConfig) -> None:
        self.model_id = model_id
        self.dim = dim
        self.opened = CaughtUp(0, 0)
        self._folder = folder
        self._config = config
        self._read_only = False
        self._changed = False  # since it was saved or loaded
        self._changes = Lock()  # held by whoever changes or saves; queries go on
        self._lock = ReadWriteLock()  # written while graph, matrix or twins are in between
        self._exact = ExactIndex(model_id=model_id, dim=dim)
        self._twins = Twins()
        self._deleted: set[int] = set()  # labels marked so in the graph
        self._unclaimed: set[int] = set()  # labels of a loaded graph, until their ids come
        self._graph = self._new_graph(_FIRST_CAPACITY)

    @classmethod
    def open(
        cls,
        folder: Path,
        catalogue: Catalogue,
        *,
        model_id: str,
        dim: int,
        config: IndexConfig,
        read_only: bool = False,
    ) -> Self:
        """Return the index of a model, level with the catalogue.

        `read_only` is for a second process: it catches up in memory and never writes the file.
        """
        index = cls(folder, model_id=model_id, dim=dim, config=config)
        index._read_only = read_only
        reason = index._load(catalogue)
        caught_up = index.catch_up(catalogue)
        index._delete_nodes(index._unclaimed)
        index._unclaimed = set()
        if index._mostly_deleted():
            reason = "most of its vectors were deleted"
            index._compact()
        index.opened = CaughtUp(caught_up.added, caught_up.removed, reason)
        return index

    def catch_up(self, catalogue: Catalogue) -> CaughtUp:
        """Add what the catalogue has more, remove what it no longer has."""
        present = self.ids()  # first: what comes in between is then not taken for a leftover
        wanted = catalogue.embedding_ids(self.model_id)
        extra = np.setdiff1d(present, wanted, assume_unique=True)
        missing = np.setdiff1d(wanted, present, assume_unique=True)
        self.remove(extra)
        # Those that have a node come first, the others in random order: inserted series by
        # series, near vectors arrive together and the graph is worse (.978 against .995).
        has_node = np.isin(missing, list(self._unclaimed))
        shuffled = np.random.default_rng(self._config.seed).permutation(missing[~has_node])
        for ids in _parts(np.concatenate([missing[has_node], shuffled]), _READ):
            self.add(*catalogue.vectors(ids.tolist()))
        return CaughtUp(len(missing), len(extra))

    def compact(self) -> None:
        """Build the graph anew if most of its nodes were deleted; queries go on meanwhile."""
        with self._changes:
            if self._mostly_deleted():
                self._compact()

    def add(self, ids: Ids, vectors: Vectors) -> None:
        """Make vectors (N, D) findable; ids that are there already stay as they are."""
        if not len(ids):
            return
        rows = widened(halved(unit_rows(vectors, self.dim)))
        with self._changes:
            for part in _parts(np.arange(len(ids)), _BATCH):
                with self._lock.writing():
                    self._add(np.asarray(ids)[part], rows[part])

    def remove(self, ids: Ids) -> None:
        """Make vectors unfindable; unknown ids are no error."""
        with self._changes, self._lock.writing():
            known = [key for key in np.unique(ids).tolist() if key in self._exact]
            self._exact.remove(np.array(known, dtype=np.int64))
            emptied = {self._twins.dismiss(key) for key in known}
            self._delete_nodes({label for label in emptied if label is not None})

    def purge(self, ids: Ids) -> None:
        """Remove vectors, build the graph without them and write it in the place of the old."""
        self.remove(ids)
        with self._changes:
            self._compact()
        self.save()

    def candidates(self, vector: Vectors, k: int, *, effort: Effort = Effort.NORMAL) -> Candidates:
        """Return the nearest ids: at least min(k, len(self)), more where vectors are identical."""
        row = unit_rows(vector, self.dim)
        with self._lock.reading():
            if effort is Effort.EXACT or len(self._exact) <= self._config.exact_below:
                return self._exact.candidates(row, k)
            nodes = min(k, len(self._twins))
            try:
                labels, distances = self._graph.knn_query(row, k=nodes, num_threads=1)
            except RuntimeError:  # some nodes cannot be reached from the entry
                return self._exact.candidates(row, k)
            return self._twins.expand(labels[0], np.float32(1.0) - distances[0])

    def among(self, vectors: Vectors, ids: Ids) -> Vectors:
        """Return the exact scores (M, N) of M vectors against N ids; -inf for unknown ids."""
        with self._lock.reading():
            return self._exact.among(vectors, ids)

    def ids(self) -> Ids:
        """Return all ids, ascending."""
        with self._lock.reading():
            return self._exact.ids()

    def __len__(self) -> int:
        return len(self._exact)

    def __contains__(self, key: int) -> bool:
        return key in self._exact

    def save(self) -> None:
        """Write the graph for the next start, if it changed; raises IndexNotSaved.

        Nothing when read-only.
        """
        if self._read_only or not self._changed:
            return
        with self._changes:
            save_graph(self._folder, self._graph, self._header())
            self._changed = False

    def close(self) -> None:
        """Let go of the memory; the index is not saved."""
        with self._changes, self._lock.writing():
            self._exact.close()
            self._twins = Twins()
            self._deleted = set()
            self._graph = self._new_graph(_FIRST_CAPACITY)

    def stats(self) -> IndexStats:
        """Return what the index holds."""
        with self._lock.reading():
            return IndexStats(
                vectors=len(self._exact), nodes=len(self._twins), deleted=len(self._deleted)
            )

    def verify(self, catalogue: Catalogue) -> Difference:
        """Compare every vector with the catalogue's."""
        with self._changes:
            return self._exact.verify(catalogue)

    def rebuild(self, catalogue: Catalogue) -> None:
        """Build the graph anew; queries use the old one meanwhile."""
        self.catch_up(catalogue)
        with self._changes:
            self._compact()

    def health(self) -> str:
        """Return "": what is not level with the catalogue is told by `verify`."""
        return ""

    # --- under the lock ---------------------------------------------------------------------

    def _add(self, ids: Ids, rows: Vectors) -> None:
        _, firsts = np.unique(ids, return_index=True)
        new = [at for at in np.sort(firsts).tolist() if int(ids[at]) not in self._exact]
        self._exact.add(ids[new], rows[new])
        needs_node = [at for at in new if self._twins.admit(int(ids[at]), rows[at])]
        labels = set(ids[needs_node].tolist())
        at_hand = labels & self._unclaimed
        self._unclaimed -= at_hand
        self._insert([at for at in needs_node if int(ids[at]) not in at_hand], ids, rows)

    def _insert(self, positions: list[int], ids: Ids, rows: Vectors) -> None:
        if not positions:
            return
        labels = ids[positions]
        count, capacity = self._graph.get_current_count(), self._graph.get_max_elements()
        if count + len(labels) > capacity:
            self._graph.resize_index(max(2 * capacity, count + len(labels)))
        threads = self._config.build_threads
        self._graph.add_items(rows[positions], labels, num_threads=threads)
        self._changed = True
        self._deleted -= set(labels.tolist())  # a label that comes back is no longer deleted

    def _delete_nodes(self, labels: set[int]) -> None:
        for label in labels:
            self._graph.mark_deleted(label)
        self._deleted |= labels
        self._changed |= bool(labels)

    # --- under `_changes`, or before anyone else knows the index ----------------------------

    def _load(self, catalogue: Catalogue) -> str:
        """Take the graph on disk; return why not, if not."""
        try:
            graph, header = load_graph(self._folder, self._header())
        except UnusableGraph as error:
            return error.reason
        labels = set(graph.get_ids_list()) - set(header.deleted)
        newest, vectors = catalogue.vectors(sorted(labels)[-_COMPARED:])
        if len(newest) and not np.array_equal(graph.get_items(newest), widened(halved(vectors))):
            return "the catalogue holds other vectors, as after restoring a backup"
        graph.set_ef(self._config.ef_search)  # not kept in the file
        graph.set_num_threads(1)
        self._graph = graph
        self._deleted = set(header.deleted)
        self._unclaimed = labels
        return ""

    def _mostly_deleted(self) -> bool:
        # Deleted nodes are still walked through: at 90 % a query costs four times as much.
        return len(self._deleted) > len(self._twins)

    def _compact(self) -> None:
        """Build the graph anew without what was deleted; queries use the old one meanwhile."""
        labels = np.random.default_rng(self._config.seed).permutation(self._twins.labels())
        graph = self._new_graph(max(_FIRST_CAPACITY, 2 * len(labels)))
        for part in _parts(labels, _READ):
            vectors = self._exact.vectors(part)
            graph.add_items(vectors, part, num_threads=self._config.build_threads)
        with self._lock.writing():
            self._graph = graph
            self._deleted = set()

    def _new_graph(self, capacity: int) -> Any:
        config = self._config
        graph = hnswlib.Index(SPACE, self.dim)
        graph.init_index(
            max_elements=capacity,
            M=config.m,
            ef_construction=config.ef_construction,
            random_seed=config.seed,
        )
        graph.set_ef(config.ef_search)  # hnswlib uses max(ef, k) by itself
        return graph

    def _header(self) -> GraphHeader:
        return GraphHeader(
            model_id=self.model_id,
            dim=self.dim,
            m=self._config.m,
            ef_construction=self._config.ef_construction,
            nodes=self._graph.get_current_count(),
            deleted=tuple(sorted(self._deleted)),
        )


def _parts(values: Ids, size: int) -> Iterator[Ids]:
    for start in range(0, len(values), size):
        yield values[start : start + size]
