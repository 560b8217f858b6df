"""Inquiries: who asks about a study, and when it is time to answer them.

An inquiry is made by sending the study. One that is not kept is a guest: it is no answer to anyone
and goes when its inquiries are answered, which `removal` owns; one that is kept is left as it is.
"""

from __future__ import annotations

from sqlalchemy import (
    ColumnElement,
    Connection,
    and_,
    bindparam,
    insert,
    literal,
    select,
    update,
)

from index.db import Database
from index.jobs import JobKind, enqueue
from index.models import Inquiry, Instance, Series, Study
from index.records import QuietRule
from index.states import SETTLED_STATES

_HELD = (
    select(Study.id, Study.guest)
    .where(Study.study_instance_uid == bindparam("uid"))
    .with_for_update()
)


class Inquiries(Database):
    """The part of the catalogue that knows who asks about a study."""

    def close_inquiries(self, force: bool = False) -> int:
        """Ask for a report to everyone who asked about a settled study and fell silent; count them.

        `force` does not wait for the timers.
        """
        with self.writing() as connection:
            now = self.now()
            due = (
                select(Inquiry.study_id, Inquiry.destination)
                .join(Study, Inquiry.study_id == Study.id)
                .where(Inquiry.quiet_at.is_not(None), Study.state.in_(SETTLED_STATES))
            )
            if not force:
                due = due.where(Inquiry.quiet_at <= now)
            due = due.order_by(Inquiry.quiet_at).with_for_update(of=Inquiry, skip_locked=True)
            rows = connection.execute(due).all()
            for study_id, destination in rows:
                closed = update(Inquiry).where(_of(study_id, destination))
                connection.execute(closed.values(quiet_at=None))
                enqueue(connection, JobKind.REPORT, study_id, destination=destination, due_at=now)
            return len(rows)


def kept_study(connection: Connection, study_instance_uid: str) -> int | None:
    """Return the id of a study that is kept; None for a guest or an unknown one.

    A guest is held as well: else it might be kept by the time that this is acted upon.
    """
    row = connection.execute(_HELD, {"uid": study_instance_uid}).one_or_none()
    return None if row is None or row.guest else row.id


def in_kept_study(connection: Connection, sop_instance_uid: str) -> bool:
    """Tell whether an instance is part of a study that is kept."""
    found = (
        select(literal(1))
        .join_from(Instance, Series, Instance.series_id == Series.id)
        .join(Study, Series.study_id == Study.id)
        .where(Instance.sop_instance_uid == sop_instance_uid, Study.guest.is_(False))
    )
    return connection.execute(found).first() is not None


def inquire(
    connection: Connection, study_id: int, destination: str, *, rule: QuietRule, now: float
) -> None:
    """Wind the timer of an inquiry; a burst begins with the first instance after it fired."""
    inquiry = _of(study_id, destination)
    row = connection.execute(
        select(Inquiry.asked_at, Inquiry.quiet_at).where(inquiry)
    ).one_or_none()
    started = now if row is None or row.quiet_at is None else row.asked_at
    quiet_at = min(now + (rule.study_s or 0.0), started + rule.cap_s)
    values = {"asked_at": started, "quiet_at": quiet_at}
    if row is None:
        new = insert(Inquiry).values(study_id=study_id, destination=destination)
        connection.execute(new.values(values))
    else:
        connection.execute(update(Inquiry).where(inquiry).values(values))


def _of(study_id: int, destination: str) -> ColumnElement[bool]:
    return and_(Inquiry.study_id == study_id, Inquiry.destination == destination)
