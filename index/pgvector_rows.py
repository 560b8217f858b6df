"""Vectors on their way into PostgreSQL and out again, in its binary format."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from sqlalchemy import Connection, text

from index.half import Halves

if TYPE_CHECKING:
    from index.vectors import Ids

# https://www.postgresql.org/docs/current/sql-copy.html, "Binary Format": signature, flags, no
# extension; at the end a row of -1 fields.
_COPY_HEADER = b"PGCOPY\n\xff\r\n\0" + bytes(8)
_COPY_TRAILER = b"\xff\xff"
_HALFVEC_HEADER_BYTES = 4  # dimensions and a zero, uint16 each (pgvector, src/halfvec.c)
_STAGING = text(
    "CREATE TEMPORARY TABLE IF NOT EXISTS incoming_vectors (id bigint, vector halfvec)"
    " ON COMMIT DELETE ROWS"
)


@dataclass(frozen=True, slots=True, eq=False)
class Rows:
    """Ids (N,) and their vectors (N, D) as they are kept."""

    ids: Ids
    halves: Halves


def copy_in(connection: Connection, table: str, ids: Ids, halves: Halves) -> None:
    """Add vectors to a table, but not ids that it has or that are no embeddings (any more).

    The embeddings stay until the transaction ends: shards know no foreign key that sees to it.
    """
    connection.execute(_STAGING)
    with _cursor(connection).copy(
        "COPY incoming_vectors (id, vector) FROM STDIN (FORMAT BINARY)"
    ) as copy:
        copy.write(_COPY_HEADER + _copy_rows(ids, halves) + _COPY_TRAILER)
    connection.execute(
        text(
            f"INSERT INTO {table} (id, vector) SELECT id, incoming.vector"
            " FROM incoming_vectors AS incoming JOIN embedding USING (id)"
            " FOR KEY SHARE OF embedding ON CONFLICT DO NOTHING"
        )
    )


def fetch(connection: Connection, statement: str, values: Sequence[Any], dim: int) -> Rows:
    """Return the rows of a statement that selects id and vector."""
    cursor = _cursor(connection)
    cursor.execute(statement, values)
    found = cursor.fetchall()
    kind = np.dtype([("header", "V4"), ("halves", ">f2", (dim,))])
    stored = np.frombuffer(b"".join(vector for _, vector in found), dtype=kind)
    ids = np.fromiter((key for key, _ in found), dtype=np.int64, count=len(found))
    return Rows(ids, stored["halves"].astype(np.float16))


def halfvec_text(halves: Halves) -> str:
    """Return a vector (D,) as pgvector reads it."""
    return f"[{','.join(map(str, halves.tolist()))}]"


def _copy_rows(ids: Ids, halves: Halves) -> bytes:
    count, dim = halves.shape
    length = _HALFVEC_HEADER_BYTES + 2 * dim
    row = np.dtype(
        [("fields", ">i2"), ("id_bytes", ">i4"), ("id", ">i8"), ("vector_bytes", ">i4"),
         ("dim", ">u2"), ("zero", ">u2"), ("halves", ">f2", (dim,))]
    )  # fmt: skip
    rows = np.zeros(count, dtype=row)
    rows["fields"], rows["id_bytes"], rows["vector_bytes"], rows["dim"] = 2, 8, length, dim
    rows["id"], rows["halves"] = ids, halves
    return rows.tobytes()


def _cursor(connection: Connection) -> Any:
    """Return a cursor of psycopg that speaks the binary format, in this transaction."""
    return connection.connection.driver_connection.cursor(binary=True)  # type: ignore[union-attr]  # open
