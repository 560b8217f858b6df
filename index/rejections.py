"""Rejected instances: out of the series, out of the vectors, and out for good if so decided.

Owns what a rejection does to rows, that it is believed of the patient whom it names alone, and that
reports on the study no longer hold. Which code of a rejection note has which consequence is the
caller's.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from typing import TypeAlias

from sqlalchemy import Connection, Row, and_, bindparam, delete, insert, select, update

from index.embeddings import chunks
from index.lifecycle import delete_clips, held_series
from index.models import Clip, Instance, Rejection, Report, Series, Study
from index.report_records import ReportState
from index.reports import move_reports

_SAID = select(Rejection.patient_id).where(
    Rejection.sop_instance_uid == bindparam("uid"),
    Rejection.study_instance_uid == bindparam("study"),
)

_VERSION = (
    select(
        Instance.id,
        Instance.sop_instance_uid,
        Study.study_instance_uid,
        Study.patient_id,
        Study.guest,
        Instance.series_id,
        Series.study_id,
        Instance.relative_path,
        Instance.current,
    )
    .join_from(Instance, Series, Instance.series_id == Series.id)
    .join(Study, Series.study_id == Study.id)
)
Version: TypeAlias = Row[int, str, str, str, bool, int, int, str, bool]


@dataclass(frozen=True, slots=True, kw_only=True)
class Rejects:
    """What a rejection note says: its code, and what it takes out.

    `instances` are pairs of Study and SOP Instance UID. `lasting`: they stay out when they are sent
    again, or for the first time. With `erase` they are deleted; it gets their relative paths and
    must remove the files, just before the rows go.
    """

    code: str
    instances: tuple[tuple[str, str], ...]
    lasting: bool
    erase: Callable[[Collection[str]], None] | None = None


@dataclass(frozen=True, slots=True)
class TakenOut:
    """How many instances were found, the series that lost some, and how many were not believed.

    Those are `foreign`: kept as part of another study, or of another patient.
    """

    instances: int
    foreign: int
    series_ids: tuple[int, ...]


def take_out(connection: Connection, rejects: Rejects, patient_id: str) -> TakenOut:
    """Take instances out at once: no search finds a vector that one of them went into.

    Only those of the patient whom the note names are meant.
    """
    found = _versions(connection, {uid for _, uid in rejects.instances})
    named = set(rejects.instances)
    of_studies = [version for version in found if _pair(version) in named]
    versions = [version for version in of_studies if version.patient_id == patient_id]
    foreign = {v.sop_instance_uid for v in found} - {v.sop_instance_uid for v in versions}
    if rejects.lasting:
        # What a guest says of its patient is no more than an assertion of who asks.
        of_others = {_pair(v) for v in of_studies if v.patient_id != patient_id and not v.guest}
        _remember(connection, rejects.code, sorted(named - of_others), patient_id)
    for series_id in sorted({version.series_id for version in versions}):
        held_series(connection, series_id)  # no vector of it is saved meanwhile
    if rejects.erase is not None:
        rejects.erase([version.relative_path for version in versions])
        for part in chunks([version.id for version in versions]):
            connection.execute(delete(Instance).where(Instance.id.in_(part)))
    else:
        versions = [version for version in versions if version.current]
        _retire(connection, versions)
    series_ids = _clear(connection, versions)
    return TakenOut(len({v.sop_instance_uid for v in versions}), len(foreign), series_ids)


def take_out_remembered(connection: Connection, study_id: int) -> tuple[int, ...]:
    """Take out of a study what was rejected of the patient to whom it went; return the series."""
    said = and_(
        Rejection.sop_instance_uid == Instance.sop_instance_uid,
        Rejection.study_instance_uid == Study.study_instance_uid,
        Rejection.patient_id == Study.patient_id,
    )
    rejected = _VERSION.join(Rejection, said).where(Study.id == study_id, Instance.current)
    versions = connection.execute(rejected).all()
    _retire(connection, versions)
    return _clear(connection, versions)


def outdate_reports(connection: Connection, study_ids: Collection[int]) -> None:
    """Note that the reports on these studies no longer say the truth: others must follow."""
    for part in chunks(sorted(study_ids)):
        move_reports(connection, ReportState.OUTDATED, Report.study_id.in_(part))


def is_rejected(
    connection: Connection,
    sop_instance_uid: str,
    *,
    study_instance_uid: str,
    patient_id: str,
    is_out: bool,
) -> bool:
    """Tell whether an instance that comes is to stay out.

    `patient_id` is that of its study. One that `is_out` of this study already stays so for any
    patient: what was rejected does not come back by a correction of who was examined.
    """
    rejections = connection.execute(
        _SAID, {"uid": sop_instance_uid, "study": study_instance_uid}
    ).scalars()
    said_of = set(rejections)
    return patient_id in said_of or (is_out and bool(said_of))


def _remember(
    connection: Connection, code: str, instances: Sequence[tuple[str, str]], patient_id: str
) -> None:
    for part in chunks(instances):
        known = select(Rejection.study_instance_uid, Rejection.sop_instance_uid).where(
            Rejection.sop_instance_uid.in_([uid for _, uid in part]),
            Rejection.patient_id == patient_id,
        )
        new = set(part) - {tuple(row) for row in connection.execute(known)}
        rows = [
            {
                "sop_instance_uid": sop_instance_uid,
                "study_instance_uid": study_instance_uid,
                "patient_id": patient_id,
                "code": code,
            }
            for study_instance_uid, sop_instance_uid in sorted(new)
        ]
        if rows:
            connection.execute(insert(Rejection), rows)


def _versions(connection: Connection, sop_instance_uids: Collection[str]) -> list[Version]:
    return [
        row
        for part in chunks(sorted(sop_instance_uids))
        for row in connection.execute(_VERSION.where(Instance.sop_instance_uid.in_(part)))
    ]


def _pair(version: Version) -> tuple[str, str]:
    return version.study_instance_uid, version.sop_instance_uid


def _retire(connection: Connection, versions: Sequence[Version]) -> None:
    for part in chunks([version.id for version in versions]):
        connection.execute(update(Instance).where(Instance.id.in_(part)).values(current=False))


def _clear(connection: Connection, versions: Sequence[Version]) -> tuple[int, ...]:
    """Delete what was made of versions that are out, vectors and reports; return the series."""
    uids = {version.sop_instance_uid for version in versions}
    series_ids = sorted({version.series_id for version in versions})
    for series_id in series_ids:
        _delete_clips(connection, series_id, uids)
    outdate_reports(connection, {version.study_id for version in versions})
    return tuple(series_ids)


def _delete_clips(connection: Connection, series_id: int, rejected: Collection[str]) -> None:
    """Delete the clips that a rejected instance is part of, and their vectors with them."""
    clips = connection.execute(select(Clip.id, Clip.sources).where(Clip.series_id == series_id))
    touched = [clip.id for clip in clips if not set(rejected).isdisjoint(clip.sources)]
    for part in chunks(touched):
        delete_clips(connection, Clip.id.in_(part))
