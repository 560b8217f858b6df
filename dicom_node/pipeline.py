"""The route of a series from its files to a report in the PACS, top to bottom.

    embed     files → clips → vectors (in a worker) → searchable      steps 6 to 11
    report    vectors → similar cases → Structured Report             steps 12 and 13
    send      report → PACS                                           step 14

Each is a job with a lease (step 5). Every step can be repeated: a process killed between any two
of them leaves a job that is claimed again, and a job done twice gives the same rows.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import structlog

from dicom_node.answer.issue import Issuer
from dicom_node.answer.query import Filters, similar_to_study
from dicom_node.answer.send import send
from dicom_node.config import Answer, Config, Destination
from dicom_node.errors import SendFailed, SimilisError, WorkerStopped
from dicom_node.receive.store import Store
from dicom_node.receive.worker import Embedded, Worker
from index.catalogue import Catalogue
from index.errors import CatalogueError
from index.jobs import Job, JobKind, Jobs
from index.records import ReportState, SeriesFiles
from index.search import Search
from index.vectors import VectorIndex

log = structlog.get_logger()

_REPORT_LEASE_S = 120.0


@dataclass(frozen=True, slots=True)
class Patience:
    """How a failed job is tried again: pauses double from the first to the longest."""

    attempts: int
    first_s: float
    longest_s: float

    def pause_s(self, attempt: int) -> float:
        """Return the pause after the `attempt`th failure, counted from 1."""
        return min(self.first_s * 2.0 ** (attempt - 1), self.longest_s)


class Pipeline:
    """The steps behind intake; each call does one job and says whether there was one."""

    def __init__(
        self,
        config: Config,
        *,
        catalogue: Catalogue,
        jobs: Jobs,
        store: Store,
        index: VectorIndex,
        search: Search,
        issuer: Issuer,
        name: str,
    ) -> None:
        self._config = config
        self._catalogue = catalogue
        self._jobs = jobs
        self._store = store
        self._index = index
        self._search = search
        self._issuer = issuer
        self._name = name
        answer = config.answer
        self._patience = {
            # A series that kills its worker twice is the cause: the node must go on without it.
            JobKind.EMBED: Patience(attempts=2, first_s=1.0, longest_s=1.0),
            JobKind.REPORT: Patience(attempts=5, first_s=5.0, longest_s=300.0),
            JobKind.SEND: Patience(answer.attempts, answer.first_retry_s, answer.longest_retry_s),
        }

    def embed_next(self, worker: Worker) -> bool:
        """Embed one quiet series and make it searchable."""
        # Twice the limit: the reply comes in two parts, each within the limit.
        lease_s = 2 * self._config.encoder.timeout_s + _REPORT_LEASE_S
        return self._do(JobKind.EMBED, lease_s, lambda job: self._embed(job, worker))

    def report_next(self) -> bool:
        """Search for one complete study and issue its reports."""
        return self._do(JobKind.REPORT, _REPORT_LEASE_S, self._report)

    def send_next(self) -> bool:
        """Send one report to its destination."""
        return self._do(JobKind.SEND, _REPORT_LEASE_S, self._send)

    def _embed(self, job: Job, worker: Worker) -> None:
        series = self._catalogue.series_files(job.subject_id)
        embedded = worker.embed(tuple(self._store.path(f.relative_path) for f in series.files))
        for fault in embedded.unreadable:
            log.warning("unreadable", sop_instance_uid=fault.sop_instance_uid, reason=fault.reason)
        if embedded.clips:
            self._keep_vectors(series, embedded, worker.model.model_id)
        elif embedded.unreadable:
            self._quarantine(series, embedded.unreadable[0].reason)
        else:
            reason = embedded.skipped[0].reason if embedded.skipped else "no files"
            self._catalogue.skip(series.series_id, series.revision, reason)
            log.info("series_skipped", series=series.series_instance_uid, reason=reason)

    def _keep_vectors(self, series: SeriesFiles, embedded: Embedded, model_id: str) -> None:
        clips = embedded.clips
        saved = self._catalogue.save_clips(series.series_id, series.revision, model_id, clips)
        vectors = np.stack([clip.vector for clip in clips])
        self._index.add(np.array(saved, dtype=np.int64), vectors)
        self._catalogue.mark_indexed(series.series_id, series.revision)
        log.info("series_indexed", series=series.series_instance_uid, clips=len(clips))

    def _report(self, job: Job) -> None:
        study_uid = self._catalogue.study_uid(job.subject_id)
        filters = report_filters(self._config.answer)
        answered = similar_to_study(self._catalogue, self._search, study_uid, filters)
        if answered is None:
            return
        for destination in self._config.destinations:
            self._issuer.issue(answered, destination)
        self._catalogue.mark_reported(job.subject_id)

    def _send(self, job: Job) -> None:
        report = self._catalogue.report(job.subject_id)
        if report is None:  # its study was deleted meanwhile
            return
        send(
            self._issuer.path(report),
            name=report.destination,
            destination=self._destination(report.destination),
            calling_ae_title=self._config.dicom.ae_title,
        )
        self._catalogue.set_report_state(report.id, ReportState.SENT)
        log.info("report_sent", sop_instance_uid=report.sop_instance_uid, to=report.destination)

    def _do(self, kind: JobKind, lease_s: float, step: Callable[[Job], None]) -> bool:
        """Claim a job and do it: the worker guard, where any failure becomes a row and a line."""
        job = self._jobs.claim((kind,), worker=self._name, lease_s=lease_s)
        if job is None:
            return False
        try:
            step(job)
        except CatalogueError:
            raise  # nothing can be written down now; the lease brings the job back
        except WorkerStopped:
            return False  # the next start releases the job, without counting this attempt
        except SimilisError as error:
            self._failed(job, str(error))
        except Exception as error:
            log.exception("job_failed", kind=kind, subject=job.subject_id)
            self._failed(job, f"{type(error).__name__}: {error}")
        else:
            self._jobs.finish(job)
        return True

    def _failed(self, job: Job, reason: str) -> None:
        patience = self._patience[job.kind]
        if job.attempts < patience.attempts:
            delay_s = patience.pause_s(job.attempts)
            self._jobs.retry(job, reason, delay_s=delay_s)
            log.warning("job_delayed", kind=job.kind, reason=reason, delay_s=delay_s)
            return
        if job.kind is JobKind.EMBED:
            self._quarantine(self._catalogue.series_files(job.subject_id), reason)
        if job.kind is JobKind.SEND:
            self._catalogue.set_report_state(job.subject_id, ReportState.FAILED)
        self._jobs.fail(job, reason)
        log.error("job_given_up", kind=job.kind, reason=reason, attempts=job.attempts)

    def _quarantine(self, series: SeriesFiles, reason: str) -> None:
        self._catalogue.quarantine(series.series_id, series.revision, reason)
        log.warning("series_quarantined", series=series.series_instance_uid, reason=reason)

    def _destination(self, name: str) -> Destination:
        destination = self._config.destinations.get(name)
        if destination is None:
            raise SendFailed(name, "it is no longer in the configuration")
        return destination


def report_filters(answer: Answer) -> Filters:
    """Return what a report asks for: other patients, everything else open."""
    return Filters(k=answer.k, minimum_score=answer.minimum_score)
