"""Rejected instances: out of the series, out of the vectors, and out for good if so decided.

Owns what a rejection does to rows, that it is believed of the patient whom it names alone, and that
reports on the study no longer hold. Which code of a rejection note has which consequence is the
caller's.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass

from sqlalchemy import Connection, Row, and_, bindparam, delete, insert, not_, select, update

from index.embeddings import chunks
from index.models import Clip, Instance, Rejection, Report, Series, Study
from index.records import ReportState

_SAID = select(Rejection.study_instance_uid, Rejection.patient_id).where(
    Rejection.sop_instance_uid == bindparam("uid")
)


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
    versions = [
        version
        for version in found
        if (version.study_instance_uid, version.sop_instance_uid) in named
        and version.patient_id == patient_id
    ]
    meant = {version.sop_instance_uid for version in versions}
    foreign = {version.sop_instance_uid for version in found} - meant
    if rejects.lasting:
        elsewhere = {version.sop_instance_uid for version in set(found) - set(versions)}
        pairs = sorted(pair for pair in named if pair[1] not in elsewhere)
        _remember(connection, rejects.code, pairs, patient_id)
    ids = [version.id for version in versions]
    if rejects.erase is not None:
        rejects.erase([version.relative_path for version in versions])
        for part in chunks(ids):
            connection.execute(delete(Instance).where(Instance.id.in_(part)))
    else:
        versions = [version for version in versions if version.current]
        for part in chunks(ids):
            connection.execute(update(Instance).where(Instance.id.in_(part)).values(current=False))
    series_ids = sorted({version.series_id for version in versions})
    for series_id in series_ids:
        _delete_clips(connection, series_id, meant)
    outdate_reports(connection, {version.study_id for version in versions})
    return TakenOut(len({v.sop_instance_uid for v in versions}), len(foreign), tuple(series_ids))


def outdate_reports(connection: Connection, study_ids: Collection[int]) -> None:
    """Note that the reports on these studies no longer say the truth: others must follow."""
    for part in chunks(sorted(study_ids)):
        outdated = update(Report).where(Report.study_id.in_(part))
        connection.execute(outdated.values(state=ReportState.OUTDATED))


def is_rejected(
    connection: Connection,
    sop_instance_uid: str,
    *,
    study_instance_uid: str,
    patient_id: str,
    is_known: bool,
) -> bool:
    """Tell whether an instance that comes is to stay out.

    What was said of one that is not known yet could not be compared with it: it is now, and what
    was said of another study or patient is forgotten.
    """
    rejections = connection.execute(_SAID, {"uid": sop_instance_uid}).all()
    if is_known or not rejections:
        return bool(rejections)
    meant = and_(
        Rejection.study_instance_uid == study_instance_uid, Rejection.patient_id == patient_id
    )
    connection.execute(
        delete(Rejection).where(Rejection.sop_instance_uid == sop_instance_uid, not_(meant))
    )
    return (study_instance_uid, patient_id) in {tuple(row) for row in rejections}


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


def _versions(
    connection: Connection, sop_instance_uids: Collection[str]
) -> list[Row[int, str, str, str, int, int, str, bool]]:
    wanted = (
        select(
            Instance.id,
            Instance.sop_instance_uid,
            Study.study_instance_uid,
            Study.patient_id,
            Instance.series_id,
            Series.study_id,
            Instance.relative_path,
            Instance.current,
        )
        .join_from(Instance, Series, Instance.series_id == Series.id)
        .join(Study, Series.study_id == Study.id)
    )
    return [
        row
        for part in chunks(sorted(set(sop_instance_uids)))
        for row in connection.execute(wanted.where(Instance.sop_instance_uid.in_(part)))
    ]


def _delete_clips(connection: Connection, series_id: int, rejected: Collection[str]) -> None:
    """Delete the clips that a rejected instance is part of, and their vectors with them."""
    clips = connection.execute(select(Clip.id, Clip.sources).where(Clip.series_id == series_id))
    touched = [clip.id for clip in clips if not set(rejected).isdisjoint(clip.sources)]
    for part in chunks(touched):
        connection.execute(delete(Clip).where(Clip.id.in_(part)))
