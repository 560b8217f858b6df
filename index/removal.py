"""Forgetting a study: its rows, its vectors, its reports and what waits to be done for it.

A guest is forgotten some time after everyone who asked about it was answered, or never can be.

Reports on other studies that name it are not touched: they lie in other archives. They are listed,
for whoever must withdraw them there.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from sqlalchemy import ColumnElement, Connection, Select, and_, delete, func, or_, select, update

from index.db import BUSY_TIMEOUT_S, Database, hold, is_postgresql, repeated
from index.embeddings import chunks
from index.lifecycle import delete_clips
from index.models import (
    Clip,
    Embedding,
    Inquiry,
    Instance,
    Job,
    JobKind,
    JobState,
    Rejection,
    Report,
    ReportAttachment,
    ReportCase,
    Series,
    Study,
)
from index.report_records import ReportState
from index.states import SETTLED_STATES

_FLUSH_TIMEOUT_MS = 200


@dataclass(frozen=True, slots=True)
class Mention:
    """A report on another study that names this one as a similar case."""

    study_instance_uid: str
    sop_instance_uid: str
    destination: str
    state: ReportState


@dataclass(frozen=True, slots=True, kw_only=True)
class Belongings:
    """What is kept of a study; `files` and `report_files` are relative paths."""

    study_instance_uid: str
    series: int
    instances: int
    vectors: int
    files: tuple[str, ...]
    reports: tuple[str, ...]  # SOP Instance UIDs
    report_files: tuple[str, ...]
    named_by: tuple[Mention, ...]


class Removal(Database):
    """The part of the catalogue that forgets."""

    def belongings(self, study_instance_uid: str) -> Belongings | None:
        """Return what is kept of a study; None when it is unknown."""
        with self.reading() as connection:
            study_id = connection.execute(_study_id(study_instance_uid)).scalar_one_or_none()
            if study_id is None:
                return None
            return _belongings(connection, study_id, study_instance_uid)

    @repeated
    def forget_study(
        self, study_instance_uid: str, erase: Callable[[Belongings], None]
    ) -> Belongings | None:
        """Delete a study; return what was kept of it, None when it is unknown.

        `erase` must remove the files. It is called before the rows are gone for good: an object
        that is sent again meanwhile waits, and then finds neither row nor file.
        """
        with self.writing() as connection:
            hold(connection, study_instance_uid)
            found = _study_id(study_instance_uid).with_for_update()
            study_id = connection.execute(found).scalar_one_or_none()
            if study_id is None:
                return None
            _delete_rejections(connection, study_id, study_instance_uid)
            return _forget(connection, study_id, study_instance_uid, erase)

    def flush_deleted(self) -> bool:
        """Let no file of SQLite hold what was deleted; False where readers kept it from that.

        Deleted rows are overwritten in the log, which here goes into the database and is emptied.
        Writers wait while it waits for readers: it does not for long.
        Of PostgreSQL its own VACUUM and the age of its log decide.
        """
        if is_postgresql(self.engine.url):
            return True
        with self.outside_transactions() as connection:
            connection.exec_driver_sql(f"PRAGMA busy_timeout = {_FLUSH_TIMEOUT_MS}")
            try:
                row = connection.exec_driver_sql("PRAGMA wal_checkpoint(TRUNCATE)").one()
            finally:
                connection.exec_driver_sql(f"PRAGMA busy_timeout = {BUSY_TIMEOUT_S * 1000}")
            busy: int = row[0]
            return busy == 0

    def time_guests(self, stay_s: float) -> int:
        """Let the guests that were answered stay for `stay_s` from now; count them."""
        with self.writing() as connection:
            untimed = select(Study.id).where(_guest(), Study.purge_at.is_(None))
            ids = connection.execute(untimed).scalars().all()
            answered = [study_id for study_id in ids if _is_answered(connection, study_id)]
            for study_id in answered:
                timed = update(Study).where(Study.id == study_id)
                connection.execute(timed.values(purge_at=self.now() + stay_s))
            return len(answered)

    def due_guests(self) -> tuple[str, ...]:
        """Return the guests whose time has come, by Study Instance UID."""
        due = select(Study.study_instance_uid).where(self._due()).order_by(Study.id)
        with self.reading() as connection:
            return tuple(connection.execute(due).scalars())

    @repeated
    def forget_guest(
        self, study_instance_uid: str, erase: Callable[[Belongings], None]
    ) -> Belongings | None:
        """Delete a guest as `forget_study` does; None when its time has not come (any more).

        Looked at and deleted in one transaction: one that arrives to be kept meanwhile is kept.
        What of it was rejected stays rejected: no query may undo that.
        """
        named = Study.study_instance_uid == study_instance_uid
        with self.writing() as connection:
            hold(connection, study_instance_uid)
            due = select(Study.id).where(self._due(), named).with_for_update()
            study_id = connection.execute(due).scalar_one_or_none()
            if study_id is None or not _is_answered(connection, study_id):
                return None  # a report may have to be sent again
            return _forget(connection, study_id, study_instance_uid, erase)

    def postpone_guest(self, study_instance_uid: str, stay_s: float) -> None:
        """Let a guest that cannot be deleted now stay for `stay_s` more."""
        named = and_(_guest(), Study.study_instance_uid == study_instance_uid)
        with self.writing() as connection:
            later = update(Study).where(named).values(purge_at=self.now() + stay_s)
            connection.execute(later)

    def _due(self) -> ColumnElement[bool]:
        return and_(_guest(), Study.purge_at <= self.now())


def _guest() -> ColumnElement[bool]:
    # All guests were asked about; the table of inquiries is short, that of studies is long.
    return and_(Study.id.in_(select(Inquiry.study_id)), Study.guest)


def _is_answered(connection: Connection, study_id: int) -> bool:
    """Tell whether nothing is left to do for those who asked about a study."""
    under_way = or_(
        select(Study.id).where(Study.id == study_id, Study.state.not_in(SETTLED_STATES)).exists(),
        select(Inquiry.study_id)
        .where(Inquiry.study_id == study_id, Inquiry.quiet_at.is_not(None))
        .exists(),
        select(Job.id)
        .where(
            or_(*_jobs(study_id)),
            Job.kind != JobKind.COMMIT,  # it may take days, and the report was sent
            Job.state != JobState.FAILED,
        )
        .exists(),
    )
    return not connection.execute(select(under_way)).scalar_one()


def _forget(
    connection: Connection,
    study_id: int,
    study_instance_uid: str,
    erase: Callable[[Belongings], None],
) -> Belongings:
    kept = _belongings(connection, study_id, study_instance_uid)
    connection.execute(delete(Job).where(or_(*_jobs(study_id))))
    of_study = select(Series.id).where(Series.study_id == study_id)
    delete_clips(connection, Clip.series_id.in_(of_study))
    connection.execute(delete(Study).where(Study.id == study_id))
    erase(kept)
    return kept


def _study_id(study_instance_uid: str) -> Select[int]:
    return select(Study.id).where(Study.study_instance_uid == study_instance_uid)


def _belongings(connection: Connection, study_id: int, study_instance_uid: str) -> Belongings:
    series = select(Series.id).where(Series.study_id == study_id)
    instances = connection.execute(
        select(Instance.sop_instance_uid, Instance.relative_path)
        .where(Instance.series_id.in_(series))
        .order_by(Instance.id)
    ).all()
    reports = connection.execute(
        select(Report.id, Report.sop_instance_uid, Report.relative_path)
        .where(Report.study_id == study_id)
        .order_by(Report.id)
    ).all()
    attachments = connection.execute(
        select(ReportAttachment.relative_path)
        .join_from(ReportAttachment, Report, ReportAttachment.report_id == Report.id)
        .where(Report.study_id == study_id)
    ).scalars()
    vectors = (
        select(func.count(Embedding.id))
        .join_from(Embedding, Clip, Embedding.clip_id == Clip.id)
        .where(Clip.series_id.in_(series))
    )
    return Belongings(
        study_instance_uid=study_instance_uid,
        series=len(connection.execute(series).all()),
        instances=len({row.sop_instance_uid for row in instances}),
        vectors=connection.execute(vectors).scalar_one(),
        files=tuple(row.relative_path for row in instances),
        reports=tuple(row.sop_instance_uid for row in reports),
        report_files=(*(row.relative_path for row in reports), *attachments),
        named_by=_mentions(connection, study_id, study_instance_uid),
    )


def _mentions(
    connection: Connection, study_id: int, study_instance_uid: str
) -> tuple[Mention, ...]:
    naming = (
        select(Study.study_instance_uid, Report.sop_instance_uid, Report.destination, Report.state)
        .join_from(ReportCase, Report, ReportCase.report_id == Report.id)
        .join(Study, Report.study_id == Study.id)
        .where(ReportCase.study_instance_uid == study_instance_uid, Study.id != study_id)
        .order_by(Report.id)
    )
    return tuple(Mention(*row) for row in connection.execute(naming))


def _jobs(study_id: int) -> Sequence[ColumnElement[bool]]:
    """Return which jobs are for a study, its series or its reports."""
    series = select(Series.id).where(Series.study_id == study_id)
    reports = select(Report.id).where(Report.study_id == study_id)
    return (
        and_(Job.kind == JobKind.REPORT, Job.subject_id == study_id),
        and_(Job.kind == JobKind.EMBED, Job.subject_id.in_(series)),
        and_(Job.kind.in_([JobKind.SEND, JobKind.COMMIT]), Job.subject_id.in_(reports)),
    )


def _delete_rejections(connection: Connection, study_id: int, study_instance_uid: str) -> None:
    uids = connection.execute(
        select(Instance.sop_instance_uid)
        .join_from(Instance, Series, Instance.series_id == Series.id)
        .where(Series.study_id == study_id)
    ).scalars()
    said_of = Rejection.study_instance_uid == study_instance_uid
    for part in chunks(sorted(set(uids))):
        connection.execute(delete(Rejection).where(Rejection.sop_instance_uid.in_(part), said_of))
