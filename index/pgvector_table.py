"""The table of a model's vectors in PostgreSQL, and the HNSW graph over it.

Owns their making and unmaking, by whichever node comes first. Knows no query.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from sqlalchemy import Connection, Dialect, text
from sqlalchemy.exc import DBAPIError

from index.config import IndexConfig
from index.db import POSTGRESQL, hold
from index.errors import DatabaseUnavailable, ExtensionMissing
from index.vectors import Effort, Ids

if TYPE_CHECKING:
    from index.catalogue import Catalogue

_COUNTED_ALWAYS = 1_000  # rows that are counted in no time
_COUNT_HOLDS_S = 1.0  # a count reads the whole table
_EXTENSION = text("CREATE EXTENSION IF NOT EXISTS vector")
_FOUND = text("SELECT extversion FROM pg_extension WHERE extname = 'vector'")
_COLUMN = text(
    "SELECT format_type(atttypid, atttypmod) FROM pg_attribute"
    " WHERE attrelid = to_regclass(:name) AND attname = 'vector'"
)
_OWN_GRAPH = text("SELECT 1 FROM pg_class WHERE oid = to_regclass(:name) AND relkind = 'i'")
_GRAPH = text("SELECT indisvalid FROM pg_index WHERE indexrelid = to_regclass(:name)")
_DEAD = text("SELECT n_dead_tup FROM pg_stat_user_tables WHERE relid = to_regclass(:name)")
_NOTE = text("SELECT obj_description(to_regclass(:name))")
_TRY_ALONE = text("SELECT pg_try_advisory_lock(hashtext(:name))")
_MINIMUM_VERSION = (0, 8)  # iterative scans
_LINK_BYTES = 40  # memory of a row's links in the graph, for each of m
_LEAST_MEMORY_KB = 64 << 10  # PostgreSQL's default
_MOST_MEMORY_KB = 4 << 20


@dataclass(frozen=True, slots=True)
class Efforts:
    """The ef that each effort needs, measured over so many vectors."""

    vectors: int
    ef: Mapping[Effort, int]


def drop_table(connection: Connection, model_id: str) -> None:
    """Drop the table of a model where the database has one."""
    if connection.dialect.name == POSTGRESQL:
        name = _name(connection.dialect, model_id)
        hold(connection, name)
        connection.execute(text(f"DROP TABLE IF EXISTS {name}"))


def _name(dialect: Dialect, of: str) -> str:
    return dialect.identifier_preparer.quote_identifier(f"vector_{of}")


class GraphTable:
    """The table `name` and its graph; safe for many threads and processes."""

    def __init__(self, catalogue: Catalogue, model_id: str, dim: int, config: IndexConfig) -> None:
        self.name = _name(catalogue.engine.dialect, model_id)
        self._graph = _name(catalogue.engine.dialect, f"{model_id}_hnsw")
        self._catalogue = catalogue
        self._model_id = model_id
        self._dim = dim
        self._config = config
        self._count = 0
        self._counted_at = -_COUNT_HOLDS_S

    def create(self) -> bool:
        """Make the table unless it is there as it should be; tell whether it was made.

        Raises ExtensionMissing.
        """
        with self._catalogue.writing() as connection:
            hold(connection, self.name)
            check_extension(connection)
            column = connection.execute(_COLUMN, {"name": self.name}).scalar_one_or_none()
            if column == f"halfvec({self._dim})":
                return False
            connection.execute(text(f"DROP TABLE IF EXISTS {self.name}"))
            connection.execute(
                text(
                    f"CREATE TABLE {self.name} ("
                    "id bigint PRIMARY KEY REFERENCES embedding (id) ON DELETE CASCADE,"
                    f" vector halfvec({self._dim}) NOT NULL)"
                )
            )
            # Never compressed nor moved elsewhere: every query reads it.
            plain = f"ALTER TABLE {self.name} ALTER COLUMN vector SET STORAGE PLAIN"
            connection.execute(text(plain))
            return True

    def build_graph(self) -> None:
        """Build the graph if it is missing or was not finished, unless another node is at it."""
        config = self._config
        with self._alone() as connection:
            if connection is None or self._is_valid(connection):
                return
            connection.execute(text(f"DROP INDEX CONCURRENTLY IF EXISTS {self._graph}"))
            self._give_memory(connection)
            connection.execute(
                text(
                    f"CREATE INDEX CONCURRENTLY {self._graph} ON {self.name}"
                    " USING hnsw (vector halfvec_ip_ops)"
                    f" WITH (m = {config.m}, ef_construction = {config.ef_construction})"
                )
            )
            connection.execute(text(f"ANALYZE {self.name}"))

    def rebuild_graph(self) -> None:
        """Build the graph anew; the old one serves until then."""
        with self._alone() as connection:
            if connection is not None:
                self._give_memory(connection)
                connection.execute(text(f"REINDEX INDEX CONCURRENTLY {self._graph}"))

    def drop_graph(self) -> None:
        """Make every query compare all rows, so that many can be added fast; shards keep theirs."""
        with self._catalogue.writing() as connection:
            if connection.execute(_OWN_GRAPH, {"name": self._graph}).first() is not None:
                connection.execute(text(f"DROP INDEX {self._graph}"))

    def vacuum(self) -> None:
        """Clear what deleted rows left in the table, and mend the graph."""
        with self._autocommit() as connection:
            connection.execute(text(f"VACUUM {self.name}"))

    def count(self, connection: Connection) -> int:
        """Return the number of rows; of many, as it was a second ago at most."""
        now = time.monotonic()
        if self._count <= _COUNTED_ALWAYS or now - self._counted_at > _COUNT_HOLDS_S:
            counted = text(f"SELECT count(*) FROM {self.name}")
            self._count, self._counted_at = connection.execute(counted).scalar_one(), now
        return self._count

    def missing(self, connection: Connection) -> Ids:
        """Return the ids of the model's vectors that are not in the table, ascending."""
        lacking = text(
            f"SELECT id FROM embedding WHERE model_id = :model AND NOT EXISTS"
            f" (SELECT 1 FROM {self.name} AS kept WHERE kept.id = embedding.id) ORDER BY id"
        )
        rows = connection.execute(lacking, {"model": self._model_id})
        return np.fromiter(rows.scalars(), dtype=np.int64)

    def some(self, connection: Connection, seed: float, count: int) -> Ids:
        """Return some ids at random, the same for the same seed and rows."""
        connection.execute(text("SELECT setseed(:seed)"), {"seed": seed})
        chosen = text(f"SELECT id FROM {self.name} ORDER BY random() LIMIT :count")
        return np.fromiter(connection.execute(chosen, {"count": count}).scalars(), dtype=np.int64)

    def efforts(self, connection: Connection) -> Efforts | None:
        """Return what was measured last, by whichever node."""
        note = connection.execute(_NOTE, {"name": self.name}).scalar_one_or_none()
        if note is None:
            return None
        read: dict[str, int] = json.loads(note)
        return Efforts(read.pop("vectors"), {Effort(name): ef for name, ef in read.items()})

    def keep_efforts(self, efforts: Efforts) -> None:
        """Keep what was measured with the table, for all nodes."""
        note = json.dumps({"vectors": efforts.vectors, **efforts.ef})
        with self._catalogue.writing() as connection:
            # The name and the numbers are our own; a comment takes no parameters.
            connection.exec_driver_sql(f"COMMENT ON TABLE {self.name} IS '{note}'")

    def dead(self, connection: Connection) -> int:
        """Return how many deleted rows PostgreSQL believes to be in the table."""
        return connection.execute(_DEAD, {"name": self.name}).scalar_one_or_none() or 0

    def health(self) -> str:
        """Return what is wrong in one line; "" when all is well."""
        try:
            with self._catalogue.reading() as connection:
                if self._is_valid(connection):
                    return ""
        except DatabaseUnavailable as error:
            return str(error)
        return "The graph is being built: answers are exact, and slow."

    def _is_valid(self, connection: Connection) -> bool:
        found = connection.execute(_GRAPH, {"name": self._graph}).scalar_one_or_none()
        return found is True

    def _give_memory(self, connection: Connection) -> None:
        """Let the graph be built in memory: beyond that it takes many times as long."""
        rows = connection.execute(text(f"SELECT count(*) FROM {self.name}")).scalar_one()
        needed_kb = rows * (2 * self._dim + _LINK_BYTES * self._config.m) // 1024
        wanted = min(max(needed_kb, _LEAST_MEMORY_KB), _MOST_MEMORY_KB)
        connection.execute(
            text("SELECT set_config('maintenance_work_mem', :kb, false)"), {"kb": f"{wanted}kB"}
        )

    @contextmanager
    def _autocommit(self) -> Iterator[Connection]:
        """Open a connection for what cannot be part of a transaction; it is not used again."""
        with self._catalogue.outside_transactions() as connection:
            try:
                yield connection
            finally:
                connection.invalidate()  # its settings and its lock go with it

    @contextmanager
    def _alone(self) -> Iterator[Connection | None]:
        """Open such a connection, None while another node has one."""
        with self._autocommit() as connection:
            name = {"name": self._graph}
            if not connection.execute(_TRY_ALONE, name).scalar_one():
                yield None
                return
            yield connection


def check_extension(connection: Connection) -> None:
    """Make pgvector ready in a database; raises ExtensionMissing where it cannot be had."""
    try:
        if connection.execute(_FOUND).first() is None:
            connection.execute(_EXTENSION)
    except DBAPIError as error:
        raise ExtensionMissing(str(error.orig).partition("\n")[0]) from error
    version: str = connection.execute(_FOUND).scalar_one()
    if tuple(map(int, version.split(".")[:2])) < _MINIMUM_VERSION:
        raise ExtensionMissing(f"its version is {version}, and must be 0.8 or newer")
