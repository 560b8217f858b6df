"""Generations: which model's vectors answer, which are being filled beside them, which were.

What one is stands in `generation`. One generation answers; the change to another is
one transaction, which finds that the other lacks nothing. What a series could not be embedded for
stands in a gap. Makes no vectors.
"""

from __future__ import annotations

from sqlalchemy import (
    ColumnElement,
    Connection,
    Row,
    Select,
    SQLColumnExpression,
    and_,
    delete,
    exists,
    func,
    insert,
    or_,
    select,
    update,
)
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import aliased

from index.attributes import TEXT_LENGTH
from index.db import Database, repeated
from index.errors import OtherGeneration, UnknownGeneration, UnknownKey
from index.generation import (
    Gap,
    Generation,
    GenerationGap,
    GenerationRow,
    GenerationState,
    Lacking,
    Made,
)
from index.models import Clip, Embedding, Series
from index.pgvector_table import drop_table
from index.space import TextSpace
from index.states import REPORTABLE_STATES, State

_WITH_VECTORS = (State.EMBEDDED, *REPORTABLE_STATES)
_DROPPED_AT_A_TIME = 500  # rows deleted in one transaction: intake waits no longer than for these


class Generations(Database):
    """The part of the catalogue that knows whose vectors answer."""

    def generations(self) -> tuple[GenerationRow, ...]:
        """Return all generations, in the order in which they were begun."""
        with self.reading() as connection:
            rows = connection.execute(_ALL.order_by(Generation.started_at, Generation.model_id))
            return tuple(map(_row, rows))

    def answering_generation(self) -> GenerationRow | None:
        """Return the generation whose vectors answer; None before the first."""
        with self.reading() as connection:
            row = connection.execute(_ALL.where(_ANSWERS)).one_or_none()
            return None if row is None else _row(row)

    def adopt_generation(self, made: Made) -> GenerationRow:
        """Let the first generation be this one; return the one that answers, which may be older."""
        try:
            with self.writing() as connection:
                if connection.execute(_ALL.where(_ANSWERS)).first() is None:
                    _begin(connection, made, self.now())
                    _let_answer(connection, made.model_id, self.now())
        except IntegrityError:  # another node was faster (PostgreSQL)
            pass
        found = self.answering_generation()
        if found is None:
            raise UnknownGeneration(made.model_id)
        return found

    def begin_generation(self, made: Made) -> GenerationRow:
        """Let a generation be filled, anew or again; the one that answers goes on doing so."""
        with self.writing() as connection:
            _begin(connection, made, self.now())
            wanted = _ALL.where(Generation.model_id == made.model_id)
            return _row(connection.execute(wanted).one())

    def lacking_series(self, model_id: str) -> Lacking:
        """Return the series that a generation needs before it may answer.

        Those that have vectors, and those that the answering generation has older ones of: without
        vectors of the same revision or a later one, and without a gap that says why.
        """
        with self.reading() as connection:
            seen = connection.execute(select(func.max(Embedding.id))).scalar_one() or 0
            rows = connection.execute(_lacking(connection, model_id).order_by(Series.id))
            return Lacking(tuple(rows.scalars()), seen)

    def note_gap(self, model_id: str, series_id: int, revision: int, reason: str) -> None:
        """Note why a generation has no vectors of a series at this revision, or not all."""
        gap = {"model_id": model_id, "series_id": series_id}
        with self.writing() as connection:
            known = select(Series.id).where(Series.id == series_id).with_for_update(read=True)
            if connection.execute(known).first() is None:
                raise UnknownKey("series", series_id)
            connection.execute(delete(GenerationGap).filter_by(**gap))
            values = gap | {"revision": revision, "reason": reason[:TEXT_LENGTH]}
            connection.execute(insert(GenerationGap).values(values))

    def gaps(self, model_id: str) -> tuple[Gap, ...]:
        """Return the gaps of a generation that still hold: not those of series that changed."""
        with self.reading() as connection:
            rows = connection.execute(
                select(Series.series_instance_uid, GenerationGap.reason)
                .join_from(GenerationGap, Series, GenerationGap.series_id == Series.id)
                .where(
                    GenerationGap.model_id == model_id, GenerationGap.revision == Series.revision
                )
                .order_by(Series.id)
            )
            return tuple(Gap(*row) for row in rows)

    def forget_gaps(self, model_id: str) -> None:
        """Let the series of all gaps be tried again."""
        with self.writing() as connection:
            connection.execute(delete(GenerationGap).where(GenerationGap.model_id == model_id))

    def swap_generation(self, model_id: str, seen: int) -> bool:
        """Let a generation answer from now on; False when it lacks what came in after `seen`.

        `seen` is that of a `Lacking` without series. Raises UnknownGeneration.
        """
        with self.writing() as connection:
            connection.execute(select(Generation.model_id).with_for_update()).all()
            known = select(Generation.model_id).where(Generation.model_id == model_id)
            if connection.execute(known).first() is None:
                raise UnknownGeneration(model_id)
            lacking = _lacking(connection, model_id)
            if self.engine.dialect.name == "sqlite":
                # Ids are given in the order of commits: only what is newer needs to be looked at.
                newer = select(Clip.series_id).join_from(Clip, Embedding).where(Embedding.id > seen)
                lacking = lacking.where(Series.id.in_(newer))
            if connection.execute(lacking.limit(1)).first() is not None:
                return False
            _let_answer(connection, model_id, self.now())
            return True

    def drop_generations(self) -> tuple[str, ...]:
        """Mark every generation that does not answer as one to be deleted; return their ids."""
        with self.writing() as connection:
            connection.execute(
                update(Generation).where(~_ANSWERS).values(state=GenerationState.DROPPED)
            )
            dropped = select(Generation.model_id).where(_IS_DROPPED)
            return tuple(connection.execute(dropped).scalars())

    @repeated
    def delete_dropped(self) -> int:
        """Delete some vectors of a dropped generation, or its row when none is left; count.

        With the row go its text spaces, and the tables that pgvector may have had.
        """
        dropped = select(Generation.model_id).where(_IS_DROPPED).limit(1)
        with self.reading() as connection:  # a node asks all the time: no lock for nothing
            model_id = connection.execute(dropped).scalar_one_or_none()
        if model_id is None:
            return 0
        with self.writing() as connection:
            # Held until the end: else it could be begun again while its vectors go.
            still = dropped.where(Generation.model_id == model_id).with_for_update()
            if connection.execute(still).first() is None:
                return 0  # begun again just now
            some = (
                select(Embedding.id, Embedding.clip_id)
                .where(Embedding.model_id == model_id)
                .limit(_DROPPED_AT_A_TIME)
            )
            rows = connection.execute(some).all()
            if not rows:
                spaces = select(TextSpace.space_id).where(TextSpace.image_model_id == model_id)
                for maker in (model_id, *connection.execute(spaces).scalars()):
                    drop_table(connection, maker)
                gone = delete(Generation).where(Generation.model_id == model_id, _IS_DROPPED)
                return connection.execute(gone).rowcount
            connection.execute(delete(Embedding).where(Embedding.id.in_([r.id for r in rows])))
            bare = ~exists().where(Embedding.clip_id == Clip.id)
            clips = delete(Clip).where(Clip.id.in_([r.clip_id for r in rows]), bare)
            connection.execute(clips)
            return len(rows)

    def embedded_series(self, model_id: str) -> tuple[int, ...]:
        """Return the series that a model has vectors of in their present revision."""
        vector = aliased(Embedding)
        up_to_date = _clip_with(
            vector, vector.model_id == model_id, vector.revision == Series.revision
        )
        with self.reading() as connection:
            rows = connection.execute(
                select(Series.id).where(up_to_date.exists()).order_by(Series.id)
            )
            return tuple(rows.scalars())

    def incomplete_series(self, model_id: str) -> tuple[str, ...]:
        """Return the series that a generation has fewer vectors of than the answering one.

        By Series Instance UID; of the same revision, and without a gap that says why. Those that
        it has none of are `lacking_series`: what came in while the generation was looked at.
        """
        with self.reading() as connection:
            gap = exists().where(
                GenerationGap.series_id == Series.id,
                GenerationGap.model_id == model_id,
                GenerationGap.revision >= Series.revision,
            )
            own = _clips_of(model_id)
            fewer = and_(own > 0, own < _clips_of(_answering(connection)))
            rows = connection.execute(
                select(Series.series_instance_uid)
                .where(Series.state.in_(_WITH_VECTORS), ~gap, fewer)
                .order_by(Series.id)
            )
            return tuple(rows.scalars())


