"""The node: started in order, driven by a few threads, stopped in reverse.

Threads: two DICOM listeners (two more per association), HTTP (and a pool for its requests), one per
embedding process, one for reports, one that sends, two for storage commitment, one for the quiet
timers, one that saves the vectors, one that forgets guests, one that catalogues what came while
the database was away, one that follows the catalogue to another generation of vectors, one that
fills the text space.
"""

from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any

import structlog

from dicom_node.answer.commitment import Promises
from dicom_node.answer.find import FindService
from dicom_node.answer.issue import Issuer
from dicom_node.answer.requestor import Requestor
from dicom_node.answer.retrieve import RetrieveService
from dicom_node.answer.scp import query_listener
from dicom_node.config import Config, Neighbours
from dicom_node.generation import Generation, start_workers
from dicom_node.listener import Listener
from dicom_node.loops import Loops
from dicom_node.operate.forget import Guests
from dicom_node.parts import Parts, open_issuer, open_parts
from dicom_node.pipeline import CommitStep, EmbedStep, ReportStep, SendStep, patience_of
from dicom_node.receive.child import Child
from dicom_node.receive.commitment import AnswerStep, Questions
from dicom_node.receive.lifecycle import close_what_is_quiet
from dicom_node.receive.scp import storage_listener
from dicom_node.receive.worker import Model, Worker
from dicom_node.runner import Runner, Step
from dicom_node.words.filling import Filling
from dicom_node.words.processes import TextProcesses
from index.catalogue import Catalogue
from index.errors import CatalogueError
from index.search import Search
from index.vectors import VectorIndex

if TYPE_CHECKING:
    from dicom_node.web.server import HttpServer

log = structlog.get_logger()

_SAVE_EVERY_S = 60.0
_FORGET_EVERY_S = 1.0
_FOLLOW_EVERY_S = 1.0
_STOP_WITHIN_S = 5.0


