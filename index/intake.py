"""The arrival of an instance: one transaction that makes or refreshes its rows.

Owns the rules for the same instance twice, for a changed one and for another patient, and winds
the quiet timers. The files are the caller's: they are on disk before and stay there; the catalogue
only points to them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from sqlalchemy import Connection, Row, Table, bindparam, insert, select, update

from index.attributes import (
    IMAGE_ATTRIBUTES,
    SERIES_ATTRIBUTES,
    STUDY_ATTRIBUTES,
    Attribute,
    Level,
)
from index.db import Database, hold, repeated
from index.errors import KeptElsewhere
from index.inquiries import in_kept_study, inquire, kept_study
from index.lifecycle import held_series
from index.models import Base
from index.records import Header, QuietRule, Receipt, Recorded, StoredFile
from index.rejections import (
    Rejects,
    TakenOut,
    is_rejected,
    outdate_reports,
    take_out,
    take_out_remembered,
)
from index.states import Event, State, advance

# Core tables and prepared statements: this is the one place where a millisecond counts.
STUDY = Base.metadata.tables["study"]
SERIES = Base.metadata.tables["series"]
INSTANCE = Base.metadata.tables["instance"]

_VERSIONS = (
    select(INSTANCE, SERIES.c.study_id)
    .join_from(INSTANCE, SERIES)
    .where(INSTANCE.c.sop_instance_uid == bindparam("uid"))
)
_STUDY = select(STUDY).where(STUDY.c.study_instance_uid == bindparam("uid")).with_for_update()
_SERIES = (
    select(SERIES)
    .where(
        SERIES.c.study_id == bindparam("study"), SERIES.c.series_instance_uid == bindparam("uid")
    )
    .with_for_update()
)

_PATIENT_ATTRIBUTES = tuple(a for a in STUDY_ATTRIBUTES if a.level is Level.PATIENT)


class Intake(Database):
    """The part of the catalogue that receives."""

    @repeated
    def record(
        self,
        header: Header,
        stored: StoredFile,
        rule: QuietRule,
        *,
        rejects: Rejects | None = None,
    ) -> Recorded:
        """Enter an instance whose file is on disk; when this returns, so are its rows.

        The same bytes again are a DUPLICATE and change nothing, so that a folder taken in twice is
        what it was after the first time. New bytes under a known SOP Instance UID are REPLACED:
        all versions are kept, the newest is current, and the series concerned are DIRTY. With
        `rejects` the instance is a rejection note: what it names is taken out with it. A guest
        becomes a kept study, by the same bytes too.
        """
        with self.writing() as connection:
            named = () if rejects is None else (study for study, _ in rejects.instances)
            hold(connection, header.study_instance_uid, header.sop_instance_uid, *named)
            return _Arrival(connection, header, rule, self.now()).enter(stored, rejects)

    @repeated
    def record_query(
        self,
        header: Header,
        stored: StoredFile,
        rule: QuietRule,
        *,
        asked_by: str,
        erase: Callable[[], None],
    ) -> Recorded | None:
        """Enter an instance that a destination sent as a query; None where its study is kept.

        Such a study is only asked about, an unknown one becomes a guest. Raises KeptElsewhere for
        an instance that another study has, one that is kept: as part of a guest it would take its
        place. Both ways the file is no one's and `erase` must remove it, in the same transaction:
        an object that is sent to be kept meanwhile waits, and then finds no file.
        """
        with self.writing() as connection:
            hold(connection, header.study_instance_uid, header.sop_instance_uid)
            arrival = _Arrival(connection, header, rule, self.now(), asked_by)
            study_id = kept_study(connection, header.study_instance_uid)
            if study_id is None and not in_kept_study(connection, header.sop_instance_uid):
                return arrival.enter(stored)
            if study_id is not None:
                arrival.ask(study_id)
            if not arrival.knows(stored):
                erase()
            if study_id is None:
                raise KeptElsewhere(header.sop_instance_uid)
            return None


class _Arrival:
    """One instance on its way into the tables, inside one transaction."""

    def __init__(
        self,
        connection: Connection,
        header: Header,
        rule: QuietRule,
        now: float,
        asked_by: str = "",
    ) -> None:
        self._connection = connection
        self._header = header
        self._study_values = _clean(header, STUDY_ATTRIBUTES)
        self._rule = rule
        self._now = now
        self._asked_by = asked_by
        # A guest's silence is that of who asks, and asks for no other report.
        self._study_s = None if asked_by else rule.study_s
        self._patient_id = self._study_values["patient_id"]  # soon that of the study
        self._kept_id = 0  # of the study, if it was kept before
        self.rekeyed = False  # the study went to another patient

    def enter(self, stored: StoredFile, rejects: Rejects | None = None) -> Recorded:
        """Make or refresh all rows of the instance whose file is `stored`."""
        versions = self._versions()
        same = next((v for v in versions if v.sha256 == stored.sha256), None)
        if same is not None:
            self.again(same.study_id)
            return Recorded(
                Receipt.DUPLICATE,
                same.series_id,
                same.study_id,
                same.relative_path,
                stays_out=not any(version.current for version in versions),
            )
        # Before its study goes to the patient of the note.
        taken_out = TakenOut(0, 0, ()) if rejects is None else self.reject(rejects)
        study_id = self.study()
        if self.rekeyed:
            self.lost_some(take_out_remembered(self._connection, study_id))
        series_id = self.series(study_id)
        for older in (v for v in versions if v.current):
            self.retire(older, series_id)
        is_out = not any(version.current for version in versions) and any(
            version.study_id == self._kept_id for version in versions
        )
        rejected = self.instance(series_id, stored, is_out=is_out)
        return Recorded(
            Receipt.REPLACED if versions else Receipt.NEW,
            series_id,
            study_id,
            stored.relative_path,
            rekeyed=self.rekeyed,
            rejected=taken_out.instances,
            foreign=taken_out.foreign,
            stays_out=rejected,
        )

    def knows(self, stored: StoredFile) -> bool:
        """Tell whether a version of the instance has this file."""
        return any(version.sha256 == stored.sha256 for version in self._versions())

    def _versions(self) -> Sequence[Row[Any]]:
        return self._connection.execute(_VERSIONS, {"uid": self._header.sop_instance_uid}).all()

    def study(self) -> int:
        """Make or refresh the study; return its id."""
        values = self._study_values
        uid = {"uid": values["study_instance_uid"]}
        row = self._connection.execute(_STUDY, uid).one_or_none()
        if row is None:
            first = {"guest": bool(self._asked_by), "purge_at": None}
            return self.ask(self._insert(STUDY, values | first | self._first(self._study_s)))
        self._patient_id = self._patient_id or row.patient_id
        self._kept_id = 0 if row.guest else int(row.id)
        changes: dict[str, Any] = dict(_changes(row, values))
        changes |= {"guest": row.guest and bool(self._asked_by), "purge_at": None}
        if _other_patient(row, values):
            self.rekeyed = True
            # What is known of the patient before says nothing of this one.
            changes |= {a.column: values[a.column] for a in _PATIENT_ATTRIBUTES}
            outdate_reports(self._connection, [row.id])
        self._touch(STUDY, row, self._study_s, changes)
        return self.ask(int(row.id))

    def again(self, study_id: int) -> None:
        """Note that known bytes came: a guest is asked about anew, or kept from now on."""
        values: dict[str, Any] = {"purge_at": None}
        if not self._asked_by:
            values["guest"] = False
            if self._study_s is not None:
                values |= {"burst_started_at": self._now, "quiet_at": self._quiet_at(self._study_s)}
        guest = update(STUDY).where(STUDY.c.id == study_id, STUDY.c.guest)
        self._connection.execute(guest.values(values))
        self.ask(study_id)

    def ask(self, study_id: int) -> int:
        """Note who asks about the study, if someone does; return its id."""
        if self._asked_by:
            inquire(self._connection, study_id, self._asked_by, rule=self._rule, now=self._now)
        return study_id

    def series(self, study_id: int) -> int:
        """Make or refresh the series; return its id."""
        values = _clean(self._header, SERIES_ATTRIBUTES)
        uid = {"study": study_id, "uid": values["series_instance_uid"]}
        row = self._connection.execute(_SERIES, uid).one_or_none()
        if row is None:
            first = {"study_id": study_id, "revision": 1, "reason": ""}
            return self._insert(SERIES, values | first | self._first(self._rule.series_s))
        changes = {"revision": row.revision + 1} | _changes(row, values)
        self._touch(SERIES, row, self._rule.series_s, changes)
        return int(row.id)

    def instance(self, series_id: int, stored: StoredFile, *, is_out: bool) -> bool:
        """Insert the instance as the current version; tell whether it was rejected for good."""
        values = _clean(self._header, IMAGE_ATTRIBUTES)
        rejected = is_rejected(
            self._connection,
            values["sop_instance_uid"],
            study_instance_uid=self._study_values["study_instance_uid"],
            patient_id=self._patient_id,
            is_out=is_out,
        )
        self._insert(
            INSTANCE,
            values
            | {
                "series_id": series_id,
                "transfer_syntax_uid": self._header.transfer_syntax_uid,
                "sha256": stored.sha256,
                "size_bytes": stored.size_bytes,
                "relative_path": stored.relative_path,
                "received_at": self._now,
                "current": not rejected,
            },
        )
        return rejected

    def retire(self, version: Row[Any], series_id: int) -> None:
        """Make a version the older one; where it lies in another series, that one changed too."""
        outdated = update(INSTANCE).where(INSTANCE.c.id == version.id)
        self._connection.execute(outdated.values(current=False))
        if version.series_id != series_id:
            self.lost_some([version.series_id])

    def reject(self, rejects: Rejects) -> TakenOut:
        """Take out what a rejection note names, of the patient whom it names."""
        taken_out = take_out(self._connection, rejects, self._study_values["patient_id"])
        self.lost_some(taken_out.series_ids)
        return taken_out

    def lost_some(self, series_ids: Sequence[int]) -> None:
        """Tell series and their studies that they are no longer what they were."""
        for series_id in series_ids:
            study_id = held_series(self._connection, series_id).study_id
            row = self._connection.execute(select(SERIES).where(SERIES.c.id == series_id)).one()
            self._touch(SERIES, row, self._rule.series_s, {"revision": row.revision + 1})
            row = self._connection.execute(select(STUDY).where(STUDY.c.id == study_id)).one()
            self._touch(STUDY, row, None if row.guest else self._study_s, {"purge_at": None})

    def _insert(self, table: Table, values: Mapping[str, Any]) -> int:
        inserted = insert(table).returning(table.c.id)
        key: int = self._connection.execute(inserted, values).scalar_one()
        return key

    def _first(self, wait_s: float | None) -> dict[str, Any]:
        return {
            "state": State.RECEIVING,
            "burst_started_at": self._now,
            "last_received_at": self._now,
            "quiet_at": None if wait_s is None else self._quiet_at(wait_s),
        }

    def _quiet_at(self, wait_s: float) -> float:
        return self._now + min(wait_s, self._rule.cap_s)

    def _touch(
        self, table: Table, row: Row[Any], wait_s: float | None, changes: dict[str, Any]
    ) -> None:
        """Tell a study or series of the arrival: state, quiet timer and what else changed.

        A burst begins with the first instance after the timer fired. In a study of several
        modalities, the longest wait counts; without a wait, a timer that runs is left alone.
        """
        started = self._now if row.quiet_at is None else row.burst_started_at
        quiet_at = row.quiet_at
        if wait_s is not None:
            quiet_at = min(max(self._now + wait_s, quiet_at or 0.0), started + self._rule.cap_s)
        values: dict[str, Any] = {
            "state": advance(row.state, Event.INSTANCE),
            "burst_started_at": started,
            "last_received_at": self._now,
            "quiet_at": quiet_at,
        }
        touched = update(table).where(table.c.id == bindparam("key"))
        self._connection.execute(touched, values | changes | {"key": row.id})


def _other_patient(row: Row[Any], values: Mapping[str, str]) -> bool:
    """Tell whether the newest instance names another patient: another id, or another issuer."""
    if not values["patient_id"]:
        return False
    issuers = {row.issuer_of_patient_id, values["issuer_of_patient_id"]} - {""}
    return row.patient_id != values["patient_id"] or len(issuers) > 1


def _clean(header: Header, attributes: Iterable[Attribute]) -> dict[str, str]:
    return {a.column: a.clean(getattr(header, a.column)) for a in attributes}


def _changes(row: Row[Any], values: Mapping[str, str]) -> dict[str, str]:
    """Return what the newest instance says otherwise; an empty value says nothing."""
    known = row._mapping
    return {name: value for name, value in values.items() if value and value != known[name]}
