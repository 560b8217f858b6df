"""A graph over an exact matrix, in memory: what is findable, and how it is found.

A vector is findable as soon as it is in the matrix: those that have no node yet are compared one by
one, all of them while the graph is built. Nodes are inserted a few at a time, since queries wait
meanwhile. Knows neither catalogue nor files.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import suppress
from threading import Event, Lock

import numpy as np

from index.calibration import TARGETS, least_scores, measured_efforts, sample
from index.config import IndexConfig
from index.graph import Graph
from index.half import Halves
from index.lock import ReadWriteLock
from index.twins import Twins
from index.vectors import Candidates, Effort, ExactIndex, Ids, IndexStats, Vectors, unit_rows

_BATCH = 8  # nodes inserted while queries wait: some milliseconds
_PUT = 1_024  # rows written to the matrix while queries wait
_PAUSE_S = 0.001  # between batches, so that those who waited come in
_GROWN = 1.5  # efforts are measured again when there are so many times more vectors


class _Stopped(Exception):
    """The index is about to be closed."""


class GraphOverMatrix:
    """Vectors of one model; queries run beside each other and beside everything else."""

    def __init__(self, *, model_id: str, dim: int, config: IndexConfig) -> None:
        self.model_id = model_id
        self.dim = dim
        self._config = config
        self._changed = False  # since it was saved or loaded
        self._inserting = Lock()  # held by whoever inserts nodes, builds or saves
        self._marking = Lock()  # held by whoever deletes nodes or saves
        self._lock = ReadWriteLock()  # written while graph, matrix or twins are in between
        self._stopped = Event()
        self._empty()

    def _empty(self) -> None:
        self._exact = ExactIndex(model_id=self.model_id, dim=self.dim)
        self._twins = Twins()
        self._graph: Graph | None = None  # while it is built
        self._waiting = np.empty(0, dtype=np.int64)  # labels without a node
        self._efforts = dict.fromkeys(TARGETS, self._config.ef_search)
        self._measured = 0  # vectors, when the efforts were

    def remove(self, ids: Ids) -> None:
        """Make vectors unfindable; unknown ids are no error."""
        with self._marking, self._lock.writing():
            keys = np.unique(np.asarray(ids, dtype=np.int64))
            keys = keys[self._exact.known(keys)]
            gone, heirs = self._twins.dismiss(keys, self._exact.halves(keys))
            self._exact.remove(keys)
            nodes = np.setdiff1d(gone, self._waiting)
            self._waiting = np.concatenate([self._waiting[~np.isin(self._waiting, keys)], heirs])
            if self._graph is not None and len(nodes):
                self._graph.delete(nodes)
            self._changed |= bool(len(keys))

    def _put(self, ids: Ids, halves: Halves) -> None:
        for part in parts(np.arange(len(ids)), _PUT):
            with self._lock.writing():
                new = part[self._exact.add_halves(ids[part], halves[part])]
                labels = self._twins.admit(ids[new], halves[new])
                self._waiting = np.concatenate([self._waiting, labels])
                self._changed |= bool(len(new))

    def _insert_waiting(self, *, wait: bool = True) -> None:
        """Give every vector its node, and measure what effort the graph needs by then.

        Without `wait`, leave it to whoever inserts or builds just now, or comes next.
        """
        if not self._inserting.acquire(blocking=wait):
            return
        try:
            while self._lacks_nodes() and not self._stopped.is_set():
                if self._graph is None or len(self._waiting) > max(_PUT, len(self._graph)):
                    self._build()
                    continue
                with self._lock.writing():
                    labels = self._waiting[:_BATCH]
                    self._graph.add(labels, self._exact.vectors(labels))
                    self._waiting = self._waiting[len(labels) :]
                self._changed = True
                time.sleep(_PAUSE_S)
            if len(self._exact) > max(_GROWN * self._measured, self._config.exact_below):
                self._measure()
        finally:
            self._inserting.release()

    def _lacks_nodes(self) -> bool:
        return bool(len(self._waiting) or (self._graph is None and len(self._exact)))

    def _build(self) -> None:
        """Build a graph aside, in random order, and take it in the place of the old.

        Inserted series by series, near vectors arrive together and the graph is worse.
        """
        with self._lock.reading():
            labels = np.setdiff1d(self._exact.ids(), self._twins.followers())
        graph = Graph.empty(self.dim, self._config, room=len(labels))
        for part in parts(np.random.default_rng(self._config.seed).permutation(labels), _PUT):
            if self._stopped.is_set():
                return
            with self._lock.reading():
                part = part[self._exact.known(part)]
                vectors = self._exact.vectors(part)
            graph.add(part, vectors)
        with self._marking, self._lock.writing():
            self._adopt(graph)
        self._changed = True

    def _adopt(self, graph: Graph) -> None:
        """Take a graph: what it has beyond the labels is deleted, what it lacks waits."""
        labels = np.setdiff1d(self._exact.ids(), self._twins.followers(), assume_unique=True)
        nodes = graph.labels()
        graph.delete(np.setdiff1d(nodes, labels, assume_unique=True))
        waiting = np.setdiff1d(labels, nodes, assume_unique=True)
        self._waiting = np.random.default_rng(self._config.seed).permutation(waiting)
        self._graph = graph

    def _measure(self) -> None:
        """Measure what effort the graph needs, unless stopped: that may take half a minute."""
        if self._graph is None:
            return

        def among(rows: Vectors, ids: Ids) -> Vectors:
            self._check_stopped()
            return self.among(rows, ids)

        def search(row: Vectors, ef: int) -> Vectors:
            self._check_stopped()
            return self._proposed(row, ef).scores

        with self._lock.reading():
            queries = sample(self._exact, np.random.default_rng(self._config.seed))
            ids = self._exact.ids()
        with suppress(_Stopped):
            efforts = measured_efforts(queries, least_scores(among, queries, ids), search)
            self._efforts, self._measured, self._changed = efforts, len(ids), True

    def _check_stopped(self) -> None:
        if self._stopped.is_set():
            raise _Stopped

    # --- asking -----------------------------------------------------------------------------

    def candidates(self, vector: Vectors, k: int, *, effort: Effort = Effort.NORMAL) -> Candidates:
        """Return the nearest ids: at least min(k, len(self)), as many as the effort finds."""
        if effort is Effort.EXACT or len(self) <= self._config.exact_below:
            with self._lock.reading():
                return self._exact.candidates(vector, k)
        return self._proposed(unit_rows(vector, self.dim), max(k, self._efforts[effort]))

    def _proposed(self, row: Vectors, count: int) -> Candidates:
        """Return what the graph finds by asking for so many, and what has no node yet."""
        with self._lock.reading():
            found = None if self._graph is None else self._graph.search(row, count)
            if found is None:
                return self._exact.candidates(row, count)
            labels, products = found
            if len(self._waiting):
                extra = self._exact.among(row, self._waiting)[0]
                if len(labels) >= count:  # a node that was not found may come before the others
                    near = extra >= products[-1]
                    extra, waiting = extra[near], self._waiting[near]
                else:
                    waiting = self._waiting
                labels = np.concatenate([labels, waiting])
                products = np.concatenate([products, extra])
                order = np.argsort(-products, kind="stable")
                labels, products = labels[order], products[order]
            return Candidates(*self._twins.expand(labels, products), exact=False)

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

    def _nodes(self) -> Ids:
        """Return the labels in the graph."""
        with self._lock.reading():
            return np.empty(0, dtype=np.int64) if self._graph is None else self._graph.labels()

    def stats(self) -> IndexStats:
        """Return what the index holds."""
        with self._lock.reading():
            return IndexStats(
                vectors=len(self._exact),
                nodes=0 if self._graph is None else len(self._graph),
                deleted=0 if self._graph is None else len(self._graph.deleted),
                waiting=len(self._waiting),
            )


def parts(values: Ids, size: int) -> Iterator[Ids]:
    """Cut ids into parts of a size."""
    for start in range(0, len(values), size):
        yield values[start : start + size]
