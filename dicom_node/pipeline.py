"""The route of a series from its files to a report in the PACS, top to bottom.

    EmbedStep     files → clips → vectors (in a worker) → searchable      steps 6 to 11
    ReportStep    vectors → similar cases → Structured Report             steps 12 and 13
    SendStep      report → PACS                                           step 14
    CommitStep    does the PACS keep it?                                  step 14

Each step is done as jobs with a lease (step 5, `runner`). Every one can be repeated: a process
killed between any two leaves a job that is claimed again, and a job done twice gives the same rows.
"""

from collections.abc import Callable, Mapping
from functools import cache, partial

import numpy as np
import structlog

from dicom_node.answer.commitment import Promises, ask, question
from dicom_node.answer.issue import Issuer
from dicom_node.answer.query import Answered, Filters, similar_in_scope
from dicom_node.answer.requestor import Requestor
from dicom_node.answer.send import reference_of, send
from dicom_node.config import Answer, Config, Destination, Neighbours, Scope
from dicom_node.errors import CommitmentPending, NotOffered, SendFailed
from dicom_node.generation import Current
from dicom_node.parts import algorithm
from dicom_node.receive.clips import Embedded
from dicom_node.receive.store import Store
from dicom_node.receive.worker import Worker
from dicom_node.runner import Patience
from index.catalogue import Catalogue
from index.errors import OtherGeneration
from index.jobs import Job, JobKind, Jobs
from index.records import SeriesFiles
from index.report_records import ReportState
from index.search import Search
from index.states import State

log = structlog.get_logger()

_LEASE_S = 120.0
_NOTHING_LEFT = "rejected, or moved to another series"
# Whose sending is asked for again, by the node itself and by who asks about the study.
_OWED = frozenset({ReportState.FAILED})
_OWED_TO_INQUIRY = _OWED | {ReportState.SENT, ReportState.COMMITTED}


def _unheard(state: State, reason: str) -> None:
    """Hear what became of a series, and say nothing."""


class EmbedStep:
    """Embeds one quiet series and makes it searchable; one instance per worker.

    `settled` is told what state a series reached and, where it was put aside, why.
    """

    kind = JobKind.EMBED
    # A series that kills its worker twice is the cause: the node must go on without it.
    patience = Patience(attempts=2, first_s=1.0, longest_s=1.0)

    def __init__(
        self,
        worker: Worker,
        *,
        catalogue: Catalogue,
        store: Store,
        current: Current,
        timeout_s: float,
        settled: Callable[[State, str], None] = _unheard,
    ) -> None:
        self._worker = worker
        self._catalogue = catalogue
        self._store = store
        self._current = current
        self._settled = settled
        self._series: SeriesFiles | None = None
        # Beside the limit: a worker that was lost is started first.
        self.lease_s = timeout_s + 2 * _LEASE_S

    def run(self, job: Job) -> None:
        """Assemble, read, normalise and embed in the worker; keep and index what comes back.

        Raises OtherGeneration where the worker's model is not, or no longer, the one that answers.
        """
        self._series = None  # else a job that fails here would be given up for the one before
        answering = self._current().model.model_id
        if self._worker.model.model_id != answering:
            raise OtherGeneration(self._worker.model.model_id, answering)
        series = self._series = self._catalogue.series_files(job.subject_id)
        paths = tuple(self._store.path(file.relative_path) for file in series.files)
        embedded = self._worker.embed(paths)
        for fault in embedded.unreadable:
            log.warning("unreadable", sop_instance_uid=fault.sop_instance_uid, reason=fault.reason)
        if embedded.clips:
            self._keep(series, embedded)
        elif embedded.unreadable:
            self._quarantine(series, embedded.unreadable[0].reason)
        else:
            reason = embedded.skipped[0].reason if embedded.skipped else _NOTHING_LEFT
            self._settled(self._catalogue.skip(series.series_id, series.revision, reason), reason)
            log.info("series_skipped", series=series.series_instance_uid, reason=reason)

    def give_up(self, job: Job, reason: str) -> None:
        """Quarantine the series as it was read; a late instance has made another of it."""
        if self._series is not None:
            self._quarantine(self._series, reason)

    def _keep(self, series: SeriesFiles, embedded: Embedded) -> None:
        clips, model_id = embedded.clips, embedded.model_id
        saved = self._catalogue.save_clips(series.series_id, series.revision, model_id, clips)
        if saved:  # else a later revision was faster
            index = self._current().index
            if index.model_id == model_id:  # else it has come level with the catalogue since
                vectors = np.stack([clip.vector for clip in clips])
                index.add(np.array(saved, dtype=np.int64), vectors)
            self._settled(self._catalogue.mark_indexed(series.series_id, series.revision), "")
            log.info(
                "series_indexed",
                series=series.series_instance_uid,
                clips=len(clips),
                decoder=", ".join(sorted({clip.decoder for clip in clips})),
            )

    def _quarantine(self, series: SeriesFiles, reason: str) -> None:
        state = self._catalogue.quarantine(series.series_id, series.revision, reason)
        self._settled(state, reason)
        log.warning("series_quarantined", series=series.series_instance_uid, reason=reason)


