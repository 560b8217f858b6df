"""How series and studies go from state to state after they were received.

Owns the quiet timers' firing, the derivation of a study's state from its series, and how clips go.
Which state follows which is the table in `states`. Every call may be repeated.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from sqlalchemy import (
    ColumnElement,
    Connection,
    Row,
    ScalarSelect,
    SQLColumnExpression,
    delete,
    func,
    select,
    update,
)

from index.attributes import TEXT_LENGTH
from index.db import Database
from index.errors import UnknownKey
from index.jobs import JobKind, enqueue
from index.models import Clip, Embedding, Report, Series, Study
from index.report_records import ReportState
from index.states import (
    OPEN_STATES,
    REPORTABLE_STATES,
    SETTLED_STATES,
    Event,
    State,
    advance,
)


class Lifecycle(Database):
    """The part of the catalogue that moves series and studies on."""

    def close_quiet(self, force: bool = False) -> int:
        """Make every series QUIET whose timer has run out, with a job to embed it; count them.

        `force` does not wait for the timers.
        """
        with self.writing() as connection:
            now = self.now()
            due = select(Series.id, Series.state).where(Series.state.in_(OPEN_STATES))
            if not force:
                due = due.where(Series.quiet_at <= now)
            # One that something arrives for, or that another node closes, is not ours now.
            due = due.order_by(Series.quiet_at).with_for_update(skip_locked=True)
            rows = connection.execute(due).all()
            for series_id, state in rows:
                moved = update(Series).where(Series.id == series_id)
                connection.execute(moved.values(state=advance(state, Event.QUIET), quiet_at=None))
                enqueue(connection, JobKind.EMBED, series_id, due_at=now)
            return len(rows)

    def close_studies(self, force: bool = False) -> int:
        """Ask for a report on every study that is indexed and whose timer ran out; count them.

        A study is indexed when all its series are settled and one of them has vectors. `force`
        does not wait for the timers.
        """
        with self.writing() as connection:
            now = self.now()
            due = select(Study.id).where(
                Study.state.in_(REPORTABLE_STATES), Study.quiet_at.is_not(None)
            )
            if not force:
                due = due.where(Study.quiet_at <= now)
            due = due.order_by(Study.quiet_at).with_for_update(skip_locked=True)
            studies = connection.execute(due).scalars().all()
            for study_id in studies:
                connection.execute(update(Study).where(Study.id == study_id).values(quiet_at=None))
                enqueue(connection, JobKind.REPORT, study_id, due_at=now)
            return len(studies)

    def retry_quarantined(self, series_instance_uids: Collection[str] = ()) -> tuple[str, ...]:
        """Ask for quarantined series to be embedded again, all or those named; return their UIDs.

        They stay quarantined until that is done. No report is asked for.
        """
        with self.writing() as connection:
            now = self.now()
            rows = connection.execute(
                select(Series.id, Series.series_instance_uid)
                .where(Series.state == State.QUARANTINED)
                .order_by(Series.id)
            ).all()
            wanted = set(series_instance_uids)
            chosen = [row for row in rows if not wanted or row.series_instance_uid in wanted]
            for row in chosen:
                enqueue(connection, JobKind.EMBED, row.id, due_at=now)
            return tuple(row.series_instance_uid for row in chosen)

    def mark_indexed(self, series_id: int, revision: int) -> State:
        """Note that the vectors of a series can be found; return its state.

        Like all moves of a series it has no effect when the series changed since `revision`.
        """
        with self.writing() as connection:
            return move_series(connection, series_id, revision, Event.INDEX)

    def quarantine(self, series_id: int, revision: int, reason: str) -> State:
        """Put a series aside that cannot be read, with its vectors removed; return its state."""
        with self.writing() as connection:
            return put_aside(connection, series_id, revision, Event.REJECT, reason)

    def skip(self, series_id: int, revision: int, reason: str) -> State:
        """Pass over a series that holds nothing to embed; return its state."""
        with self.writing() as connection:
            return put_aside(connection, series_id, revision, Event.SKIP, reason)

    def mark_reported(self, study_id: int) -> State:
        """Note that the similar cases of a study were reported; return its state."""
        with self.writing() as connection:
            _move_study(connection, study_id, Event.REPORT)
            return commit_study(connection, study_id)


def move_series(
    connection: Connection, series_id: int, revision: int, event: Event, *, reason: str = ""
) -> State:
    """Let `event` happen to a series, and to its study when it was the last to settle."""
    found, found_revision, study_id = held_series(connection, series_id)
    if found_revision != revision:
        return found
    state = advance(found, event)
    moved = update(Series).where(Series.id == series_id)
    connection.execute(moved.values(state=state, quiet_at=None, reason=reason))
    if state in SETTLED_STATES:
        _settle(connection, study_id)
    return state


def held_series(connection: Connection, series_id: int) -> Row[State, int, int]:
    """Return state, revision and study of a series; both are locked. Raises UnknownKey."""
    # In the order of intake: else two could wait for each other.
    of_series = select(Series.study_id).where(Series.id == series_id).scalar_subquery()
    connection.execute(select(Study.id).where(Study.id == of_series).with_for_update())
    columns = select(Series.state, Series.revision, Series.study_id)
    held = columns.where(Series.id == series_id).with_for_update()
    row = connection.execute(held).one_or_none()
    if row is None:
        raise UnknownKey("series", series_id)
    return row


def study_revision(study_id: SQLColumnExpression[int] | int) -> ScalarSelect[int]:
    """Return, as SQL, a number that every change of a study's instances raises."""
    # A series goes with its study only, so the sum never falls.
    revisions = func.coalesce(func.sum(Series.revision), 0)
    return select(revisions).where(Series.study_id == study_id).scalar_subquery()