class Node:
    """A running node, from `start` to `stop`."""

    def __init__(self, config: Config) -> None:
        self.config = config
        self._loops = Loops()
        self._requestor = Requestor(config.dicom.ae_title, answer_s=config.answer.timeout_s)
        self._workers: list[Worker] = []
        self._texts: TextProcesses | None = None
        self._listeners: list[Listener] = []
        self._parts: Parts | None = None
        self._generation: Generation | None = None
        self._http: HttpServer | None = None

    @property
    def port(self) -> int:
        """The storage listener's port."""
        return self._listeners[0].port

    @property
    def query_port(self) -> int:
        """The query listener's port."""
        return self._listeners[1].port

    @property
    def http_port(self) -> int | None:
        """The HTTP listener's port; None where there is none."""
        return self._http.port if self._http is not None else None

    @property
    def catalogue(self) -> Catalogue:
        """The catalogue of the running node."""
        if self._parts is None:
            raise RuntimeError("the node has not been started")
        return self._parts.catalogue

    @property
    def model(self) -> Model:
        """The encoder whose vectors answer."""
        if self._generation is None:
            raise RuntimeError("the node has not been started")
        return self._generation.now().model

    def start(self) -> None:
        """Start everything; return when all listeners answer.

        Raises `DataFolderBusy`, `WorkerUnavailable` for a bad encoder, `ConfigError` for a bad
        folder or a port in use, `CatalogueError` for the database; then nothing is left running.
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
        self._workers = start_workers(parts, self.config.encoder.workers)
        self._texts = TextProcesses(parts.folder, self.config)
        generation = self._generation = Generation(parts, self._workers, self._texts)
        vectors = len(generation.now().index)
        log.info("vectors_opened", vectors=vectors, engine=self.config.engine.value)
        self._warn_of_lacking(parts.catalogue)
        issuer = open_issuer(parts, self._workers[0])
        self._drive(parts, generation, issuer)
        handlers = self._deliver(parts, issuer)
        self._listen(parts, generation, handlers)

    def _listen(self, parts: Parts, generation: Generation, handlers: tuple[Any, ...]) -> None:
        """Open the listeners."""
        config, dicom = self.config, self.config.dicom
        find = FindService(
            catalogue=parts.catalogue,
            current=generation.now,
            answer=config.answer,
            retrieve_ae_title=config.answer.retrieve_ae_title or dicom.qr_ae_title,
            text=config.text,
        )
        peers = [*config.destinations.values(), *config.peers.values()]
        retrieve = RetrieveService(
            catalogue=parts.catalogue,
            store=parts.store,
            reports=parts.folder.reports,
            peers={peer.ae_title: peer for peer in peers},
            linked={
                name: destination.ae_title
                for name, destination in config.destinations.items()
                if destination.neighbours is Neighbours.LINKED
            },
            decoder=self._workers[0],
        )
        self._listeners.append(storage_listener(dicom, config.storage, parts.intake, handlers))
        self._listeners.append(query_listener(config, find, retrieve, parts.intake))
        if config.http.enabled:
            self._http = self._open_http(parts, find, retrieve)

    def _open_http(
        self, parts: Parts, find: FindService, retrieve: RetrieveService
    ) -> "HttpServer":
        # Here, so that a command that only looks does not load a web framework.
        from dicom_node.web.server import HttpServer
        from dicom_node.web.service import WebService
        from dicom_node.web.upload import empty

        empty(parts.folder.uploads)
        config = self.config
        # Whoever asks over HTTP is told to ask again, and keeps no thread waiting.
        at_once = replace(find, answer=config.answer.model_copy(update={"wait_s": 0.0}))
        service = WebService(
            find=at_once,
            retrieve=retrieve,
            intake=parts.intake,
            worker=self._workers[0],
            uploads=parts.folder.uploads,
            maximum_upload_bytes=config.http.maximum_upload_mb << 20,
            maximum_object_bytes=config.storage.maximum_object_mb << 20,
            minimum_free_bytes=config.storage.minimum_free_mb << 20,
        )
        return HttpServer(config.http, service)

    def _drive(self, parts: Parts, generation: Generation, issuer: Issuer) -> None:
        """Start the threads that take a series from its files to a report."""
        config, catalogue = self.config, parts.catalogue
        runner = Runner(parts.jobs, parts.name)
        embeds: list[Step] = [
            EmbedStep(
                worker,
                catalogue=catalogue,
                store=parts.store,
                current=generation.now,
                timeout_s=config.encoder.timeout_s,
            )
            for worker in self._workers
        ]
        report = ReportStep(
            config, catalogue=catalogue, current=generation.now, issuer=issuer, jobs=parts.jobs
        )
        for step in (*embeds, report):
            self._loops.repeat(step.kind, partial(runner.next, step))
        self._loops.repeat("spool", parts.intake.make_up)
        self._loops.repeat("timers", partial(close_what_is_quiet, catalogue))
        filling = Filling(catalogue, lambda: generation.now().words)
        self._loops.repeat("words", filling.next)
        self._loops.every("save", _SAVE_EVERY_S, partial(tidy, generation, catalogue))
        self._loops.every("follow", _FOLLOW_EVERY_S, generation.follow)
        self._loops.every("guests", _FORGET_EVERY_S, Guests(parts).forget_due)

    def _deliver(self, parts: Parts, issuer: Issuer) -> tuple[Any, ...]:
        """Start the threads that send and commit; return handlers for the storage listener."""
        config, catalogue, requestor = self.config, parts.catalogue, self._requestor
        promises, questions = Promises(catalogue, patience_of(config.answer)), Questions(catalogue)
        runner = Runner(parts.jobs, parts.name)
        steps: list[Step] = [
            SendStep(
                config, catalogue=catalogue, issuer=issuer, requestor=requestor, jobs=parts.jobs
            ),
            CommitStep(
                config, catalogue=catalogue, issuer=issuer, requestor=requestor, promises=promises
            ),
            AnswerStep(config, catalogue, parts.store, issuer, requestor, questions),
        ]
        for step in steps:
            self._loops.repeat(step.kind, partial(runner.next, step))
        return promises.handler, *questions.handlers

    def _warn_of_lacking(self, catalogue: Catalogue) -> None:
        lacking = len(catalogue.series_lacking(self.model.model_id))
        if lacking:
            log.warning(
                "series_without_vectors",
                series=lacking,
                advice="of the encoder that answers: `similis check --repair` has them embedded",
            )

    def stop(self) -> None:
        """Take nothing more in, leave what is under way to be repeated, save, and let go."""
        for listener in self._listeners:
            listener.stop()
        if self._http is not None:
            self._http.stop()
        self._loops.stop()
        self._requestor.interrupt()
        children: list[Child | TextProcesses] = [*self._workers]
        if self._texts is not None:
            children.append(self._texts)
        for child in children:
            child.interrupt()
        for index, _ in self._searches():
            index.interrupt()
        self._loops.join(_STOP_WITHIN_S)
        for child in children:
            child.stop()
        if self._parts is not None:
            for index, _ in self._searches():  # anew: the threads may have changed over
                index.interrupt()
                save(index)
                index.close()
            self._parts.close()
            self._parts.folder.unlock()

    def _searches(self) -> tuple[tuple[VectorIndex, Search], ...]:
        return () if self._generation is None else self._generation.now().searches


def tidy(generation: Generation, catalogue: Catalogue) -> None:
    """Follow the catalogue, drop what it has replaced, then save."""
    for index, search in generation.now().searches:
        search.follow()
        index.catch_up(catalogue)
        index.compact()
        save(index)
    catalogue.prune_changes()


def save(index: VectorIndex) -> None:
    """Write the graph for the next start; a failure costs time then, no data."""
    try:
        index.save()
    except CatalogueError as error:
        log.error("vectors_not_saved", reason=str(error))
