"""Threads that repeat a step until they are told to stop, whatever the step does."""

import threading
import time
from collections.abc import Callable

import structlog

from dicom_node.log import fault_of
from index.errors import DatabaseUnavailable

log = structlog.get_logger()

_LOOK_EVERY_S = 0.25
_AFTER_FAULT_S = 5.0


class Loops:
    """Repeats steps, each in a thread; work that one finds is news to all.

    A thread outlives any error of its step: the node would otherwise acknowledge what nobody
    embeds any more.
    """

    def __init__(self) -> None:
        self._stopping = threading.Event()
        self._news = threading.Condition()
        self._threads: list[threading.Thread] = []

    def repeat(self, name: str, step: Callable[[], bool]) -> None:
        """Repeat `step` at once while it says that it found work, else on news or after a while."""

        def run() -> None:
            while not self._stopping.is_set():
                found = self._guarded(name, step)
                with self._news:
                    if found:
                        self._news.notify_all()
                    elif not self._stopping.is_set():
                        self._news.wait(_LOOK_EVERY_S)

        self._start(name, run)

    def every(self, name: str, seconds: float, step: Callable[[], object]) -> None:
        """Repeat `step` every so many seconds, news or not."""

        def run() -> None:
            while not self._stopping.wait(seconds):
                self._guarded(name, lambda: bool(step()))

        self._start(name, run)

    def stop(self) -> None:
        """Ask the threads to end; a step under way is not cut short."""
        self._stopping.set()
        with self._news:
            self._news.notify_all()

    def join(self, timeout_s: float) -> None:
        """Wait for the threads, together no longer than `timeout_s`."""
        deadline = time.monotonic() + timeout_s
        for thread in self._threads:
            thread.join(max(0.0, deadline - time.monotonic()))

    def _guarded(self, name: str, step: Callable[[], bool]) -> bool:
        try:
            return step()
        except DatabaseUnavailable as error:
            log.error("waiting_for_database", thread=name, reason=str(error))
        except Exception as error:
            log.error("thread_fault", thread=name, fault=fault_of(error))
        self._stopping.wait(_AFTER_FAULT_S)
        return False

    def _start(self, name: str, run: Callable[[], None]) -> None:
        thread = threading.Thread(target=run, name=f"similis-{name}", daemon=True)
        self._threads.append(thread)
        thread.start()
