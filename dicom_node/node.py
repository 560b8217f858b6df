"""The node: started in order, driven by a few threads, stopped in reverse.

Threads: the two listeners (one more per association), one per embedding process, one for reports,
one that sends, one for the quiet timers, one that saves the vectors.
"""

import threading
import time
from collections.abc import Callable
from functools import partial

import structlog

from dicom_node.answer.find import FindService, query_listener
from dicom_node.config import Config
from dicom_node.listener import Listener
from dicom_node.parts import Parts, open_index, open_parts, open_pipeline
from dicom_node.receive.lifecycle import close_what_is_quiet
from dicom_node.receive.scp import storage_listener
from dicom_node.receive.worker import Model, Worker
from index.catalogue import Catalogue
from index.errors import CatalogueError, IndexNotSaved
from index.hnsw import HnswIndex
from index.search import Search

log = structlog.get_logger()

_LOOK_EVERY_S = 0.25
_SAVE_EVERY_S = 60.0
_AFTER_FAULT_S = 5.0
_STOP_WITHIN_S = 5.0


class Node:
    """A running node, from `start` to `stop`."""

    def __init__(self, config: Config) -> None:
        self.config = config
        self._stopping = threading.Event()
        self._news = threading.Condition()
        self._threads: list[threading.Thread] = []
        self._workers: list[Worker] = []
        self._listeners: list[Listener] = []
        self._parts: Parts | None = None
        self._index: HnswIndex | None = None

    @property
    def port(self) -> int:
        """The storage listener's port."""
        return self._listeners[0].port

    @property
    def query_port(self) -> int:
        """The query listener's port."""
        return self._listeners[1].port

    @property
    def catalogue(self) -> Catalogue:
        """The catalogue of the running node."""
        if self._parts is None:
            raise RuntimeError("the node has not been started")
        return self._parts.catalogue

    @property
    def model(self) -> Model:
        """The encoder that the workers run."""
        return self._workers[0].model

    def start(self) -> None:
        """Start everything; return when both listeners answer.

        Raises `DataFolderBusy`, `WorkerFailed` for a bad encoder, `ConfigError` for a bad folder
        or a port in use, `CatalogueError` for the database; then nothing is left running.
        """
        try:
            self._start()
        except BaseException:
            self.stop()
            raise

    def _start(self) -> None:
        parts = self._parts = open_parts(self.config)
        parts.folder.lock()
        parts.store.sweep()
        parts.jobs.release(parts.name)
        for _ in range(self.config.encoder.workers):
            self._workers.append(Worker(self.config.encoder))
        index = self._index = open_index(parts, self.model)
        log.info("vectors_opened", vectors=len(index), rebuilt=index.opened.rebuilt_because)
        search = Search(parts.catalogue, index)
        pipeline = open_pipeline(parts, self.model, index)
        for worker in self._workers:
            self._drive("embed", partial(pipeline.embed_next, worker))
        self._drive("report", pipeline.report_next)
        self._drive("send", pipeline.send_next)
        self._drive("timers", lambda: close_what_is_quiet(parts.catalogue))
        self._drive("save", lambda: save(index, parts.catalogue), every_s=_SAVE_EVERY_S)
        dicom = self.config.dicom
        service = FindService(parts.catalogue, search, self.config.answer, dicom.ae_title)
        self._listeners.append(storage_listener(dicom, parts.intake))
        self._listeners.append(query_listener(dicom, service))

    def stop(self) -> None:
        """Take nothing more in, leave what is under way to be repeated, save, and let go."""
        for listener in self._listeners:
            listener.stop()
        self._stopping.set()
        self._tell()
        for worker in self._workers:
            worker.interrupt()
        deadline = time.monotonic() + _STOP_WITHIN_S
        for thread in self._threads:
            # One that waits for a silent PACS is left behind: its job is claimed again.
            thread.join(max(0.0, deadline - time.monotonic()))
        for worker in self._workers:
            worker.stop()
        if self._parts is not None:
            if self._index is not None:
                save(self._index, self._parts.catalogue)
                self._index.close()
            self._parts.close()
            self._parts.folder.unlock()

    def _drive(
        self, name: str, step: Callable[[], bool], *, every_s: float = _LOOK_EVERY_S
    ) -> None:
        """Repeat `step` in a thread: at once while it finds work, else on news or after a while."""

        def run() -> None:
            while not self._stopping.is_set():
                try:
                    busy = step()
                except CatalogueError as error:
                    log.error("waiting_for_catalogue", thread=name, reason=str(error))
                    self._stopping.wait(_AFTER_FAULT_S)
                    continue
                if busy:
                    self._tell()
                    continue
                with self._news:
                    self._news.wait(every_s)

        thread = threading.Thread(target=run, name=f"similis-{name}", daemon=True)
        self._threads.append(thread)
        thread.start()

    def _tell(self) -> None:
        with self._news:
            self._news.notify_all()


def save(index: HnswIndex, catalogue: Catalogue) -> bool:
    """Drop what the catalogue has replaced and write the graph for the next start.

    A failure costs time then, no data.
    """
    index.catch_up(catalogue)
    try:
        index.save()
    except IndexNotSaved as error:
        log.error("vectors_not_saved", reason=str(error))
    return False
