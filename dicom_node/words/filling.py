"""Gives image vectors theirs in the text space: as they come, and all that are there already.

What is lacking is a query, so that it goes on wherever it was stopped. Works a share of the time,
in short transactions, beside intake.
"""

import time
from collections.abc import Callable

import numpy as np

from dicom_node.errors import WorkerStopped
from dicom_node.words.space import WordSearch, row_of
from index.catalogue import Catalogue
from index.changes import Bookmark
from index.vectors import Ids

_BATCH = 256  # vectors in one transaction
_SHARE = 0.5


class Filling:
    """Fills the text space that answers; `current` tells which, None where there is none."""

    def __init__(
        self,
        catalogue: Catalogue,
        current: Callable[[], WordSearch | None],
        *,
        sleep: Callable[[float], None] = time.sleep,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._catalogue = catalogue
        self._current = current
        self._sleep = sleep
        self._clock = clock
        self._begin(None)

    def _begin(self, space: WordSearch | None) -> None:
        self._space = space
        self._bookmark: Bookmark | None = None  # None: all image vectors are to be looked at
        self._lacking: Ids = np.empty(0, dtype=np.int64)

    def next(self) -> bool:
        """Fill some of what is lacking; False when nothing is."""
        space = self._current()
        if space is not self._space:
            self._begin(space)
        if space is None:
            return False
        if not len(self._lacking):
            self._look(space)
        if not len(self._lacking):
            return False
        started = self._clock()
        try:
            self._fill(space, self._lacking[:_BATCH])
        except WorkerStopped:  # the node is going down; it goes on at the next start
            return False
        self._lacking = self._lacking[_BATCH:]
        if len(self._lacking):
            self._sleep((self._clock() - started) * (1.0 / _SHARE - 1.0))
        return True

    def _look(self, space: WordSearch) -> None:
        """Find what is lacking by what changed since the last look."""
        row = row_of(space.words)
        if self._bookmark is None:
            self._catalogue.adopt_space(row)
            bookmark, ids = self._catalogue.bookmark(), None
        else:
            changed = self._catalogue.changes(self._bookmark)
            bookmark, ids = changed.bookmark, changed.ids
        self._lacking = self._catalogue.without_words(row, ids)
        self._bookmark = bookmark

    def _fill(self, space: WordSearch, ids: Ids) -> None:
        images = self._catalogue.image_vectors(ids)
        if not len(images.ids):
            return  # they went meanwhile
        vectors = space.words.images(images.vectors, images.modalities)
        row = row_of(space.words)
        saved, rows = self._catalogue.save_words(row, images.ids.tolist(), vectors)
        if len(saved):
            space.index.add(saved, vectors[rows])
