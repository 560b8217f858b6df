"""Where rows disagree with files or with each other, and what is done about it.

Owns what `similis check` asks of the catalogue. Looks at no file: whoever asks does.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from sqlalchemy import Connection, delete, exists, or_, select, update

from index.db import Database
from index.embeddings import unfitness
from index.jobs import JobKind, enqueue
from index.models import Clip, Embedding, Instance, Report, ReportAttachment, Series, Study
from index.report_records import ReportState
from index.states import Event, advance

_PAGE = 1_000  # rows read in one transaction
# Sent, or of no use any more: nobody reads the file again.
AT_DESTINATION = (ReportState.SENT, ReportState.COMMITTED, ReportState.OUTDATED)


@dataclass(frozen=True, slots=True)
class Lost:
    """An instance of which a version was lost."""

    sop_instance_uid: str
    study_instance_uid: str


@dataclass(frozen=True, slots=True)
class Unfit:
    """A vector that cannot be compared with, and why."""

    embedding_id: int
    series_id: int
    series_instance_uid: str
    reason: str


class Repairs(Database):
    """The part of the catalogue that is put right."""

    def lose_version(self, relative_path: str) -> Lost | None:
        """Delete the row of a file that is lost; None when there is none (any more).

        The series is embedded anew. No older version takes its place: it may have been rejected.
        The same bytes sent again are new, and kept.
        """
        with self.writing() as connection:
            found = connection.execute(
                select(
                    Instance.id,
                    Instance.sop_instance_uid,
                    Instance.current,
                    Instance.series_id,
                    Study.study_instance_uid,
                )
                .join_from(Instance, Series, Instance.series_id == Series.id)
                .join(Study, Series.study_id == Study.id)
                .where(Instance.relative_path == relative_path)
            ).first()
            if found is None:
                return None
            connection.execute(delete(Instance).where(Instance.id == found.id))
            if found.current:
                self._touch(connection, found.series_id)
            return Lost(found.sop_instance_uid, found.study_instance_uid)

    def unfit_vectors(self, model_id: str, dim: int) -> Iterator[Unfit]:
        """Yield the vectors by a model that are of another length, not finite or not unit rows."""
        last = 0
        while True:
            with self.reading() as connection:
                rows = connection.execute(
                    select(
                        Embedding.id, Embedding.vector, Clip.series_id, Series.series_instance_uid
                    )
                    .join_from(Embedding, Clip, Embedding.clip_id == Clip.id)
                    .join(Series, Clip.series_id == Series.id)
                    .where(Embedding.model_id == model_id, Embedding.id > last)
                    .order_by(Embedding.id)
                    .limit(_PAGE)
                ).all()
            for row in rows:
                last = row.id
                if reason := unfitness(row.vector, dim):
                    yield Unfit(row.id, row.series_id, row.series_instance_uid, reason)
            if not rows:
                return

    def delete_vector(self, unfit: Unfit) -> None:
        """Delete a vector, and ask for its series to be embedded again."""
        with self.writing() as connection:
            connection.execute(delete(Embedding).where(Embedding.id == unfit.embedding_id))
            known = select(Series.id).where(Series.id == unfit.series_id)
            if connection.execute(known).first() is not None:
                enqueue(connection, JobKind.EMBED, unfit.series_id, due_at=self.now())

    def stray_vectors(self) -> tuple[int, ...]:
        """Return the vectors without a clip, or whose clip has no series."""
        whole = exists().where(Clip.id == Embedding.clip_id, Series.id == Clip.series_id)
        with self.reading() as connection:
            rows = connection.execute(select(Embedding.id).where(~whole).order_by(Embedding.id))
            return tuple(rows.scalars())

    def delete_stray_vectors(self) -> int:
        """Delete the vectors without a clip, and clips without a series; count the vectors."""
        whole = exists().where(Clip.id == Embedding.clip_id, Series.id == Clip.series_id)
        series = exists().where(Series.id == Clip.series_id)
        with self.writing() as connection:
            deleted = connection.execute(delete(Embedding).where(~whole)).rowcount
            connection.execute(delete(Clip).where(~series))
            return deleted

    def replace_report(self, relative_path: str) -> ReportState | None:
        """Have a report written anew whose file is lost, unless its destination has it.

        Returns the state in which it was found, None when no report has that file (any more).
        """
        attached = select(ReportAttachment.report_id).where(
            ReportAttachment.relative_path == relative_path
        )
        named = or_(Report.relative_path == relative_path, Report.id.in_(attached))
        with self.writing() as connection:
            found = connection.execute(
                select(Report.id, Report.state, Report.study_id).where(named)
            ).first()
            if found is None:
                return None
            if found.state not in AT_DESTINATION:
                outdated = update(Report).where(Report.id == found.id)
                connection.execute(outdated.values(state=ReportState.OUTDATED))
                enqueue(connection, JobKind.REPORT, found.study_id, due_at=self.now())
            return ReportState(found.state)

    def _touch(self, connection: Connection, series_id: int) -> None:
        """Tell a series and its study that an instance changed; no report is asked for."""
        series = connection.execute(
            select(Series.state, Series.revision, Series.study_id).where(Series.id == series_id)
        ).one()
        changed = update(Series).where(Series.id == series_id)
        connection.execute(
            changed.values(
                state=advance(series.state, Event.INSTANCE),
                revision=series.revision + 1,
                quiet_at=self.now(),
            )
        )
        study = select(Study.state).where(Study.id == series.study_id)
        state = advance(connection.execute(study).scalar_one(), Event.INSTANCE)
        changed_study = update(Study).where(Study.id == series.study_id)
        connection.execute(changed_study.values(state=state))
