"""Rejected instances: out of the series, out of the vectors, and out for good if so decided.

Owns what a rejection does to rows, and that reports on the study no longer hold. Which code of a
rejection note has which consequence is the caller's.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass

from sqlalchemy import Connection, Row, delete, insert, select, update

from index.embeddings import chunks
from index.models import Clip, Instance, Rejection, Report, Series
from index.records import ReportState


@dataclass(frozen=True, slots=True, kw_only=True)
class Rejects:
    """What a rejection note says: its code, and the SOP Instance UIDs that it takes out.

    `lasting`: they stay out when they are sent again, or for the first time. With `erase` they are
    deleted; it gets their relative paths and must remove the files, just before the rows go.
    """

    code: str
    sop_instance_uids: tuple[str, ...]
    lasting: bool
    erase: Callable[[Collection[str]], None] | None = None


@dataclass(frozen=True, slots=True)
class TakenOut:
    """How many instances were found, and the series that lost some."""

    instances: int
    series_ids: tuple[int, ...]


def take_out(connection: Connection, rejects: Rejects) -> TakenOut:
    """Take instances out at once: no search finds a vector that one of them went into."""
    if rejects.lasting:
        _remember(connection, rejects)
    versions = _versions(connection, rejects.sop_instance_uids)
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
    rejected = set(rejects.sop_instance_uids)
    for series_id in series_ids:
        _delete_clips(connection, series_id, rejected)
    outdate_reports(connection, {version.study_id for version in versions})
    return TakenOut(len({v.sop_instance_uid for v in versions}), tuple(series_ids))


def outdate_reports(connection: Connection, study_ids: Collection[int]) -> None:
    """Note that the reports on these studies no longer say the truth: others must follow."""
    for part in chunks(sorted(study_ids)):
        outdated = update(Report).where(Report.study_id.in_(part))
        connection.execute(outdated.values(state=ReportState.OUTDATED))


def _remember(connection: Connection, rejects: Rejects) -> None:
    for part in chunks(sorted(set(rejects.sop_instance_uids))):
        known = select(Rejection.sop_instance_uid).where(Rejection.sop_instance_uid.in_(part))
        new = set(part) - set(connection.execute(known).scalars())
        if new:
            rows = [{"sop_instance_uid": uid, "code": rejects.code} for uid in sorted(new)]
            connection.execute(insert(Rejection), rows)


def _versions(
    connection: Connection, sop_instance_uids: Collection[str]
) -> list[Row[int, str, int, int, str, bool]]:
    wanted = select(
        Instance.id,
        Instance.sop_instance_uid,
        Instance.series_id,
        Series.study_id,
        Instance.relative_path,
        Instance.current,
    ).join_from(Instance, Series, Instance.series_id == Series.id)
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
