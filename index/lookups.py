"""Plain questions to the catalogue: a study, a series' files, an instance, and how much of all."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import ColumnExpressionArgument, Connection, Row, Select, func, select

from index.attributes import STUDY_ATTRIBUTES
from index.db import Database
from index.embeddings import chunks
from index.errors import UnknownKey
from index.models import Clip, Embedding, Instance, Job, Report, Series, Study
from index.records import (
    EmbeddedClip,
    InstanceFile,
    SeriesFiles,
    StoredFile,
    StudyRow,
)
from index.states import State
from index.vectors import Ids

_PAGE = 1_000  # rows read in one transaction
FILE_COLUMNS = (
    Instance.sop_instance_uid,
    Instance.sop_class_uid,
    Instance.transfer_syntax_uid,
    Instance.relative_path,
)


@dataclass(frozen=True, slots=True)
class Quarantined:
    """A series that could not be embedded, and why."""

    series_instance_uid: str
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Counts:
    """How much of everything there is; keys are states, or model ids for embeddings."""

    studies: Mapping[str, int]
    guests: int  # of the studies
    series: Mapping[str, int]
    instances: int
    clips: int
    embeddings: Mapping[str, int]
    jobs: Mapping[str, int]
    reports: Mapping[str, int]
    skipped: Mapping[str, int]  # series by reason
    quarantined: tuple[Quarantined, ...]


@dataclass(frozen=True, slots=True, eq=False)
class Origins:
    """Whose vectors (N,) are, as numbers that tell patients apart, and when they last changed."""

    ids: Ids
    patients: Ids
    received_at: NDArray[np.float64]  # UTC seconds since 1970

    def part(self, rows: slice | Ids) -> Origins:
        """Return some of them."""
        return Origins(self.ids[rows], self.patients[rows], self.received_at[rows])


class Lookups(Database):
    """The part of the catalogue that answers what is there."""

    def series_files(self, series_id: int) -> SeriesFiles:
        """Return a series with the current version of each instance; raises UnknownKey."""
        with self.reading() as connection:
            row = connection.execute(
                select(
                    Series.study_id,
                    Study.study_instance_uid,
                    Series.series_instance_uid,
                    Series.modality,
                    Series.revision,
                )
                .join_from(Series, Study, Series.study_id == Study.id)
                .where(Series.id == series_id)
            ).one_or_none()
            if row is None:
                raise UnknownKey("series", series_id)
            files = connection.execute(
                select(*FILE_COLUMNS)
                .where(Instance.series_id == series_id, Instance.current)
                .order_by(Instance.sop_instance_uid)
            )
            return SeriesFiles(series_id, *row, files=tuple(InstanceFile(*file) for file in files))

    def embedded_clips(self) -> tuple[EmbeddedClip, ...]:
        """Return every clip of every kept series, in order of arrival of their series."""
        with self.reading() as connection:
            rows = connection.execute(
                select(
                    Clip.series_id,
                    Clip.position,
                    Clip.kind,
                    Series.series_instance_uid,
                    Series.modality,
                    Series.body_part_examined,
                    Study.patient_id,
                )
                .join_from(Clip, Series, Clip.series_id == Series.id)
                .join(Study, Series.study_id == Study.id)
                .where(Study.guest.is_(False))
                .order_by(Clip.series_id, Clip.position)
            )
            return tuple(EmbeddedClip(*row) for row in rows)

    def origins(self, ids: Sequence[int]) -> Origins:
        """Return where those of `ids` that still exist came from, in their order; no guests.

        One Patient ID is one patient, whoever issued it; a study without one is a patient.
        """
        found: dict[int, Row[*tuple[Any, ...]]] = {}
        wanted = (
            select(Embedding.id, Study.patient_id, Study.id, Series.last_received_at)
            .join_from(Embedding, Clip, Embedding.clip_id == Clip.id)
            .join(Series, Clip.series_id == Series.id)
            .join(Study, Series.study_id == Study.id)
            .where(Study.guest.is_(False))
        )
        with self.reading() as connection:
            for part in chunks(ids):
                rows = connection.execute(wanted.where(Embedding.id.in_(part)))
                found.update((row[0], row) for row in rows)
        present = [found[key] for key in ids if key in found]
        numbers: dict[str | int, int] = {}
        return Origins(
            np.array([key for key, *_ in present], dtype=np.int64),
            np.array(
                [numbers.setdefault(row[1] or row[2], len(numbers)) for row in present], np.int64
            ),
            np.array([received_at for *_, received_at in present], dtype=np.float64),
        )

    def instance_file(self, sop_instance_uid: str) -> InstanceFile | None:
        """Return the current version of an instance."""
        with self.reading() as connection:
            row = connection.execute(
                select(*FILE_COLUMNS).where(
                    Instance.sop_instance_uid == sop_instance_uid, Instance.current
                )
            ).one_or_none()
            return None if row is None else InstanceFile(*row)

    def kept_files(self) -> Iterator[StoredFile]:
        """Yield the file of every version of every instance, in order of arrival."""
        last = 0
        while True:
            with self.reading() as connection:
                rows = connection.execute(
                    select(
                        Instance.id, Instance.relative_path, Instance.sha256, Instance.size_bytes
                    )
                    .where(Instance.id > last)
                    .order_by(Instance.id)
                    .limit(_PAGE)
                ).all()
            for row in rows:
                last = row.id
                yield StoredFile(row.relative_path, row.sha256, row.size_bytes)
            if not rows:
                return

    def study_uid(self, study_id: int) -> str:
        """Return a study's Study Instance UID; raises UnknownKey."""
        with self.reading() as connection:
            uid = connection.execute(
                select(Study.study_instance_uid).where(Study.id == study_id)
            ).scalar_one_or_none()
        if uid is None:
            raise UnknownKey("study", study_id)
        return uid

    def study_row(self, study_instance_uid: str) -> StudyRow | None:
        """Return what is known of a study."""
        return self.study_rows((study_instance_uid,)).get(study_instance_uid)

    def study_rows(self, study_instance_uids: Sequence[str]) -> dict[str, StudyRow]:
        """Return what is known of studies, by Study Instance UID; the unknown are left out."""
        rows: list[StudyRow] = []
        with self.reading() as connection:
            for part in chunks(study_instance_uids):
                named = select(Study.__table__).where(Study.study_instance_uid.in_(part))
                rows.extend(read_studies(connection, named))
        return {row.study_instance_uid: row for row in rows}

    def study_series(self, study_id: int) -> tuple[int, ...]:
        """Return the ids of a study's series, in the order they arrived."""
        with self.reading() as connection:
            ids = connection.execute(
                select(Series.id).where(Series.study_id == study_id).order_by(Series.id)
            )
            return tuple(ids.scalars())

    def find_study_by_accession(self, accession_number: str) -> tuple[str, ...]:
        """Return the kept studies that carry an accession number, by UID; none for an empty one."""
        if not accession_number:
            return ()
        with self.reading() as connection:
            rows = connection.execute(
                select(Study.study_instance_uid)
                .where(Study.accession_number == accession_number, Study.guest.is_(False))
                .order_by(Study.study_instance_uid)
            )
            return tuple(rows.scalars())

    def counts(self) -> Counts:
        """Return how much of everything there is."""
        with self.reading() as connection:
            quarantined = connection.execute(
                select(Series.series_instance_uid, Series.reason)
                .where(Series.state == State.QUARANTINED)
                .order_by(Series.id)
            )
            return Counts(
                studies=_count_by(connection, Study.state),
                guests=_count(connection, Study.guest),
                series=_count_by(connection, Series.state),
                instances=_count(connection, Instance.current),
                clips=_count(connection, Clip.id.is_not(None)),
                embeddings=_count_by(connection, Embedding.model_id),
                jobs=_count_by(connection, Job.state),
                reports=_count_by(connection, Report.state),
                skipped=_count_by(connection, Series.reason, Series.state == State.SKIPPED),
                quarantined=tuple(Quarantined(*row) for row in quarantined),
            )


