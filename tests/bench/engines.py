"""Other engines over the same vectors: what each is, how it is built, asked and weighed.

All get the vectors in the same shuffled order, with the degree and the effort of building that the
product uses, and answer on one thread. They know no patients and no filters.
"""

import gc
import os
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol, TypeVar

import faiss
import hnswlib
import numpy as np
from clusters import Rows, Vectors
from usearch.index import Index as UsearchIndex

from index.config import IndexConfig

CONFIG = IndexConfig()
T = TypeVar("T")


class Engine(Protocol):
    """Rows near a vector."""

    def nearest(self, vector: Vectors, k: int, ef: int) -> Rows:
        """Return the k nearest rows to a vector (D,)."""

    def save(self, path: Path) -> None:
        """Write the index to a file."""


@dataclass(slots=True)
class Cost:
    """What building took: CPU seconds, resident bytes more than before, bytes of the file."""

    cpu_s: float = 0.0
    wall_s: float = 0.0
    memory: int = 0
    file: int = 0


@dataclass(slots=True)
class Times:
    """Wall time and CPU time of each call, in milliseconds."""

    wall: list[float] = field(default_factory=list)
    cpu: list[float] = field(default_factory=list)

    def take(self, work: Callable[[], T]) -> T:
        """Time one call."""
        wall, cpu = time.perf_counter(), time.thread_time()
        result = work()
        self.cpu.append(1000 * (time.thread_time() - cpu))
        self.wall.append(1000 * (time.perf_counter() - wall))
        return result


class Hnswlib:
    """The library that the product builds on, without the product."""

    def __init__(self, vectors: Vectors, order: Rows, threads: int) -> None:
        self._graph = hnswlib.Index("ip", vectors.shape[1])
        self._graph.init_index(len(vectors), M=CONFIG.m, ef_construction=CONFIG.ef_construction)
        for part in parts(order):
            self._graph.add_items(vectors[part], part, num_threads=threads)

    def nearest(self, vector: Vectors, k: int, ef: int) -> Rows:
        self._graph.set_ef(ef)
        return self._graph.knn_query(vector, k, num_threads=1)[0][0]

    def save(self, path: Path) -> None:
        self._graph.save_index(str(path))


class Faiss:
    """faiss-cpu, HNSW over flat float32."""

    def __init__(self, vectors: Vectors, order: Rows, threads: int) -> None:
        faiss.omp_set_num_threads(threads)
        self._order = order
        self._graph = faiss.IndexHNSWFlat(vectors.shape[1], CONFIG.m, faiss.METRIC_INNER_PRODUCT)
        self._graph.hnsw.efConstruction = CONFIG.ef_construction
        for part in parts(order):
            self._graph.add(vectors[part])
        faiss.omp_set_num_threads(1)

    def nearest(self, vector: Vectors, k: int, ef: int) -> Rows:
        self._graph.hnsw.efSearch = ef
        return self._order[self._graph.search(vector[None], k)[1][0]]

    def save(self, path: Path) -> None:
        faiss.write_index(self._graph, str(path))


class Usearch:
    """usearch over float16."""

    def __init__(self, vectors: Vectors, order: Rows, threads: int) -> None:
        self._graph = UsearchIndex(
            ndim=vectors.shape[1],
            metric="ip",
            dtype="f16",
            connectivity=CONFIG.m,
            expansion_add=CONFIG.ef_construction,
        )
        for part in parts(order):
            self._graph.add(part, vectors[part], threads=threads)

    def nearest(self, vector: Vectors, k: int, ef: int) -> Rows:
        self._graph.expansion_search = ef
        return self._graph.search(vector, k, threads=1).keys.astype(np.int64)

    def save(self, path: Path) -> None:
        self._graph.save(str(path))


class Scan:
    """Every vector in one matrix, float32 or float16; halves are widened part by part."""

    def __init__(self, vectors: Vectors, dtype: type[np.floating]) -> None:
        self._matrix = vectors.astype(dtype)

    def nearest(self, vector: Vectors, k: int, ef: int) -> Rows:
        rows = self._matrix
        if rows.dtype == np.float32:
            scores = rows @ vector
        else:
            pieces = np.array_split(rows, 1 + len(rows) // 8_192)
            scores = np.concatenate([piece.astype(np.float32) @ vector for piece in pieces])
        near = np.argpartition(-scores, k)[:k]
        return near[np.argsort(-scores[near])]

    def save(self, path: Path) -> None:
        with path.open("wb") as file:
            np.save(file, self._matrix)


def parts(order: Rows, size: int = 8_192) -> Sequence[Rows]:
    """Cut rows into parts, so that gathering them takes no second copy of all."""
    return [order[start : start + size] for start in range(0, len(order), size)]


def built(make: Callable[[], T]) -> tuple[T, Cost]:
    """Make something and weigh it."""
    gc.collect()
    memory, cpu, wall = resident_bytes(), time.process_time(), time.perf_counter()
    made = make()
    cpu_s, wall_s = time.process_time() - cpu, time.perf_counter() - wall
    gc.collect()
    return made, Cost(cpu_s, wall_s, resident_bytes() - memory)


def saved(engine: Engine, folder: Path) -> int:
    """Return how many bytes an engine writes."""
    path = folder / "saved"
    engine.save(path)
    size = path.stat().st_size
    path.unlink()
    return size


def resident_bytes() -> int:
    """Return how much memory this process holds (proc(5), statm)."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def others(vectors: Vectors, threads: int) -> dict[str, Callable[[], Engine]]:
    """Return how to make each engine."""
    order = np.random.default_rng(CONFIG.seed).permutation(len(vectors))
    return {
        "hnswlib": lambda: Hnswlib(vectors, order, threads),
        "faiss HNSW": lambda: Faiss(vectors, order, threads),
        "usearch f16": lambda: Usearch(vectors, order, threads),
        "scan f32": lambda: Scan(vectors, np.float32),
        "scan f16": lambda: Scan(vectors, np.float16),
    }
