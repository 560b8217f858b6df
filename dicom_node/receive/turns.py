"""Whose turn it is at a worker: the node's own work goes before what is asked from outside.

So that any number of slow pictures delays an embedding or a report by one picture at most.
"""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from dicom_node.errors import WorkerBusy

MAXIMUM_CALLERS = 8  # waiting at once; each holds a thread


@dataclass(frozen=True, slots=True)
class Caller:
    """Who asks from outside: how long it waits for its turn, and how long the turn may last."""

    wait_s: float
    limit_s: float


class Turns:
    """Lets one thread at a time have the worker."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._is_taken = False
        self.waiting_own = 0
        self.waiting_callers = 0

    @contextmanager
    def own(self) -> Iterator[None]:
        """Wait for the turn, however long it takes, and have it."""
        with self._changed:
            self.waiting_own += 1
            try:
                self._changed.wait_for(lambda: not self._is_taken)
            finally:
                self.waiting_own -= 1
            self._is_taken = True
        with self._given_back():
            yield

    @contextmanager
    def caller(self, wait_s: float) -> Iterator[None]:
        """Wait until nobody else wants the turn, and have it; raises `WorkerBusy`."""
        with self._changed:
            if self.waiting_callers >= MAXIMUM_CALLERS:
                raise WorkerBusy
            self.waiting_callers += 1
            try:
                if not self._changed.wait_for(self._is_free_for_callers, wait_s):
                    raise WorkerBusy
            finally:
                self.waiting_callers -= 1
            self._is_taken = True
        with self._given_back():
            yield

    def _is_free_for_callers(self) -> bool:
        return not self._is_taken and not self.waiting_own

    @contextmanager
    def _given_back(self) -> Iterator[None]:
        try:
            yield
        finally:
            with self._changed:
                self._is_taken = False
                self._changed.notify_all()
