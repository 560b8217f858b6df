"""A catalogue moved into another, empty database: every table, verified at the end.

Works between SQLite and PostgreSQL either way. The source is only read; the target gets all or
nothing. Vectors travel as the rows they are: the engine of the target builds its graph from them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from hashlib import blake2b
from typing import Any

from sqlalchemy import Connection, Row, Table, func, insert, select, text

from index.db import Database
from index.errors import TargetNotEmpty, TransferDiffers
from index.tables import METADATA

_BATCH = 1_000
# Its numbers order the transactions of one database: followers of another begin anew.
_LEFT_BEHIND = frozenset({"change"})
_ALL = 1 << 128
_LAST_KEY = {
    "sqlite": "SELECT coalesce((SELECT seq FROM sqlite_sequence WHERE name = '{table}'), 0)",
    "postgresql": "SELECT coalesce(pg_sequence_last_value(pg_get_serial_sequence('{table}', 'id')"
    "::regclass), 0)",
}
_SET_LAST_KEY = {
    "sqlite": (
        "DELETE FROM sqlite_sequence WHERE name = '{table}'",
        "INSERT INTO sqlite_sequence (name, seq) VALUES ('{table}', {key})",
    ),
    "postgresql": ("SELECT setval(pg_get_serial_sequence('{table}', 'id'), {key})",),
}


@dataclass(frozen=True, slots=True)
class Contents:
    """What a table holds: its rows, and a digest of them in any order."""

    rows: int
    digest: str


def transfer(
    source: Database, target: Database, advance: Callable[[str, int], None]
) -> dict[str, Contents]:
    """Copy all tables into an empty, migrated catalogue; return what each of them holds.

    `advance(table, rows)` is told of every batch. Nobody can write to a source in SQLite meanwhile.
    Raises TargetNotEmpty, TransferDiffers; then nothing was kept.
    """
    with source.writing() as reading, target.writing() as writing:
        tables = [table for table in METADATA.sorted_tables if table.name not in _LEFT_BEHIND]
        for table in tables:
            if writing.execute(select(table).limit(1)).first() is not None:
                raise TargetNotEmpty(target.engine.url.render_as_string(), table.name)
        moved: dict[str, Contents] = {}
        for table in tables:
            moved[table.name] = _contents(_copied(reading, writing, table, advance))
            arrived = _contents(_rows(writing, table))
            if arrived != moved[table.name]:
                raise TransferDiffers(table.name, moved[table.name].rows, arrived.rows)
            _keep_counting(reading, writing, table)
        return moved


def row_count(source: Database) -> int:
    """Return how many rows there are to copy."""
    with source.reading() as connection:
        return sum(
            connection.execute(select(func.count()).select_from(table)).scalar_one()
            for table in METADATA.sorted_tables
            if table.name not in _LEFT_BEHIND
        )


def _copied(
    reading: Connection, writing: Connection, table: Table, advance: Callable[[str, int], None]
) -> Iterator[Row[Any]]:
    """Copy a table batch by batch; yield its rows."""
    result = reading.execute(select(table).execution_options(yield_per=_BATCH))
    for rows in result.partitions():
        writing.execute(insert(table), [dict(row._mapping) for row in rows])
        advance(table.name, len(rows))
        yield from rows


def _rows(connection: Connection, table: Table) -> Iterator[Row[Any]]:
    yield from connection.execute(select(table).execution_options(yield_per=_BATCH))


def _contents(rows: Iterator[Row[Any]]) -> Contents:
    count, total = 0, 0
    for row in rows:
        written = repr(tuple(row)).encode("utf-8", "surrogatepass")
        digest = blake2b(written, digest_size=16).digest()
        count, total = count + 1, (total + int.from_bytes(digest, "big")) % _ALL
    return Contents(count, f"{total:032x}")


def _keep_counting(reading: Connection, writing: Connection, table: Table) -> None:
    """Let new keys follow the highest that was ever given: jobs and indexes may still hold it."""
    key = table.autoincrement_column
    if key is None:
        return
    last_key = _LAST_KEY[reading.dialect.name].format(table=table.name)
    last = reading.execute(text(last_key.replace("::", r"\:\:"))).scalar_one()
    highest = select(func.coalesce(func.max(key), 0))
    last = max(last, reading.execute(highest).scalar_one())
    if last:
        for statement in _SET_LAST_KEY[writing.dialect.name]:
            writing.execute(text(statement.format(table=table.name, key=last)))
