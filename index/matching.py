"""Ordinary queries: which studies, series and images match, and which files lie behind them.

Guests are not found, and nothing of which no instance is left.

Owns the levels of the Study Root information model (PS3.4 C.6.2); what a key asks of its column
is in `criteria`.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass

from sqlalchemy import ColumnElement, exists, func, or_, select

from index.attributes import IMAGE_ATTRIBUTES, SERIES_ATTRIBUTES, Level
from index.criteria import Key, criterion
from index.db import Database
from index.lookups import FILE_COLUMNS, read_studies
from index.matches import ImageRow, OwnObject, SeriesRow
from index.models import Instance, Report, ReportAttachment, Series, Study
from index.records import InstanceFile, StudyRow
from index.report_records import ReportState

_PAGE = 500  # studies read in one transaction


@dataclass(frozen=True, slots=True, kw_only=True)
class Selection:
    """What to retrieve, by UID; an empty level selects everything below the one above."""

    studies: tuple[str, ...]
    series: tuple[str, ...] = ()
    images: tuple[str, ...] = ()


class Matching(Database):
    """The part of the catalogue that answers ordinary queries."""

    def matching_studies(self, keys: Sequence[Key]) -> Iterator[StudyRow]:
        """Yield the studies that match, the newest first; raises BadQuery.

        A key of series level asks for a study that has such a series.
        """
        wanted = (
            select(Study.__table__)
            .where(Study.guest.is_(False), *(_of_study(key) for key in keys if not key.universal))
            .order_by(Study.id.desc())
            .limit(_PAGE)
        )
        page = wanted
        while True:
            with self.reading() as connection:
                rows = read_studies(connection, page)
            yield from (row for row in rows if row.instances)
            if len(rows) < _PAGE:
                return
            page = wanted.where(Study.id < rows[-1].id)

    def matching_series(
        self, study_instance_uid: str, keys: Sequence[Key]
    ) -> tuple[SeriesRow, ...]:
        """Return the series of a study that match, in order of arrival; raises BadQuery."""
        columns = [getattr(Series, attribute.column) for attribute in SERIES_ATTRIBUTES]
        wanted = (
            select(func.count(Instance.id).label("instances"), *columns)
            .join_from(Series, Study, Series.study_id == Study.id)
            .join(Instance, Instance.series_id == Series.id)
            .where(
                Instance.current,
                Study.study_instance_uid == study_instance_uid,
                *_criteria(keys),
            )
            .group_by(Series.id)
            .order_by(Series.id)
        )
        with self.reading() as connection:
            return tuple(SeriesRow(**row._mapping) for row in connection.execute(wanted))

    def matching_images(
        self, study_instance_uid: str, series_instance_uid: str, keys: Sequence[Key]
    ) -> tuple[ImageRow, ...]:
        """Return the images of a series that match, in order of arrival; raises BadQuery."""
        columns = [getattr(Instance, attribute.column) for attribute in IMAGE_ATTRIBUTES]
        wanted = (
            select(*columns)
            .join_from(Instance, Series, Instance.series_id == Series.id)
            .join(Study, Series.study_id == Study.id)
            .where(
                Instance.current,
                Study.study_instance_uid == study_instance_uid,
                Series.series_instance_uid == series_instance_uid,
                *_criteria(keys),
            )
            .order_by(Instance.id)
        )
        with self.reading() as connection:
            return tuple(ImageRow(**row._mapping) for row in connection.execute(wanted))

    def studies_with(self, *, series: str, image: str) -> tuple[str, ...]:
        """Return the studies that hold a series, or an image, or that image in that series."""
        wanted = (
            select(Study.study_instance_uid)
            .join(Series, Series.study_id == Study.id)
            .where(Study.guest.is_(False))
        )
        if series:
            wanted = wanted.where(Series.series_instance_uid == series)
        if image:
            wanted = wanted.join(Instance, Instance.series_id == Series.id)
            wanted = wanted.where(Instance.sop_instance_uid == image, Instance.current)
        with self.reading() as connection:
            return tuple(connection.execute(wanted.distinct()).scalars())

    def selected_files(self, selection: Selection) -> tuple[InstanceFile, ...]:
        """Return the kept files of a selection, series by series, in order of arrival."""
        wanted = (
            select(*FILE_COLUMNS)
            .join_from(Instance, Series, Instance.series_id == Series.id)
            .join(Study, Series.study_id == Study.id)
            .where(Instance.current, *_selected(selection))
            .order_by(Series.id, Instance.id)
        )
        if selection.series:
            wanted = wanted.where(Series.series_instance_uid.in_(selection.series))
        if selection.images:
            wanted = wanted.where(Instance.sop_instance_uid.in_(selection.images))
        with self.reading() as connection:
            return tuple(InstanceFile(*row) for row in connection.execute(wanted))

    def selected_reports(
        self, selection: Selection, *, linked_for: Collection[str] = ()
    ) -> tuple[OwnObject, ...]:
        """Return the reports of a selection, and what goes out beside them.

        Of reports that supersede one another it is the last, unless the earlier is named; none
        that holds no longer. One that names other patients' studies is only among them if it was
        made for one of the destinations `linked_for`.
        """
        handed_out = _handed_out(selection, linked_for)
        reports = (
            select(Report.sop_instance_uid, Report.relative_path)
            .join(Study, Report.study_id == Study.id)
            .where(*handed_out)
            .order_by(Report.id)
        )
        beside = (
            select(ReportAttachment.sop_instance_uid, ReportAttachment.relative_path)
            .join(Report, ReportAttachment.report_id == Report.id)
            .join(Study, Report.study_id == Study.id)
            .where(*handed_out)
            .order_by(Report.id)
        )
        if selection.series:
            reports = reports.where(Report.series_instance_uid.in_(selection.series))
        if selection.images:
            reports = reports.where(Report.sop_instance_uid.in_(selection.images))
            beside = beside.where(ReportAttachment.sop_instance_uid.in_(selection.images))
        with self.reading() as connection:
            rows = list(connection.execute(reports))
            # An attachment's series is not known here: one is sent with its study, or by its name.
            if selection.images or not selection.series:
                rows += connection.execute(beside)
        return tuple(OwnObject(*row) for row in rows)


def _selected(selection: Selection) -> tuple[ColumnElement[bool], ...]:
    return Study.guest.is_(False), Study.study_instance_uid.in_(selection.studies)


def _handed_out(selection: Selection, linked_for: Collection[str]) -> list[ColumnElement[bool]]:
    """Return what holds of the reports of a selection's studies that may leave the node."""
    conditions = [
        or_(Report.linked.is_(False), Report.destination.in_(linked_for)),
        Report.state != ReportState.OUTDATED,
        *_selected(selection),
    ]
    if not selection.images:
        conditions.append(Report.sop_instance_uid.not_in(select(Report.predecessor)))
    return conditions


def _criteria(keys: Sequence[Key]) -> list[ColumnElement[bool]]:
    return [criterion(key) for key in keys if not key.universal]


def _of_study(key: Key) -> ColumnElement[bool]:
    if key.attribute.level is Level.SERIES:
        kept = exists().where(Instance.series_id == Series.id, Instance.current)
        return exists().where(Series.study_id == Study.id, criterion(key), kept)
    return criterion(key)
