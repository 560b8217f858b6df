"""Which row of a matrix or column belongs to which embedding id.

Ids are keys that a table counts up from 1, so one array serves for all of them: 4 bytes for each
id ever given, and one gather to look any number up. A dict costs 25 times as much.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Ids = NDArray[np.int64]


class Rows:
    """Embedding id → row."""

    def __init__(self) -> None:
        self._next = np.zeros(1024, dtype=np.int32)  # by id: row + 1, 0 where there is none

    def of(self, ids: Ids) -> Ids:
        """Return the rows of ids; -1 for unknown ones."""
        inside = (ids >= 0) & (ids < len(self._next))
        if inside.all():
            return self._next[ids].astype(np.int64) - 1
        rows = np.full(len(ids), -1, dtype=np.int64)
        rows[inside] = self._next[ids[inside]].astype(np.int64) - 1
        return rows

    def put(self, ids: Ids, rows: Ids) -> None:
        """Say in which rows ids are; -1 for nowhere."""
        if not len(ids):
            return
        needed = int(ids.max()) + 1
        if needed > len(self._next):
            grown = np.zeros(max(needed, 2 * len(self._next)), dtype=np.int32)
            grown[: len(self._next)] = self._next
            self._next = grown
        self._next[ids] = rows + 1
