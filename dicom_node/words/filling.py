"""Gives image vectors theirs in the text space: as they come, and all that are there already.

What is lacking is a query, so that it goes on wherever it was stopped. Works a share of the time,
in short transactions, beside intake, in the order of the images. What no vector can be made of is
left out until it is made anew or the node starts again: the log says why, or `similis check` where
the image vector is not fit.
"""

import time
from collections.abc import Callable

import numpy as np
import structlog

from dicom_node.errors import WorkerFailed, WorkerStopped, WorkerUnavailable
from dicom_node.words.space import WordSearch, row_of
from index.catalogue import Catalogue
from index.changes import Bookmark
from index.errors import BadVector, UnknownSpace
from index.vectors import Ids

log = structlog.get_logger()

_BATCH = 256  # vectors in one transaction
_SHARE = 0.5
_PROCESSES = 20  # lost one after the other; one vector alone can end 9
_FIRST_WAIT_S, _LONGEST_WAIT_S = 5.0, 300.0  # while there is no text process


class Filling:
    """Fills the text space that answers; `current` tells which, None where there is none.

    Who `adopts` it lets it be the one in use; else it stays behind those that are.
    """

    def __init__(
        self,
        catalogue: Catalogue,
        current: Callable[[], WordSearch | None],
        *,
        adopts: bool = True,
        sleep: Callable[[float], None] = time.sleep,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._catalogue = catalogue
        self._current = current
        self._note = catalogue.adopt_space if adopts else catalogue.note_space
        self._sleep = sleep
        self._clock = clock
        self._processes_lost = 0
        self._wait_s = 0.0
        self._again_at = clock()
        self._begin(None)

    def _begin(self, space: WordSearch | None) -> None:
        self._space = space
        self._bookmark: Bookmark | None = None  # None: all image vectors are to be looked at
        self._lacking: Ids = np.empty(0, dtype=np.int64)
        self._suspected: list[int] = []  # that they are at fault; not the process, if it lives on
        if space is not None:
            space.left_out.clear()

    def next(self) -> bool:
        """Fill some of what is lacking; False when nothing is, or nothing can be done now."""
        space = self._current()
        if space is not self._space:
            self._begin(space)
            self._again_at = self._clock()
        if space is None or self._clock() < self._again_at:
            return False
        if not len(self._lacking):
            self._look(space)
        if not len(self._lacking):
            return False
        started = self._clock()
        self._processes_lost, self._suspected = 0, []
        try:
            # What was left out when this batch was begun before is not tried again.
            self._fill(space, np.setdiff1d(self._lacking[:_BATCH], list(space.left_out)))
        except WorkerStopped:  # by the node, or as another encoder answers now: it goes on
            return False
        except WorkerUnavailable as error:
            self._put_off(error)
            return False
        except UnknownSpace:  # it was dropped just now
            self._begin(space)
            return True
        self._give_up(space)
        self._wait_s = 0.0
        self._lacking = self._lacking[_BATCH:]
        if len(self._lacking):
            self._sleep((self._clock() - started) * (1.0 / _SHARE - 1.0))
        return True

    def _look(self, space: WordSearch) -> None:
        """Find what is lacking by what changed since the last look; all when it was dropped."""
        row = row_of(space.words)
        if self._bookmark is None or not self._catalogue.has_space(row):
            self._note(row)
            space.index.catch_up(self._catalogue)  # a database may have dropped its table
            bookmark, ids = self._catalogue.bookmark(), None
        else:
            changed = self._catalogue.changes(self._bookmark)
            bookmark, ids = changed.bookmark, changed.ids
        self._lacking = self._catalogue.without_words(row, ids)
        self._bookmark = bookmark

    def _fill(self, space: WordSearch, ids: Ids) -> None:
        """Make and keep vectors; of a batch that fails, by halves, all but those that fail."""
        images = self._catalogue.image_vectors(ids)
        if not len(images.ids):
            return  # they went meanwhile, or are not fit
        row = row_of(space.words)
        try:
            vectors = space.words.images(images.vectors, images.modalities)
            saved, rows = self._catalogue.save_words(row, images.ids.tolist(), vectors)
        except (WorkerFailed, BadVector) as error:
            if isinstance(error, WorkerFailed) and error.lost:
                self._processes_lost += 1
                if self._processes_lost > _PROCESSES:  # the vectors are not what ends them
                    raise WorkerUnavailable(error.reason) from error
            if len(ids) == 1:
                log.error("words_left_out", vector=int(ids[0]), reason=str(error))
                self._suspected.append(int(ids[0]))
                return
            for half in np.array_split(ids, 2):
                self._fill(space, half)
            return
        self._give_up(space)
        if len(saved):
            space.index.add(saved, vectors[rows])

    def _give_up(self, space: WordSearch) -> None:
        """Leave out for good what the process did not bear: with others it works."""
        space.left_out.update(self._suspected)
        self._processes_lost, self._suspected = 0, []

    def _put_off(self, error: WorkerUnavailable) -> None:
        """Wait ever longer: starting a process costs those who ask."""
        self._wait_s = min(max(2.0 * self._wait_s, _FIRST_WAIT_S), _LONGEST_WAIT_S)
        self._again_at = self._clock() + self._wait_s
        log.error("words_not_filled", reason=error.reason, again_in_s=self._wait_s)