_ALL = select(*Generation.__table__.c)
_ANSWERS = Generation.state == GenerationState.ANSWERING
_IS_DROPPED = Generation.state == GenerationState.DROPPED


def check_answering(connection: Connection, model_id: str) -> None:
    """Refuse vectors of a model that does not answer (any more); raises OtherGeneration.

    On PostgreSQL the generation stays what it is until the transaction ends.
    """
    mine = select(Generation.state).where(Generation.model_id == model_id)
    connection.execute(mine.with_for_update(read=True)).all()
    answering = _answering(connection)
    if answering not in ("", model_id):
        raise OtherGeneration(model_id, answering)


def _answering(connection: Connection) -> str:
    found = connection.execute(select(Generation.model_id).where(_ANSWERS)).scalar_one_or_none()
    return found or ""


def _begin(connection: Connection, made: Made, now: float) -> None:
    """Insert a generation, or let one that does not answer be filled again."""
    again = update(Generation).where(Generation.model_id == made.model_id, ~_ANSWERS)
    connection.execute(again.values(state=GenerationState.FILLING))
    known = select(Generation.model_id).where(Generation.model_id == made.model_id)
    if connection.execute(known).first() is None:
        connection.execute(
            insert(Generation).values(
                model_id=made.model_id,
                name=made.name[:TEXT_LENGTH],
                version=made.version[:TEXT_LENGTH],
                trained=made.trained,
                dim=made.dim,
                state=GenerationState.FILLING,
                started_at=now,
            )
        )