def commit_study(connection: Connection, study_id: int) -> State:
    """Let COMMIT happen to a study if all destinations keep its newest report; return its state."""
    newest = (
        select(func.max(Report.id)).where(Report.study_id == study_id).group_by(Report.destination)
    )
    states = connection.execute(select(Report.state).where(Report.id.in_(newest))).scalars().all()
    if states and set(states) == {ReportState.COMMITTED}:
        return _move_study(connection, study_id, Event.COMMIT)
    return connection.execute(select(Study.state).where(Study.id == study_id)).scalar_one()


def put_aside(
    connection: Connection, series_id: int, revision: int, event: Event, reason: str
) -> State:
    """Let REJECT or SKIP happen to a series, and remove its vectors."""
    reason = reason[:TEXT_LENGTH]
    state = move_series(connection, series_id, revision, event, reason=reason)
    if state in (State.QUARANTINED, State.SKIPPED):
        # What the vectors showed is no longer what is stored.
        delete_clips(connection, Clip.series_id == series_id)
    return state


def delete_clips(connection: Connection, clips: ColumnElement[bool]) -> None:
    """Delete clips, after their vectors.

    In the order of `save_words`, which holds vectors and then comes to their clips: a cascade goes
    the other way, and each would wait for the other.
    """
    vectors = Embedding.clip_id.in_(select(Clip.id).where(clips))
    connection.execute(select(Embedding.id).where(vectors).order_by(Embedding.id).with_for_update())
    connection.execute(delete(Embedding).where(vectors))
    connection.execute(delete(Clip).where(clips))


def _settle(connection: Connection, study_id: int) -> None:
    """Derive a study's state from its series, once all of them are settled."""
    rows = connection.execute(select(Series.state).where(Series.study_id == study_id))
    states = set(rows.scalars())
    if not states <= set(SETTLED_STATES):
        return
    if State.INDEXED in states:
        _move_study(connection, study_id, Event.INDEX)
    else:
        event = Event.REJECT if State.QUARANTINED in states else Event.SKIP
        _move_study(connection, study_id, event, quiet_at=None)  # there is nothing to report


def _move_study(connection: Connection, study_id: int, event: Event, **values: Any) -> State:
    found = select(Study.state).where(Study.id == study_id).with_for_update()
    row = connection.execute(found).one_or_none()
    if row is None:
        raise UnknownKey("study", study_id)
    state = advance(row.state, event)
    connection.execute(update(Study).where(Study.id == study_id).values(state=state, **values))
    return state
