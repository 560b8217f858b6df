"""The reports that were made: for whom, naming which studies, and how far they have come.

Owns the memory that lets a report supersede the one before, find the reports that name a study,
and know the node's own objects again. Does not write or send a report.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import (
    ColumnElement,
    Connection,
    Select,
    delete,
    func,
    insert,
    select,
    union_all,
    update,
)

from index.db import Database, repeated
from index.errors import StudyChanged, UnknownKey
from index.jobs import JobKind, enqueue
from index.lifecycle import study_revision
from index.models import Report, ReportAttachment, ReportCase, Study
from index.report_records import NewReport, ReportedCase, ReportFile, ReportRow, ReportState

PRECEDING: Mapping[ReportState, frozenset[ReportState]] = {
    ReportState.CREATED: frozenset({ReportState.SENT}),  # lacking: it is sent again
    ReportState.SENT: frozenset({ReportState.CREATED, ReportState.SENT, ReportState.FAILED}),
    ReportState.COMMITTED: frozenset({ReportState.SENT}),
    ReportState.FAILED: frozenset({ReportState.CREATED, ReportState.SENT, ReportState.FAILED}),
    ReportState.OUTDATED: frozenset(ReportState),
}
"""From which states a report comes into each: a promise outlives that it is sent again, and what
no longer holds never holds again."""


class Reports(Database):
    """The part of the catalogue that remembers reports."""

    @repeated
    def save_report(self, report: NewReport) -> int:
        """Keep a report whose files are on disk; return its id.

        Where it has a destination, a job to send it is made in the same transaction, so that no
        report is ever kept and forgotten. Raises StudyChanged when the study is no longer at the
        report's revision, UnknownKey when it was forgotten.
        """
        with self.writing() as connection:
            _check_revision(connection, report)
            now = self.now()
            last = connection.execute(
                select(func.max(Report.number)).where(
                    Report.study_id == report.study_id, Report.destination == report.destination
                )
            ).scalar_one()
            inserted = insert(Report).values(
                number=(last or 0) + 1,
                created_at=now,
                state=ReportState.CREATED,
                study_id=report.study_id,
                destination=report.destination,
                sop_instance_uid=report.sop_instance_uid,
                series_instance_uid=report.series_instance_uid,
                relative_path=report.relative_path,
                model_id=report.model_id,
                predecessor=report.predecessor,
                linked=report.linked,
            )
            report_id = connection.execute(inserted.returning(Report.id)).scalar_one()
            _insert_parts(connection, report_id, report)
            if report.destination:
                enqueue(
                    connection,
                    JobKind.SEND,
                    report_id,
                    destination=report.destination,
                    due_at=now,
                )
            return report_id

    def report(self, report_id: int) -> ReportRow | None:
        """Return a report by its id."""
        return self._one(Report.id == report_id)

    def last_report(self, study_id: int, destination: str) -> ReportRow | None:
        """Return the newest report on a study for a destination."""
        return self._one(Report.study_id == study_id, Report.destination == destination)

    def report_of(self, sop_instance_uid: str) -> ReportRow | None:
        """Return the report that is, or goes out with, the object of this UID."""
        attached = select(ReportAttachment.report_id).where(
            ReportAttachment.sop_instance_uid == sop_instance_uid
        )
        return self._one(
            (Report.sop_instance_uid == sop_instance_uid) | Report.id.in_(attached),
        )

    def reports_naming(self, study_instance_uid: str) -> tuple[ReportRow, ...]:
        """Return the reports that name a study as a similar case, oldest first."""
        naming = select(ReportCase.report_id).where(
            ReportCase.study_instance_uid == study_instance_uid
        )
        with self.reading() as connection:
            return _rows(
                connection,
                select(Report.__table__).where(Report.id.in_(naming)).order_by(Report.id),
            )

    def report_files(self) -> tuple[str, ...]:
        """Return the relative paths of all reports and of what goes out beside them."""
        files = union_all(select(Report.relative_path), select(ReportAttachment.relative_path))
        with self.reading() as connection:
            return tuple(connection.execute(files).scalars())

    def drop_attachments(self, report_id: int, sop_instance_uids: Collection[str]) -> None:
        """Forget what is not going out beside a report after all."""
        named = ReportAttachment.sop_instance_uid.in_(sop_instance_uids)
        with self.writing() as connection:
            connection.execute(
                delete(ReportAttachment).where(ReportAttachment.report_id == report_id, named)
            )

    def move_report(self, report_id: int, state: ReportState) -> bool:
        """Note how far a report has come; False, and no effect, where `PRECEDING` has no way."""
        with self.writing() as connection:
            return move_reports(connection, state, Report.id == report_id) == 1

    def _one(self, *conditions: ColumnElement[bool]) -> ReportRow | None:
        newest = select(Report.__table__).where(*conditions).order_by(Report.number.desc()).limit(1)
        with self.reading() as connection:
            return next(iter(_rows(connection, newest)), None)


def move_reports(connection: Connection, state: ReportState, which: ColumnElement[bool]) -> int:
    """Bring those reports into a state that `PRECEDING` lets into it; count them."""
    allowed = Report.state.in_(PRECEDING[state])
    return connection.execute(update(Report).where(which, allowed).values(state=state)).rowcount


def _check_revision(connection: Connection, report: NewReport) -> None:
    """Raise StudyChanged or UnknownKey unless the study is as it was when the report was begun."""
    locked = select(Study.id).where(Study.id == report.study_id).with_for_update()
    if connection.execute(locked).first() is None:
        raise UnknownKey("study", report.study_id)
    found = connection.execute(select(study_revision(report.study_id))).scalar_one()
    if found != report.revision:
        raise StudyChanged(report.study_id)


def _insert_parts(connection: Connection, report_id: int, report: NewReport) -> None:
    cases = [
        {
            "report_id": report_id,
            "rank": case.rank,
            "score": case.score,
            "study_instance_uid": case.study_instance_uid,
        }
        for case in report.cases
    ]
    attachments = [
        {
            "report_id": report_id,
            "sop_instance_uid": file.sop_instance_uid,
            "sop_class_uid": file.sop_class_uid,
            "relative_path": file.relative_path,
        }
        for file in report.attachments
    ]
    if cases:
        connection.execute(insert(ReportCase), cases)
    if attachments:
        connection.execute(insert(ReportAttachment), attachments)


def _rows(connection: Connection, wanted: Select[Any]) -> tuple[ReportRow, ...]:
    return tuple(
        ReportRow(
            id=row.id,
            number=row.number,
            created_at=datetime.fromtimestamp(row.created_at, UTC),
            state=row.state,
            study_id=row.study_id,
            destination=row.destination,
            sop_instance_uid=row.sop_instance_uid,
            series_instance_uid=row.series_instance_uid,
            relative_path=row.relative_path,
            model_id=row.model_id,
            cases=_cases(connection, row.id),
            attachments=_attachments(connection, row.id),
            predecessor=row.predecessor,
            linked=row.linked,
        )
        for row in connection.execute(wanted).all()
    )


def _cases(connection: Connection, report_id: int) -> tuple[ReportedCase, ...]:
    rows = connection.execute(
        select(ReportCase.rank, ReportCase.score, ReportCase.study_instance_uid)
        .where(ReportCase.report_id == report_id)
        .order_by(ReportCase.rank)
    )
    return tuple(ReportedCase(*row) for row in rows)


def _attachments(connection: Connection, report_id: int) -> tuple[ReportFile, ...]:
    rows = connection.execute(
        select(
            ReportAttachment.sop_instance_uid,
            ReportAttachment.sop_class_uid,
            ReportAttachment.relative_path,
        )
        .where(ReportAttachment.report_id == report_id)
        .order_by(ReportAttachment.sop_instance_uid)
    )
    return tuple(ReportFile(*row) for row in rows)
