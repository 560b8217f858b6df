"""Storage commitment as rows (PS3.4 Annex J): what was asked, of whom, and what came of it.

Both ways: the node asks the destinations of its reports, and peers ask the node. Every question
that is open survives a restart. Knows no network and no files.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass
from enum import StrEnum

from sqlalchemy import Connection, Row, delete, func, insert, select, update

from index.db import Database, repeated
from index.jobs import JobKind, enqueue
from index.lifecycle import commit_study
from index.models import (
    Commitment,
    CommitmentRequest,
    CommitmentState,
    Instance,
    Job,
    JobState,
    Report,
    ReportAttachment,
    Series,
    Study,
)
from index.report_records import ReportState
from index.reports import move_reports


class Settlement(StrEnum):
    """What an answer to a commitment request made of a report."""

    COMMITTED = "committed"  # all of it is kept
    LACKING = "lacking"  # some of it is not: it is sent again
    GIVEN_UP = "given_up"  # some of it is not, as often before
    OPEN = "open"  # not all of it was answered
    SETTLED = "settled"  # nobody waits for this answer any more: it changes nothing
    UNKNOWN = "unknown"  # never asked


@dataclass(frozen=True, slots=True)
class Reference:
    """An instance that a commitment request or its answer names."""

    sop_class_uid: str
    sop_instance_uid: str


@dataclass(frozen=True, slots=True)
class PeerRequest:
    """A peer's question, to be answered to its AE title."""

    transaction_uid: str
    ae_title: str
    references: tuple[Reference, ...]


@dataclass(frozen=True, slots=True)
class KeptVersion:
    """The newest version of an instance, rejected or not, as far as the rows know."""

    sop_class_uid: str
    relative_path: str
    sha256: str


class Commitments(Database):
    """The part of the catalogue that remembers who promised what."""

    def ask_commitment(self, report_id: int, transaction_uid: str) -> bool:
        """Note that the destination of a report is asked whether it keeps it.

        False, and no effect, where it has nothing to keep: the report is to be sent (again).
        """
        sent = select(Report.id).where(Report.id == report_id, Report.state == ReportState.SENT)
        with self.writing() as connection:
            if connection.execute(sent.with_for_update()).first() is None:
                return False
            asked = insert(Commitment).values(
                transaction_uid=transaction_uid, report_id=report_id, state=CommitmentState.OPEN
            )
            connection.execute(asked)
            return True

    @repeated
    def settle_commitment(
        self,
        transaction_uid: str,
        *,
        committed: Collection[str],
        failed: Collection[str],
        attempts: int,
        pause_s: Callable[[int], float],
    ) -> Settlement:
        """Take an answer in: `committed` and `failed` are SOP Instance UIDs.

        A report that is lacking is to be sent again, after `pause_s(n)` when that was answered n
        times, unless that was `attempts` times. Silence is no answer and does not count, nor does
        an answer that comes twice, or to a question from before the report was sent again.
        """
        with self.writing() as connection:
            report = _asked_about(connection, transaction_uid)
            if report is None:
                return Settlement.UNKNOWN
            if report.state is not ReportState.SENT or not _is_open(connection, transaction_uid):
                return Settlement.SETTLED
            objects = _objects(connection, report.id, report.sop_instance_uid)
            if not objects.isdisjoint(failed):
                times = _times_denied(connection, report.id, transaction_uid)
                due_at = None if times >= attempts else self.now() + pause_s(times)
                return _send_again(connection, report.id, report.destination, due_at)
            if not objects <= set(committed):
                return Settlement.OPEN
            _set_state(connection, report.id, ReportState.COMMITTED)
            commit_study(connection, report.study_id)
            return Settlement.COMMITTED

    @repeated
    def save_request(self, request: PeerRequest, *, delay_s: float) -> int:
        """Keep a peer's question, to be answered after `delay_s`; asked twice, the last counts."""
        instances = [[r.sop_class_uid, r.sop_instance_uid] for r in request.references]
        with self.writing() as connection:
            again = update(CommitmentRequest).where(
                CommitmentRequest.transaction_uid == request.transaction_uid,
                CommitmentRequest.ae_title == request.ae_title,
            )
            asked_again = again.values(instances=instances).returning(CommitmentRequest.id)
            key = connection.execute(asked_again).scalar_one_or_none()
            if key is None:
                inserted = insert(CommitmentRequest).values(
                    transaction_uid=request.transaction_uid,
                    ae_title=request.ae_title,
                    instances=instances,
                )
                key = connection.execute(inserted.returning(CommitmentRequest.id)).scalar_one()
            enqueue(connection, JobKind.ANSWER, key, due_at=self.now() + delay_s)
            return key

    def peer_request(self, key: int) -> PeerRequest | None:
        """Return a peer's question that is not answered yet."""
        with self.reading() as connection:
            row = connection.execute(
                select(
                    CommitmentRequest.transaction_uid,
                    CommitmentRequest.ae_title,
                    CommitmentRequest.instances,
                ).where(CommitmentRequest.id == key)
            ).one_or_none()
        if row is None:
            return None
        references = tuple(Reference(*pair) for pair in row.instances)
        return PeerRequest(row.transaction_uid, row.ae_title, references)

    def drop_request(self, key: int) -> None:
        """Forget a peer's question that was answered, or that nobody can be told the answer of.

        One that was asked again meanwhile stays, for the job that answers it runs again.
        """
        with self.writing() as connection:
            asked_again = select(Job.id).where(
                Job.kind == JobKind.ANSWER, Job.subject_id == key, Job.again
            )
            answered = delete(CommitmentRequest).where(CommitmentRequest.id == key)
            connection.execute(answered.where(~asked_again.exists()))

    def kept_version(self, sop_instance_uid: str) -> KeptVersion | None:
        """Return the newest version of an instance; a guest is not kept."""
        newest = (
            select(Instance.sop_class_uid, Instance.relative_path, Instance.sha256)
            .join_from(Instance, Series, Instance.series_id == Series.id)
            .join(Study, Series.study_id == Study.id)
            .where(Instance.sop_instance_uid == sop_instance_uid, Study.guest.is_(False))
            .order_by(Instance.id.desc())
            .limit(1)
        )
        with self.reading() as connection:
            row = connection.execute(newest).one_or_none()
        return None if row is None else KeptVersion(*row)


