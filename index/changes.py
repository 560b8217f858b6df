"""Which vectors changed since a reader last looked: added, removed, or other values to filter by.

Triggers (migration 0002) note the ids; what became of them is read from the rows themselves, so an
id that is read twice does no harm, and that is how none is ever missed. On SQLite changes commit in
order of their numbers. On PostgreSQL they do not: there a reader stands at the oldest transaction
that was still running when it read, and reads again what came after, but for what it has seen. A
lock that keeps writers in order would be taken after the rows of a study and so could deadlock.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from sqlalchemy import (
    ColumnElement,
    Connection,
    bindparam,
    delete,
    func,
    literal_column,
    select,
)

from index.db import Database
from index.embeddings import chunks
from index.models import Embedding
from index.vector_models import Change
from index.vectors import Ids

_KEPT = 200_000  # changes; a reader further behind compares everything
_XMIN = "pg_snapshot_xmin(pg_current_snapshot())::text::bigint"


# By dialect, what changes are read by: their number, or the transaction that made them.
_ORDER = {"sqlite": Change.id, "postgresql": Change.transaction_id}
# How many there are from `position` on; made once: a statement costs more to make than to run.
UNREAD = {
    dialect: select(func.count())
    .select_from(Change)
    .where(order >= bindparam("position"))
    .scalar_subquery()
    .label("unread")
    for dialect, order in _ORDER.items()
}


@dataclass(frozen=True, slots=True)
class Bookmark:
    """How far a reader has come: all before `position`, and of the rest the numbers in `seen`."""

    position: int
    seen: dict[int, int] = field(default_factory=dict)  # number → where it stands


@dataclass(frozen=True, slots=True, eq=False)
class Changed:
    """Ids (N,) of vectors that may have changed, each once; None: any may have."""

    ids: Ids | None
    bookmark: Bookmark
    more: bool = False  # the limit was reached


class Changes(Database):
    """The part of the catalogue that tells what changed."""

    def bookmark(self) -> Bookmark:
        """Return where a reader stands who reads all rows from now on."""
        with self.reading() as connection:
            return self._now(connection)

    def changes(self, since: Bookmark, *, limit: int = _KEPT) -> Changed:
        """Return what changed since a bookmark, and the next one; at most about `limit` changes."""
        at = self._order
        with self.reading() as connection:
            oldest = connection.execute(select(func.min(at))).scalar_one()
            if oldest is not None and oldest > since.position:  # what lay between was dropped
                return Changed(None, self._now(connection))
            asked = limit + len(since.seen)
            rows = connection.execute(
                select(Change.id, Change.embedding_id, at.label("at"), self._horizon.label("end"))
                .where(at >= since.position)
                .order_by(at, Change.id)
                .limit(asked)
            ).all()
        if not rows:
            return Changed(np.empty(0, np.int64), since)
        more = len(rows) == asked
        end = rows[-1].at if more else max(since.position, rows[-1].at + 1)
        position = min(end, max(rows[-1].end, since.position))
        ids = {row.embedding_id for row in rows if row.id not in since.seen}
        seen = {row.id: row.at for row in rows if row.at >= position}
        return Changed(np.array(sorted(ids), np.int64), Bookmark(position, seen), more)

    def prune_changes(self, keep: int = _KEPT) -> int:
        """Drop all but the newest changes, so that the table stays bounded; count the dropped."""
        at = self._order
        with self.writing() as connection:
            last = select(at).order_by(at.desc()).offset(keep - 1).limit(1)
            newest = connection.execute(last).scalar_one_or_none()
            if newest is None:
                return 0
            end = min(newest, self._now(connection).position)
            return connection.execute(delete(Change).where(at < end)).rowcount

    def surviving(self, ids: Ids, model_id: str) -> Ids:
        """Return those of `ids` that are vectors by this model, ascending."""
        found: list[int] = []
        with self.reading() as connection:
            of_model = select(Embedding.id).where(Embedding.model_id == model_id)
            for part in chunks(ids.tolist()):
                found += connection.execute(of_model.where(Embedding.id.in_(part))).scalars()
        return np.sort(np.array(found, dtype=np.int64))

    def _now(self, connection: Connection) -> Bookmark:
        if self._on_sqlite:
            highest = connection.execute(select(func.coalesce(func.max(Change.id), 0))).scalar_one()
            return Bookmark(highest + 1)
        return Bookmark(connection.execute(select(self._horizon)).scalar_one())

    @property
    def _on_sqlite(self) -> bool:
        return self.engine.dialect.name == "sqlite"

    @property
    def _order(self) -> Any:
        return _ORDER[self.engine.dialect.name]

    @property
    def _horizon(self) -> ColumnElement[int]:
        """Before this, nothing more can appear."""
        return literal_column(str(2**62) if self._on_sqlite else _XMIN)
