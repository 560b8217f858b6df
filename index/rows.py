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
        # By id + 1; what is first and last belongs to no id, so that all unknown ones end there.
        self._rows = np.full(1024, -1, dtype=np.int32)

    def of(self, ids: Ids) -> Ids:
        """Return the rows of ids; -1 for unknown ones."""
        return self._rows.take(ids + 1, mode="clip").astype(np.int64)

    def __contains__(self, key: int) -> bool:
        return 0 <= key < len(self._rows) - 1 and bool(self._rows[key + 1] >= 0)

    def put(self, ids: Ids, rows: Ids) -> None:
        """Say in which rows ids are; -1 for nowhere."""
        if not len(ids):
            return
        needed = int(ids.max()) + 3
        if needed > len(self._rows):
            grown = np.full(max(needed, 2 * len(self._rows)), -1, dtype=np.int32)
            grown[: len(self._rows)] = self._rows
            self._rows = grown
        self._rows[ids + 1] = rows
