"""Runs jobs: claims one, does it, and makes a row and a line of whatever goes wrong.

Any failure of a step is caught here, in the guard of the workers: the node goes on.
"""

import threading
from collections import deque
from dataclasses import dataclass
from typing import Protocol

import structlog

from dicom_node.errors import SimilisError, WorkerStopped, WorkerUnavailable
from dicom_node.log import fault_of
from index.errors import DatabaseUnavailable, OtherGeneration, StudyChanged, UnknownKey
from index.jobs import Job, JobKind, Jobs

log = structlog.get_logger()

_UNAVAILABLE_S = 30.0
_OVERTAKEN_S = 5.0


@dataclass(frozen=True, slots=True)
class Patience:
    """How a failed job is tried again: pauses double from the first to the longest."""

    attempts: int
    first_s: float
    longest_s: float

    def pause_s(self, attempt: int) -> float:
        """Return the pause after the `attempt`th failure, counted from 1."""
        return min(self.first_s * 2.0 ** (attempt - 1), self.longest_s)


class Step(Protocol):
    """A part of the route that is done job by job."""

    kind: JobKind
    lease_s: float
    patience: Patience

    def run(self, job: Job) -> None:
        """Do the job; doing it twice must give the same rows."""

    def give_up(self, job: Job, reason: str) -> None:
        """Write down that it failed for good."""


class Runner:
    """Does jobs under the name of this installation."""

    def __init__(self, jobs: Jobs, name: str) -> None:
        self._jobs = jobs
        self._name = name
        self._owed: deque[Job] = deque()  # what became of them could not be written down
        self._settling = threading.Lock()

    def next(self, step: Step) -> bool:
        """Do one job of this kind; False when none is due.

        Raises `DatabaseUnavailable` when nothing can be written down: the job is given back at
        once, or as soon as that works.
        """
        self._settle()
        job = self._jobs.claim((step.kind,), worker=self._name, lease_s=step.lease_s)
        if job is None:
            return False
        try:
            return self._do(step, job)
        except DatabaseUnavailable:
            self._owed.append(job)
            self._settle()
            raise

    def _settle(self) -> None:
        """Give back what is owed: without that a job would wait for the end of its lease."""
        with self._settling:
            while self._owed:
                self._jobs.give_back(self._owed[0], delay_s=0.0)
                self._owed.popleft()

    def _do(self, step: Step, job: Job) -> bool:
        try:
            step.run(job)
        except DatabaseUnavailable:
            raise
        except WorkerUnavailable as error:
            log.error("worker_unavailable", reason=error.reason)
            self._jobs.give_back(job, delay_s=_UNAVAILABLE_S)
        except WorkerStopped:
            self._jobs.give_back(job, delay_s=0.0)
            return False
        except StudyChanged as error:
            log.info("report_overtaken", reason=str(error))
            self._jobs.give_back(job, delay_s=_OVERTAKEN_S)
        except OtherGeneration as error:
            log.info("waiting_for_encoder", reason=str(error))
            self._jobs.give_back(job, delay_s=_OVERTAKEN_S)
            return False
        except UnknownKey as error:
            log.info("job_without_subject", kind=step.kind, reason=str(error))  # it was forgotten
            self._jobs.finish(job)
        except SimilisError as error:
            self._failed(step, job, str(error))
        except Exception as error:
            self._failed(step, job, fault_of(error))
        else:
            self._jobs.finish(job)
        return True

    def _failed(self, step: Step, job: Job, reason: str) -> None:
        if job.attempts < step.patience.attempts:
            delay_s = step.patience.pause_s(job.attempts)
            self._jobs.retry(job, reason, delay_s=delay_s)
            log.warning("job_delayed", kind=step.kind, reason=reason, delay_s=delay_s)
            return
        step.give_up(job, reason)
        self._jobs.fail(job, reason)
        log.error("job_given_up", kind=step.kind, reason=reason, attempts=job.attempts)