def read_studies(connection: Connection, wanted: Select[Any]) -> list[StudyRow]:
    """Read rows of the study table with the counts of each.

    Current versions are counted, and the series that have some.
    """
    studies = connection.execute(wanted).all()
    ids = [study.id for study in studies]
    modalities: defaultdict[int, list[str]] = defaultdict(list)
    instances: defaultdict[int, int] = defaultdict(int)
    for study_id, modality, count in connection.execute(
        select(Series.study_id, Series.modality, func.count())
        .join_from(Series, Instance, Instance.series_id == Series.id)
        .where(Series.study_id.in_(ids), Instance.current)
        .group_by(Series.id)
        .order_by(Series.modality)
    ):
        modalities[study_id].append(modality)
        instances[study_id] += count
    return [
        StudyRow(
            id=study.id,
            state=State(study.state),
            series=len(modalities[study.id]),
            instances=instances[study.id],
            modalities=tuple(dict.fromkeys(filter(None, modalities[study.id]))),
            **{a.column: study._mapping[a.column] for a in STUDY_ATTRIBUTES},
        )
        for study in studies
    ]


def _count(connection: Connection, condition: ColumnExpressionArgument[bool]) -> int:
    return connection.execute(select(func.count()).where(condition)).scalar_one()


def _count_by(
    connection: Connection, column: Any, *conditions: ColumnExpressionArgument[bool]
) -> dict[str, int]:
    counted = select(column, func.count()).where(*conditions).group_by(column).order_by(column)
    rows = connection.execute(counted)
    return {str(value): number for value, number in rows}
