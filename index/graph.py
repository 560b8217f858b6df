"""An HNSW graph of hnswlib, with what hnswlib leaves to its user: capacity, deletions, too few.

Labels are embedding ids. Has no lock: hnswlib may not be asked while it is added to.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Self

import hnswlib
import numpy as np

from index.config import IndexConfig
from index.graph_file import SPACE
from index.vectors import Ids, Vectors

_FIRST_CAPACITY = 1024


class Graph:
    """Nodes by label; a query takes as much effort as it asks for nodes."""

    def __init__(self, nodes: Any, deleted: Iterable[int], config: IndexConfig) -> None:
        # hnswlib works with max(ef, k): with a small ef the effort is that of each query alone.
        nodes.set_ef(1)
        self.nodes = nodes
        self.deleted = set(deleted)
        self._threads = config.build_threads

    @classmethod
    def empty(cls, dim: int, config: IndexConfig, *, room: int = 0) -> Self:
        """Return a graph without nodes, with room for so many."""
        nodes = hnswlib.Index(SPACE, dim)
        nodes.init_index(
            max_elements=max(_FIRST_CAPACITY, room),
            M=config.m,
            ef_construction=config.ef_construction,
            random_seed=config.seed,
        )
        return cls(nodes, (), config)

    def __len__(self) -> int:
        """Return how many nodes can be found."""
        return int(self.nodes.get_current_count()) - len(self.deleted)

    def labels(self) -> Ids:
        """Return the labels of the nodes that can be found, ascending."""
        every = np.sort(np.array(self.nodes.get_ids_list(), dtype=np.int64))
        return np.setdiff1d(every, np.fromiter(self.deleted, np.int64), assume_unique=True)

    def vectors(self, labels: Ids) -> Vectors:
        """Return the vectors (N, D) of nodes."""
        return np.asarray(self.nodes.get_items(labels), dtype=np.float32)

    def add(self, labels: Ids, vectors: Vectors) -> None:
        """Insert nodes; a label that was deleted comes back with its new vector."""
        if not len(labels):
            return
        count, capacity = self.nodes.get_current_count(), self.nodes.get_max_elements()
        if count + len(labels) > capacity:
            self.nodes.resize_index(max(2 * capacity, count + len(labels)))
        self.nodes.add_items(vectors, labels, num_threads=self._threads)
        self.deleted -= set(labels.tolist())

    def delete(self, labels: Ids) -> None:
        """Make nodes unfindable; they stay in memory until the graph is built anew."""
        for label in labels.tolist():
            self.nodes.mark_deleted(label)
        self.deleted.update(labels.tolist())

    def search(self, vector: Vectors, count: int) -> tuple[Ids, Vectors] | None:
        """Return near labels by falling score; None if so many cannot be reached."""
        wanted = min(count, len(self))
        if not wanted:
            return np.empty(0, np.int64), np.empty(0, np.float32)
        try:
            labels, distances = self.nodes.knn_query(vector, k=wanted, num_threads=1)
        except RuntimeError:
            return None
        return labels[0].view(np.int64), np.float32(1.0) - distances[0]