class ReportStep:
    """Searches for one complete study and issues its reports."""

    kind = JobKind.REPORT

    def __init__(
        self,
        config: Config,
        *,
        catalogue: Catalogue,
        current: Current,
        issuer: Issuer,
        jobs: Jobs,
    ) -> None:
        self._destinations = config.destinations
        self._answer = config.answer
        self._catalogue = catalogue
        self._current = current
        self._issuer = issuer
        self._jobs = jobs
        self.patience = patience_of(config.answer)
        # A contact sheet waits for its pictures while the worker embeds a series.
        self.lease_s = config.encoder.timeout_s + 2 * _LEASE_S

    def run(self, job: Job) -> None:
        """Rank the other studies; a report that says what the last one said is not issued.

        A job for one destination is its inquiry: it gets the last report again, at least.
        """
        study_uid = self._catalogue.study_uid(job.subject_id)
        answering = self._current()
        search = cache(partial(self._similar, answering.search, study_uid))  # most ask alike
        owed = _OWED_TO_INQUIRY if job.destination else _OWED
        for destination, asked in self._destinations.items():
            if job.destination not in ("", destination):
                continue
            answered = search(*report_filters(self._answer, asked))
            if answered is None:
                if job.destination:
                    log.warning("inquiry_without_vectors", study=study_uid, to=job.destination)
                return
            self._issuer.issue(answered, destination, algorithm(answering.model))
            last = self._catalogue.last_report(job.subject_id, destination)
            if last is not None and last.state in owed:
                self._jobs.enqueue(JobKind.SEND, last.id, destination=destination)
        self._catalogue.mark_reported(job.subject_id)

    def _similar(
        self, search: Search, study_uid: str, filters: Filters, scope: Scope
    ) -> Answered | None:
        return similar_in_scope(self._catalogue, search, study_uid, filters, scope=scope)

    def give_up(self, job: Job, reason: str) -> None:
        """Leave the study as it is: searchable, not reported."""