def _let_answer(connection: Connection, model_id: str, now: float) -> None:
    former = update(Generation).where(_ANSWERS, Generation.model_id != model_id)
    connection.execute(former.values(state=GenerationState.RETIRED))
    chosen = update(Generation).where(Generation.model_id == model_id)
    connection.execute(chosen.values(state=GenerationState.ANSWERING, answered_at=now))


def _lacking(connection: Connection, model_id: str) -> Select[int]:
    """Return, as SQL, the ids of the series that a generation lacks."""
    answering = _answering(connection)
    has_own = and_(
        Series.state.in_(_WITH_VECTORS), ~_covered(model_id, Series.revision, at_least=False)
    )
    old = aliased(Embedding)
    is_newer = ~_covered(model_id, old.revision, at_least=True)
    has_others = _clip_with(old, old.model_id == answering, is_newer).exists()
    return select(Series.id).where(or_(has_own, has_others))


def _covered(
    model_id: str, revision: SQLColumnExpression[int], *, at_least: bool
) -> ColumnElement[bool]:
    """Tell, as SQL, whether a generation has vectors of a series at a revision, or a gap."""
    vector = aliased(Embedding)
    reached = vector.revision >= revision if at_least else vector.revision == revision
    gap = (
        exists()
        .where(
            GenerationGap.series_id == Series.id,
            GenerationGap.model_id == model_id,
            GenerationGap.revision >= revision,
        )
        .correlate_except(GenerationGap)
    )
    return or_(_clip_with(vector, vector.model_id == model_id, reached).exists(), gap)


def _clips_of(model_id: str) -> ColumnElement[int]:
    """Count, as SQL, a series' clips that have a vector of its present revision by a model."""
    vector = aliased(Embedding)
    counted = _clip_with(vector, vector.model_id == model_id, vector.revision == Series.revision)
    return counted.with_only_columns(func.count()).scalar_subquery()


def _clip_with(vector: type[Embedding], *conditions: ColumnElement[bool]) -> Select[int]:
    """Select, as SQL, the clips of a series of the outer statement that have such a vector."""
    clip = aliased(Clip)
    # Not joined: SQLite would begin at the index of models and read all of one, for each series.
    has_vector = exists().where(vector.clip_id == clip.id, *conditions).correlate_except(vector)
    found = select(clip.id).where(clip.series_id == Series.id, has_vector)
    return found.correlate_except(clip)  # also where it stands two levels deep


def _row(row: Row[tuple[object, ...]]) -> GenerationRow:
    return GenerationRow(**row._asdict())
