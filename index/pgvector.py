"""The vector index inside PostgreSQL: pgvector's HNSW over float16, beside the catalogue's rows.

One table for each model, which several nodes share; a vector leaves it with its embedding. The
graph proposes, float32 products with the kept vectors score. What pgvector leaves to its user is
done here and in `pgvector_table`: iterative scans, too few results, a graph built after many rows.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Self

import numpy as np
from sqlalchemy import Connection, text

from index.calibration import NEAREST, measured_efforts, sample
from index.catalogue import Catalogue
from index.config import IndexConfig
from index.db import repeated
from index.half import halved, scores
from index.pgvector_rows import Rows, copy_in, fetch, halfvec_text
from index.pgvector_table import Efforts, GraphTable
from index.vectors import (
    READ,
    Candidates,
    CaughtUp,
    Difference,
    Effort,
    ExactIndex,
    Ids,
    IndexStats,
    Vectors,
    nearest,
    unit_rows,
)

_EXACT_BELOW = 1_000  # rows up to which a scan of all costs no more than the graph
_MAXIMUM_EF = 1_000  # pgvector's own limit
_SAMPLE = 48  # queries that the efforts are measured with
_GROWN = 1.5  # they are measured again when there are so many times more vectors
_BULK = 10_000  # new rows for which the graph is built afterwards, if they are most of all
_LOOK_HARD = text(
    "SELECT set_config('hnsw.iterative_scan', 'relaxed_order', true),"
    " set_config('hnsw.ef_search', :ef, true)"
)


class PgVectorIndex:
    """Implements `VectorIndex`; PostgreSQL keeps readers and writers apart."""

    def __init__(
        self, catalogue: Catalogue, *, model_id: str, dim: int, config: IndexConfig
    ) -> None:
        self.model_id = model_id
        self.dim = dim
        self._catalogue = catalogue
        self._config = config
        self._exact_below = min(config.exact_below, _EXACT_BELOW)
        self._ef: Mapping[Effort, int] = dict.fromkeys(Effort, config.ef_search)
        self._table = GraphTable(catalogue, model_id, dim, config)

    @classmethod
    def open(
        cls,
        catalogue: Catalogue,
        *,
        model_id: str,
        dim: int,
        config: IndexConfig,
        read_only: bool = False,
        background: bool = False,
    ) -> Self:
        """Return the index of a model, level with the catalogue; raises ExtensionMissing.

        `read_only` is for a process beside the node, which keeps the index level. With `background`
        a graph that is missing is built by the next `catch_up`; until then answers are exact.
        """
        index = cls(catalogue, model_id=model_id, dim=dim, config=config)
        is_new = index._table.create()
        if background:
            index._add_missing(catalogue)
        elif is_new or not read_only:
            index.catch_up(catalogue)
        else:
            index._take_measured()
        return index

    def catch_up(self, catalogue: Catalogue) -> CaughtUp:
        """Add what the catalogue has more; make table and graph if they are missing.

        What the catalogue no longer has is gone already: its rows reference the catalogue's.
        """
        self._table.create()
        added = self._add_missing(catalogue)
        self._table.build_graph()
        self._keep_measured()
        return CaughtUp(added, 0)

    def _add_missing(self, catalogue: Catalogue) -> int:
        with catalogue.reading() as connection:
            missing = self._table.missing(connection)
            count = self._table.count(connection)
        if len(missing) > max(_BULK, count):
            self._table.drop_graph()
        for start in range(0, len(missing), READ):
            self.add(*catalogue.vectors(missing[start : start + READ].tolist()))
        return len(missing)

    def _keep_measured(self) -> None:
        """Read what ef each effort needs; measure it if the table has grown much since."""
        with self._catalogue.reading() as connection:
            count = self._table.count(connection)
        known = self._take_measured()
        if count > max(self._exact_below, _GROWN * known):
            measured = Efforts(count, self._measured(count))
            self._table.keep_efforts(measured)
            self._ef = measured.ef

    def _take_measured(self) -> int:
        """Take the ef that was measured last, by whichever node; return over how many vectors."""
        with self._catalogue.reading() as connection:
            known = self._table.efforts(connection)
        if known is None:
            return 0
        self._ef = known.ef
        return known.vectors

    def _measured(self, count: int) -> dict[Effort, int]:
        rng = np.random.default_rng(self._config.seed)
        few = ExactIndex(model_id=self.model_id, dim=self.dim)
        with self._catalogue.reading() as connection:
            chosen = self._table.some(connection, rng.random(), min(_SAMPLE, count))
            rows = self._fetch(connection, chosen)
            few.add_halves(rows.ids, rows.halves)
            queries = sample(few, rng)
            exact = [self.candidates(row, NEAREST, effort=Effort.EXACT).scores for row in queries]
            least = np.array([scores[-1] for scores in exact], dtype=np.float32)
            return measured_efforts(
                queries,
                least,
                lambda row, ef: self._proposed(connection, row[None], NEAREST, ef).scores,
            )

    @repeated
    def add(self, ids: Ids, vectors: Vectors) -> None:
        """Make vectors (N, D) findable; ids that are there already, or not catalogued, stay out."""
        if not len(ids):
            return
        halves = halved(unit_rows(vectors, self.dim))
        _, firsts = np.unique(ids, return_index=True)
        with self._catalogue.writing() as connection:
            copy_in(connection, self._table.name, np.asarray(ids)[firsts], halves[firsts])

    def remove(self, ids: Ids) -> None:
        """Make vectors unfindable; unknown ids are no error."""
        gone = text(f"DELETE FROM {self._table.name} WHERE id = ANY(:ids)")
        with self._catalogue.writing() as connection:
            connection.execute(gone, {"ids": np.asarray(ids).tolist()})

    def purge(self, ids: Ids) -> None:
        """Remove vectors, and what they leave in the pages of table and graph."""
        self.remove(ids)
        self._table.vacuum()

    def candidates(self, vector: Vectors, k: int, *, effort: Effort = Effort.NORMAL) -> Candidates:
        """Return the k nearest ids, all there are if they are fewer."""
        row = unit_rows(vector, self.dim)
        with self._catalogue.reading() as connection:
            count = self._table.count(connection)
            if effort is not Effort.EXACT and count > max(self._exact_below, k):
                found = self._proposed(connection, row, k, max(k, self._ef[effort]))
                if len(found.ids) == k:  # else the graph does not lead to all of them
                    return found
            return _ranked(self._nearest(connection, row, k, graph=False), row, k, exact=True)

    def _proposed(self, connection: Connection, row: Vectors, k: int, ef: int) -> Candidates:
        """Return what the graph finds, walked until there are enough rows."""
        connection.execute(_LOOK_HARD, {"ef": str(min(ef, _MAXIMUM_EF))})
        return _ranked(self._nearest(connection, row, k, graph=True), row, k, exact=False)

    def among(self, vectors: Vectors, ids: Ids) -> Vectors:
        """Return the exact scores (M, N) of M vectors against N ids; -inf for unknown ids."""
        queries = unit_rows(vectors, self.dim)
        wanted = np.asarray(ids, dtype=np.int64)
        found = np.full((len(queries), len(wanted)), -np.inf, dtype=np.float32)
        if not len(wanted):
            return found
        with self._catalogue.reading() as connection:
            rows = self._fetch(connection, wanted)
        order = np.argsort(rows.ids)
        at = np.searchsorted(rows.ids, wanted, sorter=order)
        at = order[np.minimum(at, len(order) - 1)] if len(order) else np.zeros_like(wanted)
        known = rows.ids[at] == wanted if len(order) else np.zeros(len(wanted), dtype=np.bool_)
        found[:, known] = scores(queries, rows.halves, at[known])
        return found

    def ids(self) -> Ids:
        """Return all ids, ascending."""
        with self._catalogue.reading() as connection:
            found = connection.execute(text(f"SELECT id FROM {self._table.name} ORDER BY id"))
            return np.fromiter(found.scalars(), dtype=np.int64)

    def __len__(self) -> int:
        with self._catalogue.reading() as connection:
            return self._table.count(connection)

    def __contains__(self, key: int) -> bool:
        one = text(f"SELECT 1 FROM {self._table.name} WHERE id = :id")
        with self._catalogue.reading() as connection:
            return connection.execute(one, {"id": int(key)}).first() is not None

    def compact(self) -> None:
        """Do nothing: autovacuum does it."""

    def save(self) -> None:
        """Do nothing: what was added is on disk."""

    def interrupt(self) -> None:
        """Do nothing: a graph that is being built is built on by the next start."""

    def close(self) -> None:
        """Do nothing: the connections are the catalogue's."""

    def stats(self) -> IndexStats:
        """Return what the index holds; what is deleted is PostgreSQL's estimate."""
        with self._catalogue.reading() as connection:
            count, dead = self._table.count(connection), self._table.dead(connection)
            return IndexStats(vectors=count, nodes=count, deleted=dead)

    def verify(self, catalogue: Catalogue) -> Difference:
        """Compare every vector with the catalogue's."""
        wanted, present = catalogue.embedding_ids(self.model_id), self.ids()
        shared = np.intersect1d(wanted, present, assume_unique=True)
        stale = [np.empty(0, dtype=np.int64)]
        for start in range(0, len(shared), READ):
            stale.append(self._stale(catalogue, shared[start : start + READ]))
        return Difference(
            missing=np.setdiff1d(wanted, present, assume_unique=True),
            extra=np.setdiff1d(present, wanted, assume_unique=True),
            stale=np.concatenate(stale),
        )

    def rebuild(self, catalogue: Catalogue) -> None:
        """Replace what is not the catalogue's, and build the graph anew beside the old one."""
        self.remove(self.verify(catalogue).stale)
        self.catch_up(catalogue)
        self._table.rebuild_graph()

    def health(self) -> str:
        """Return what is wrong in one line; "" when all is well."""
        return self._table.health()

    def _nearest(self, connection: Connection, row: Vectors, k: int, *, graph: bool) -> Rows:
        # Nothing but the bare operator, ascending, is answered by the graph.
        query, order = halfvec_text(halved(row[0])), f"vector <#> %s::halfvec({self.dim})"
        if not graph:
            order = f"({order}) + 0"
        wanted = f"SELECT id, vector FROM {self._table.name} ORDER BY {order} LIMIT %s"
        return fetch(connection, wanted, (query, int(k)), self.dim)

    def _fetch(self, connection: Connection, ids: Ids) -> Rows:
        wanted = f"SELECT id, vector FROM {self._table.name} WHERE id = ANY(%s)"
        return fetch(connection, wanted, (ids.tolist(),), self.dim)

    def _stale(self, catalogue: Catalogue, ids: Ids) -> Ids:
        """Return those of ids, in ascending order, whose vectors are not the catalogue's."""
        truth_ids, truth = catalogue.vectors(ids.tolist())
        with catalogue.reading() as connection:
            rows = self._fetch(connection, truth_ids)
        order = np.argsort(rows.ids)
        kept = np.isin(truth_ids, rows.ids)
        other = (halved(truth[kept]) != rows.halves[order]).any(axis=1)
        stale: Ids = truth_ids[kept][other]
        return stale


def _ranked(found: Rows, row: Vectors, k: int, *, exact: bool) -> Candidates:
    """Score rows in float32; the order of a relaxed scan is not quite that of the scores."""
    best = nearest(found.ids, scores(row, found.halves)[0], k)
    return Candidates(best.ids, best.scores, exact=exact)