def _asked_about(
    connection: Connection, transaction_uid: str
) -> Row[int, ReportState, int, str, str] | None:
    """Return the report that a destination was asked about, and hold it."""
    asked = (
        select(
            Report.id, Report.state, Report.study_id, Report.destination, Report.sop_instance_uid
        )
        .join(Commitment, Commitment.report_id == Report.id)
        .where(Commitment.transaction_uid == transaction_uid)
        .with_for_update(of=Report)
    )
    return connection.execute(asked).one_or_none()


def _is_open(connection: Connection, transaction_uid: str) -> bool:
    asked = select(Commitment.state).where(Commitment.transaction_uid == transaction_uid)
    return connection.execute(asked).scalar_one() is CommitmentState.OPEN


def _objects(connection: Connection, report_id: int, sop_instance_uid: str) -> set[str]:
    """Return the SOP Instance UIDs of a report and of what goes out beside it."""
    attached = select(ReportAttachment.sop_instance_uid).where(
        ReportAttachment.report_id == report_id
    )
    return {sop_instance_uid, *connection.execute(attached).scalars()}


def _times_denied(connection: Connection, report_id: int, transaction_uid: str) -> int:
    """Note that an answer was no; return how many were for this report."""
    this = Commitment.transaction_uid == transaction_uid
    connection.execute(update(Commitment).where(this).values(state=CommitmentState.DENIED))
    # What was asked besides is about the sending that failed, not about the next one.
    of_report = Commitment.report_id == report_id
    others = update(Commitment).where(of_report, Commitment.state == CommitmentState.OPEN)
    connection.execute(others.values(state=CommitmentState.OVERTAKEN))
    denied = select(func.count()).where(of_report, Commitment.state == CommitmentState.DENIED)
    return connection.execute(denied).scalar_one()


def _send_again(
    connection: Connection, report_id: int, destination: str, due_at: float | None
) -> Settlement:
    """Ask for a report to be sent at `due_at`; give it up when that is None."""
    if due_at is None:
        _set_state(connection, report_id, ReportState.FAILED)
        return Settlement.GIVEN_UP
    _set_state(connection, report_id, ReportState.CREATED)
    enqueue(connection, JobKind.SEND, report_id, destination=destination, due_at=due_at)
    return Settlement.LACKING


def _set_state(connection: Connection, report_id: int, state: ReportState) -> None:
    """Note how far a report has come; nobody has to ask for it any more."""
    move_reports(connection, state, Report.id == report_id)
    waiting = delete(Job).where(
        Job.kind == JobKind.COMMIT, Job.subject_id == report_id, Job.state == JobState.READY
    )
    connection.execute(waiting)