class SendStep:
    """Sends one report, with what goes out beside it, to its destination."""

    kind = JobKind.SEND
    lease_s = _LEASE_S

    def __init__(
        self,
        config: Config,
        *,
        catalogue: Catalogue,
        issuer: Issuer,
        requestor: Requestor,
        jobs: Jobs,
    ) -> None:
        self._destinations = config.destinations
        self._catalogue = catalogue
        self._issuer = issuer
        self._requestor = requestor
        self._jobs = jobs
        self.patience = patience_of(config.answer)

    def run(self, job: Job) -> None:
        """Send the report, unless a later one says what it said and more.

        One that was promised is sent to who asks for it, and the promise stands.
        """
        report = self._catalogue.report(job.subject_id)
        if report is None or report.state is ReportState.OUTDATED:
            return
        last = self._catalogue.last_report(report.study_id, report.destination)
        if last is not None and last.id != report.id:
            log.info("report_superseded", sop_instance_uid=report.sop_instance_uid)
            return
        name = report.destination
        destination = destination_of(self._destinations, name)
        if report.linked and destination.neighbours is not Neighbours.LINKED:
            # It was written for who might know other patients: another must take its place.
            self._jobs.enqueue(JobKind.REPORT, report.study_id, destination=name)
            return
        paths = self._issuer.paths(report)
        if refused := send(self._requestor, paths, name=name, destination=destination):
            self._issuer.withdraw(report, refused)
        sent = self._catalogue.move_report(report.id, ReportState.SENT)
        log.info("report_sent", sop_instance_uid=report.sop_instance_uid, to=name)
        if sent and destination.commitment:
            self._jobs.enqueue(JobKind.COMMIT, report.id, destination=name)

    def give_up(self, job: Job, reason: str) -> None:
        """Mark the report FAILED; it is offered again when its study changes."""
        self._catalogue.move_report(job.subject_id, ReportState.FAILED)


class CommitStep:
    """Asks the destination of one sent report whether it keeps it."""

    kind = JobKind.COMMIT
    lease_s = _LEASE_S

    def __init__(
        self,
        config: Config,
        *,
        catalogue: Catalogue,
        issuer: Issuer,
        requestor: Requestor,
        promises: Promises,
    ) -> None:
        answer = config.answer
        self._destinations = config.destinations
        self._catalogue = catalogue
        self._issuer = issuer
        self._requestor = requestor
        self._promises = promises
        self.patience = Patience(answer.attempts, answer.commitment_wait_s, answer.longest_retry_s)
        self._not_offering: set[str] = set()

    def run(self, job: Job) -> None:
        """Ask under a new Transaction UID; without an answer, this is tried again later."""
        report = self._catalogue.report(job.subject_id)
        if report is None or report.state is not ReportState.SENT:
            return
        name = report.destination
        transaction_uid = self._issuer.new_uid()
        if not self._catalogue.ask_commitment(report.id, transaction_uid):
            return
        try:
            ask(
                self._requestor,
                question(transaction_uid, map(reference_of, self._issuer.paths(report))),
                name=name,
                destination=destination_of(self._destinations, name),
                promises=self._promises,
            )
        except NotOffered as error:
            # It says so of every report: once is news.
            emit = log.debug if name in self._not_offering else log.warning
            emit("commitment_not_offered", to=name, reason=error.reason)
            self._not_offering.add(name)
            return
        asked = self._catalogue.report(report.id)
        if asked is not None and asked.state is ReportState.SENT:
            raise CommitmentPending(name)

    def give_up(self, job: Job, reason: str) -> None:
        """Leave the report SENT: it was stored, and nobody promised more."""


def destination_of(destinations: Mapping[str, Destination], name: str) -> Destination:
    """Return a destination by its name; raises `SendFailed`."""
    destination = destinations.get(name)
    if destination is None:
        raise SendFailed(name, "it is no longer in the configuration")
    return destination


def patience_of(answer: Answer) -> Patience:
    """Return how often an answer is tried before it is given up."""
    return Patience(answer.attempts, answer.first_retry_s, answer.longest_retry_s)


def report_filters(answer: Answer, destination: Destination) -> tuple[Filters, Scope]:
    """Return what the reports to a destination ask for: what it says itself goes first."""
    minimum_score, scope = destination.minimum_score, destination.scope
    filters = Filters(
        k=answer.k,
        part_weight=answer.part_weight,
        near_duplicate=answer.near_duplicate,
        minimum_score=answer.minimum_score if minimum_score is None else minimum_score,
    )
    return filters, scope or answer.scope
