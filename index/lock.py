"""A lock that many readers share and a writer has alone.

hnswlib may not be asked while it is added to; a plain lock would also keep readers apart.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from threading import Condition, Lock


class ReadWriteLock:
    """Readers together or one writer; waiting writers go first. Not re-entrant."""

    def __init__(self) -> None:
        self._mutex = Lock()
        self._changed = Condition(self._mutex)
        self._readers = 0
        self._writing = False
        self._waiting_writers = 0
        self._shared = _Shared(self)

    def reading(self) -> AbstractContextManager[None]:
        """Hold the lock together with other readers."""
        return self._shared

    def begin_reading(self) -> None:
        """Come in as a reader; `end_reading` must follow."""
        with self._mutex:
            # A stream of readers would otherwise keep a writer out for ever.
            while self._writing or self._waiting_writers:
                self._changed.wait()
            self._readers += 1

    def end_reading(self) -> None:
        """Leave as a reader."""
        with self._mutex:
            self._readers -= 1
            if self._waiting_writers:
                self._changed.notify_all()

    @contextmanager
    def writing(self) -> Iterator[None]:
        """Hold the lock alone."""
        with self._changed:
            self._waiting_writers += 1
            try:
                self._changed.wait_for(lambda: not self._writing and not self._readers)
                self._writing = True
            finally:
                self._waiting_writers -= 1
        try:
            yield
        finally:
            with self._changed:
                self._writing = False
                self._changed.notify_all()


class _Shared(AbstractContextManager[None]):
    """A lock held by a reader: the same object for all, and faster than a generator."""

    def __init__(self, lock: ReadWriteLock) -> None:
        self._lock = lock

    def __enter__(self) -> None:
        self._lock.begin_reading()

    def __exit__(self, *_: object) -> None:
        self._lock.end_reading()
