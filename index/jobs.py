"""The queue of work to be done, as rows: claimed under a lease, repeated until it succeeds.

Owns the job table. A job that is done has no row; one that failed keeps its row and its error
until it is asked for again. Every step may be repeated, so a lease that runs out is no harm.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

from sqlalchemy import ColumnElement, Connection, and_, case, delete, func, or_, select, update
from sqlalchemy.dialects import postgresql, sqlite

from index.db import Database
from index.models import Job as JobTable
from index.models import JobKind, JobState

__all__ = ["Job", "JobKind", "JobState", "Jobs", "enqueue"]

_INSERTS: dict[str, Any] = {"sqlite": sqlite.insert, "postgresql": postgresql.insert}


@dataclass(frozen=True, slots=True)
class Job:
    """A claimed job; `claims` proves to the queue that this claim is the last one."""

    id: int
    kind: JobKind
    subject_id: int
    destination: str
    attempts: int
    claims: int


def enqueue(
    connection: Connection,
    kind: JobKind,
    subject_id: int,
    *,
    destination: str = "",
    due_at: float,
) -> None:
    """Ask for a job inside the caller's transaction; see Jobs.enqueue."""
    ready = {"state": JobState.READY, "due_at": due_at, "attempts": 0, "error": ""}
    new = _INSERTS[connection.dialect.name](JobTable).values(
        kind=kind,
        subject_id=subject_id,
        destination=destination,
        claims=0,
        worker="",
        again=False,
        **ready,
    )
    runs = JobTable.state == JobState.RUNNING
    known = {
        name: case((runs, getattr(JobTable, name)), else_=value) for name, value in ready.items()
    }
    # One statement: another node may ask for the same job at this moment.
    key = (JobTable.kind, JobTable.subject_id, JobTable.destination)
    connection.execute(new.on_conflict_do_update(index_elements=key, set_=known | {"again": runs}))


class Jobs(Database):
    """The queue, for any number of threads and processes."""

    def enqueue(
        self, kind: JobKind, subject_id: int, *, destination: str = "", delay_s: float = 0.0
    ) -> None:
        """Ask for a job, due after `delay_s`; asking twice makes one job.

        One that waits or has failed becomes due anew with its attempts forgotten; one that runs
        is run again when it ends.
        """
        with self.writing() as connection:
            due_at = self.now() + delay_s
            enqueue(connection, kind, subject_id, destination=destination, due_at=due_at)

    def claim(self, kinds: Collection[JobKind], worker: str, lease_s: float) -> Job | None:
        """Take the job that is due longest, for `lease_s`; None when none is due.

        A job whose lease ran out is due again. One statement: two workers never get the same.
        """
        with self.writing() as connection:
            now = self.now()
            due = (
                select(JobTable.id)
                .where(_claimable(kinds), JobTable.due_at <= now)
                .order_by(JobTable.due_at, JobTable.id)
                .limit(1)
                .with_for_update(skip_locked=True)  # PostgreSQL; SQLite holds the write lock
            )
            taken = connection.execute(
                update(JobTable)
                .where(JobTable.id == due.scalar_subquery())
                .values(
                    state=JobState.RUNNING,
                    due_at=now + lease_s,
                    attempts=JobTable.attempts + 1,
                    claims=JobTable.claims + 1,
                    worker=worker,
                )
                .returning(
                    JobTable.id,
                    JobTable.kind,
                    JobTable.subject_id,
                    JobTable.destination,
                    JobTable.attempts,
                    JobTable.claims,
                )
            ).one_or_none()
            return None if taken is None else Job(*taken)

    def finish(self, job: Job) -> bool:
        """End a job well; False when it is no longer ours."""
        with self.writing() as connection:
            # Looked at in this order: it may be asked for again between two statements.
            done = delete(JobTable).where(_ours(job), ~JobTable.again)
            return connection.execute(done).rowcount == 1 or self._run_again(connection, job)

    def retry(self, job: Job, error: str, delay_s: float) -> bool:
        """Give a job back, to be tried after `delay_s`; False when it is no longer ours."""
        with self.writing() as connection:
            due_at = self.now() + delay_s
            values = {"state": JobState.READY, "due_at": due_at, "again": False, "error": error}
            given_back = update(JobTable).where(_ours(job)).values(values)
            return connection.execute(given_back).rowcount == 1

    def fail(self, job: Job, error: str) -> bool:
        """Give a job up and keep `error`; False when it is no longer ours."""
        with self.writing() as connection:
            failed = update(JobTable).where(_ours(job), ~JobTable.again)
            failed = failed.values(state=JobState.FAILED, error=error)
            return connection.execute(failed).rowcount == 1 or self._run_again(connection, job)

    def release(self, worker: str) -> int:
        """Make the jobs that a worker of this name left running due now; count them.

        For a worker that starts again after it was killed; its older claims are void and do not
        count as attempts.
        """
        with self.writing() as connection:
            left = update(JobTable).where(
                JobTable.worker == worker, JobTable.state == JobState.RUNNING
            )
            return connection.execute(left.values(_given_back(self.now()))).rowcount

    def give_back(self, job: Job, delay_s: float) -> bool:
        """Return a job that could not be tried, without counting the attempt; False if not ours."""
        with self.writing() as connection:
            ours = update(JobTable).where(_ours(job))
            values = _given_back(self.now() + delay_s)
            return connection.execute(ours.values(values)).rowcount == 1

    def pending(self, kinds: Collection[JobKind]) -> int:
        """Count the jobs that wait or run."""
        with self.reading() as connection:
            return connection.execute(
                select(func.count()).select_from(JobTable).where(_claimable(kinds))
            ).scalar_one()

    def next_due_s(self, kinds: Collection[JobKind]) -> float | None:
        """Return the seconds until a job can be claimed, 0.0 for now; None when there is none."""
        with self.reading() as connection:
            due_at = connection.execute(
                select(func.min(JobTable.due_at)).where(_claimable(kinds))
            ).scalar_one()
        return None if due_at is None else max(0.0, due_at - self.now())

    def _run_again(self, connection: Connection, job: Job) -> bool:
        """Make a job that was asked for while it ran due now."""
        asked = update(JobTable).where(_ours(job), JobTable.again)
        values = {"state": JobState.READY, "due_at": self.now(), "attempts": 0, "again": False}
        return connection.execute(asked.values(values)).rowcount == 1


def _given_back(due_at: float) -> dict[str, Any]:
    return {
        "state": JobState.READY,
        "due_at": due_at,
        "attempts": JobTable.attempts - 1,
        "again": False,
    }


def _claimable(kinds: Collection[JobKind]) -> ColumnElement[bool]:
    return and_(
        JobTable.kind.in_(kinds),
        or_(JobTable.state == JobState.READY, JobTable.state == JobState.RUNNING),
    )


def _ours(job: Job) -> ColumnElement[bool]:
    return and_(
        JobTable.id == job.id,
        JobTable.claims == job.claims,
        JobTable.state == JobState.RUNNING,
    )
