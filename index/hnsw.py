"""The vector index built in: an HNSW graph (hnswlib) over an exact matrix.

The graph proposes, the matrix scores (`covered`). Both follow the catalogue; what is on disk is a
cache, checked before it is loaded, and rebuilt when it cannot be trusted.

Costs about 2.6 kB of memory per vector of 384: 1.7 of the graph, 0.8 of the matrix.
"""

from __future__ import annotations

from pathlib import Path
from threading import Lock, Thread
from typing import Self

import numpy as np

from index.catalogue import Catalogue
from index.changes import Bookmark
from index.config import IndexConfig
from index.covered import GraphOverMatrix, parts
from index.errors import IndexNotSaved
from index.graph import Graph
from index.graph_file import GraphHeader, UnusableGraph, load_graph, save_graph
from index.half import halved
from index.vectors import (
    READ,
    CaughtUp,
    Difference,
    Effort,
    Ids,
    Vectors,
    difference,
    unit_rows,
)


class HnswIndex(GraphOverMatrix):
    """Implements `VectorIndex`; a graph that follows the catalogue and is kept on disk."""

    def __init__(self, folder: Path, *, model_id: str, dim: int, config: IndexConfig) -> None:
        super().__init__(model_id=model_id, dim=dim, config=config)
        self.opened = CaughtUp(0, 0)
        self._folder = folder
        self._read_only = False
        self._bookmark: Bookmark | None = None  # None: all ids are to be compared
        self._unchecked: list[Ids] = []  # came by `add`: the catalogue may have dropped them since
        self._following = Lock()  # held by whoever reads changes of the catalogue
        self._builder: Thread | None = None
        self._trouble = ""

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
        background: bool = False,
    ) -> Self:
        """Return the index of a model, level with the catalogue.

        `read_only` is for a second process: it never writes the file, and builds no graph where
        there is none to load, but compares one by one. With `background` a graph is built beside
        the queries, by a thread that `close` ends.
        """
        index = cls(folder, model_id=model_id, dim=dim, config=config)
        index._read_only = read_only
        caught_up = index._follow(catalogue)
        reason = index._load()
        index.opened = CaughtUp(caught_up.added, caught_up.removed, reason)
        if read_only and index._graph is None:
            return index
        if background:
            index._builder = Thread(target=index._insert_waiting, name="graph", daemon=True)
            index._builder.start()
        else:
            index._insert_waiting()
        return index

    # --- following the catalogue ------------------------------------------------------------

    def catch_up(self, catalogue: Catalogue) -> CaughtUp:
        """Add what came, remove what went: by what the catalogue says that changed."""
        caught_up = self._follow(catalogue)
        if not (self._read_only and self._graph is None):
            self._insert_waiting()
        return caught_up

    def _follow(self, catalogue: Catalogue) -> CaughtUp:
        with self._following:
            unchecked = self._unchecked[:]
            ids, bookmark = None, self._bookmark
            if bookmark is None:
                bookmark = catalogue.bookmark()
            else:
                changed = catalogue.changes(bookmark)
                ids, bookmark = changed.ids, changed.bookmark
            if ids is None:
                present, wanted = self.ids(), catalogue.embedding_ids(self.model_id)
            else:
                looked_at = np.unique(np.concatenate([ids, *unchecked]))
                with self._lock.reading():
                    present = looked_at[self._exact.known(looked_at)]
                wanted = catalogue.surviving(looked_at, self.model_id)
            missing = np.setdiff1d(wanted, present, assume_unique=True)
            extra = np.setdiff1d(present, wanted, assume_unique=True)
            self.remove(extra)
            self._read(catalogue, missing)
            self._bookmark = bookmark
            del self._unchecked[: len(unchecked)]  # `add` may have appended more by now
            return CaughtUp(len(missing), len(extra))

    def _read(self, catalogue: Catalogue, ids: Ids) -> None:
        for part in parts(ids, READ):
            found, vectors = catalogue.vectors(part.tolist())
            if len(found):
                self._put(found, halved(unit_rows(vectors, self.dim)))

    def verify(self, catalogue: Catalogue) -> Difference:
        """Compare every vector, of the matrix and of the graph, with the catalogue's."""

        def differing(ids: Ids, vectors: Vectors) -> Ids:
            with self._lock.reading():
                other = self._exact.differing(ids, vectors)
                nodes = ids[np.isin(ids, labels)]
                nodes = nodes[self._exact.known(nodes)]
                if self._graph is None or not len(nodes):
                    return other
                wrong = (self._graph.vectors(nodes) != self._exact.vectors(nodes)).any(axis=1)
                return np.union1d(other, nodes[wrong])

        with self._inserting:
            with self._lock.reading():
                labels = (
                    np.empty(0, dtype=np.int64) if self._graph is None else self._graph.labels()
                )
            return difference(self, catalogue, differing)

    def rebuild(self, catalogue: Catalogue) -> None:
        """Make matrix and graph what the catalogue says; every vector is compared meanwhile."""
        found = self.verify(catalogue)
        self.remove(np.concatenate([found.extra, found.stale]))
        self._read(catalogue, np.concatenate([found.missing, found.stale]))
        with self._lock.writing():
            self._graph = None
        self._insert_waiting()

    # --- changing ---------------------------------------------------------------------------

    def add(self, ids: Ids, vectors: Vectors) -> None:
        """Make vectors (N, D) findable, at once; ids that are there already stay as they are."""
        if not len(ids):
            return
        keys = np.asarray(ids, dtype=np.int64)
        self._put(keys, halved(unit_rows(vectors, self.dim)))
        self._unchecked.append(keys)
        self._insert_waiting(wait=False)

    def purge(self, ids: Ids) -> None:
        """Remove vectors, build the graph without them and write it in the place of the old."""
        self.remove(ids)
        with self._inserting:
            self._build()
        self.save()

    def compact(self) -> None:
        """Build the graph anew if most of its nodes were deleted; queries use the old meanwhile."""
        # Deleted nodes are still walked through: at 90 % a query costs four times as much.
        with self._inserting:
            if self._graph is not None and len(self._graph.deleted) > len(self._graph):
                self._build()

    def health(self) -> str:
        """Return what is wrong in one line; "" when all is well."""
        if self._trouble:
            return self._trouble
        if self._graph is None and len(self._exact) > self._config.exact_below:
            return f"The graph is not built: all {len(self._exact)} vectors are compared."
        return ""

    # --- keeping ----------------------------------------------------------------------------

    def save(self) -> None:
        """Write the graph for the next start, if it changed; raises IndexNotSaved.

        Nothing when read-only, or while there is no graph.
        """
        if self._read_only or not self._changed:
            return
        with self._inserting, self._marking:
            if self._graph is None:
                return
            try:
                save_graph(self._folder, self._graph.nodes, self._header(self._graph))
            except IndexNotSaved as error:
                self._trouble = str(error)
                raise
            self._changed, self._trouble = False, ""

    def interrupt(self) -> None:
        """Insert no more nodes: what lacks one stays findable, and gets it at the next start."""
        self._stopped.set()

    def close(self) -> None:
        """Let go of the memory; the index is not saved."""
        self.interrupt()
        with self._inserting, self._marking, self._lock.writing():
            self._empty()
        if self._builder is not None:
            self._builder.join()

    def _load(self) -> str:
        """Take the graph on disk; return why not, if not."""
        try:
            nodes, header = load_graph(self._folder, self._header(None))
        except UnusableGraph as error:
            return error.reason
        graph = Graph(nodes, header.deleted, self._config)
        labels = graph.labels()
        for part in parts(labels[self._exact.known(labels)], READ):
            if not np.array_equal(graph.vectors(part), self._exact.vectors(part)):
                return "the catalogue holds other vectors, as after restoring a backup"
        self._adopt(graph)
        if len(graph.deleted) > len(graph):
            self._graph = None
            return "most of its vectors were deleted"
        self._efforts.update({Effort(name): ef for name, ef in header.efforts.items()})
        self._measured = header.measured
        self._changed = len(graph.deleted) != len(header.deleted)
        return ""

    def _header(self, graph: Graph | None) -> GraphHeader:
        return GraphHeader(
            model_id=self.model_id,
            dim=self.dim,
            m=self._config.m,
            ef_construction=self._config.ef_construction,
            nodes=0 if graph is None else graph.nodes.get_current_count(),
            deleted=() if graph is None else tuple(sorted(graph.deleted)),
            efforts={effort.value: ef for effort, ef in self._efforts.items()},
            measured=self._measured,
        )
