"""What a search may find: the meaning of a query's filters, and the cases behind the ids.

Filters are tests of texts, so that one definition serves the columns in memory (`facets`) and the
rows of the catalogue. Knows no scores.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property, partial
from operator import attrgetter
from typing import Any, NamedTuple, TypeAlias

import numpy as np
from sqlalchemy import (
    ARRAY,
    BigInteger,
    ColumnElement,
    Compiled,
    Row,
    any_,
    bindparam,
    func,
    literal_column,
    select,
)

from index.changes import UNREAD, Bookmark, Changes
from index.embeddings import chunks
from index.models import Clip, Embedding, Series, Study
from index.records import Case, PatientKey, Query
from index.vectors import Ids


class CaseRow(NamedTuple):
    """What the catalogue tells of the vector `id` and of its clip, series and study.

    `middle_source`: of the clip's, "" where it has none; `unread`: changes since a bookmark.
    """

    id: int
    kind: str
    middle_source: str
    series_instance_uid: str
    modality: str
    body_part_examined: str
    series_description: str
    study_instance_uid: str
    guest: bool
    study_date: str
    study_description: str
    institution_name: str
    patient_id: str
    issuer_of_patient_id: str
    patient_birth_date: str
    patient_sex: str
    patient_age: str
    unread: int


AnyRow: TypeAlias = Row[*tuple[Any, ...]] | CaseRow

_DAYS_OF_AGE = {"D": 1, "W": 7, "M": 30.4375, "Y": 365.25}  # PS3.5 section 6.2, AS


def whole_years(age: str) -> int | None:
    """Return the whole years of an age string (AS), None for what is none."""
    if len(age) != 4 or not age[:3].isdecimal() or age[3] not in _DAYS_OF_AGE:
        return None
    number = int(age[:3])
    return number if age[3] == "Y" else int(number * _DAYS_OF_AGE[age[3]] / 365.25)


def age_years(row: AnyRow) -> str:
    """Return the age at the study in whole years, by PatientAge or by the dates; "" if unknown."""
    if (stated := whole_years(row.patient_age)) is not None:
        return str(stated)
    try:
        born, seen = (
            datetime.strptime(date, "%Y%m%d") for date in (row.patient_birth_date, row.study_date)
        )
    except ValueError:
        return ""
    years = seen.year - born.year - ((seen.month, seen.day) < (born.month, born.day))
    return str(years) if years >= 0 else ""


# What is filtered by, and how a row tells it.
FACETS: Mapping[str, Callable[[AnyRow], str]] = {
    "modality": attrgetter("modality"),
    "body_part": attrgetter("body_part_examined"),
    "series_description": attrgetter("series_description"),
    "patient_id": attrgetter("patient_id"),
    "issuer": attrgetter("issuer_of_patient_id"),
    "sex": attrgetter("patient_sex"),
    "age": age_years,
    "date": attrgetter("study_date"),
    "study_description": attrgetter("study_description"),
    "institution": attrgetter("institution_name"),
}


@dataclass(frozen=True, slots=True)
class Condition:
    """One of these facets must pass the test; `key` tells conditions on them apart."""

    facets: tuple[str, ...]
    key: Hashable
    test: Callable[[str], bool]


@dataclass(frozen=True, slots=True)
class Conditions:
    """All that a case must be: what `all_of` says, of another study, and of another patient.

    Where `studies` are named it is one of these.
    """

    all_of: tuple[Condition, ...]
    other_than_study: str | None
    other_than: PatientKey | None
    studies: frozenset[str] | None = None

    def pass_row(self, row: AnyRow) -> bool:
        """Tell whether a row of the catalogue may be shown."""
        return (
            not row.guest
            and row.study_instance_uid != self.other_than_study
            and (self.studies is None or row.study_instance_uid in self.studies)
            and not (self.other_than is not None and same_patient(self.other_than, row))
            and all(
                any(each.test(FACETS[name](row)) for name in each.facets) for each in self.all_of
            )
        )


def conditions(query: Query) -> Conditions:
    """Return what the filters of a query mean."""
    patient = query.exclude_patient
    known = patient is not None and patient.patient_id  # two without an id are not one person
    return Conditions(
        all_of=tuple(_conditions(query)),
        other_than_study=query.exclude_study_uid,
        other_than=patient if known else None,
        studies=query.studies,
    )


def same_issuer(issuer: str, other: str) -> bool:
    """Tell whether two issuers may be one: who does not say who issued an id may mean the same."""
    return not issuer or other in (issuer, "")


def same_patient(patient: PatientKey, row: AnyRow | Case) -> bool:
    """Tell whether a row or a case is of a patient who has an id."""
    issuers = patient.issuer_of_patient_id, row.issuer_of_patient_id
    return bool(row.patient_id == patient.patient_id) and same_issuer(*issuers)


def _conditions(query: Query) -> Iterator[Condition]:
    equal = (
        ("modality", query.modality),
        ("body_part", query.body_part),
        ("sex", query.patient_sex),
    )
    for name, value in equal:
        if value is not None:
            yield Condition((name,), value, value.__eq__)
    if query.institution is not None:
        folded = query.institution.casefold()
        yield Condition(("institution",), folded, lambda text: text.casefold() == folded)
    dates = (query.date_from, query.date_to)
    if dates != (None, None):
        yield Condition(("date",), dates, partial(_in_range, *dates))
    ages = (query.age_from_years, query.age_to_years)
    if ages != (None, None):
        yield Condition(("age",), ages, partial(_of_age, *ages))
    for word in sorted(set((query.description or "").casefold().split())):
        described = ("study_description", "series_description")
        yield Condition(described, word, partial(_holds, word))


def _in_range(first: str | None, last: str | None, date: str) -> bool:
    return (first is None or date >= first) and (last is None or "" < date <= last)


def _of_age(youngest: int | None, oldest: int | None, years: str) -> bool:
    if not years:
        return False
    return (youngest or 0) <= int(years) and (oldest is None or int(years) <= oldest)


def _holds(word: str, text: str) -> bool:
    return word in text.casefold()


@dataclass(frozen=True, slots=True, eq=False)
class Members:
    """Embedding ids (N,) with the key of each one's series (N,), and those series by key."""

    ids: Ids
    series: Ids
    rows: Mapping[int, AnyRow]


_SHOWN = (
    Series.series_instance_uid,
    Series.modality,
    Series.body_part_examined,
    Series.series_description,
    Study.study_instance_uid,
    Study.guest,
    Study.study_date,
    Study.study_description,
    Study.institution_name,
    Study.patient_id,
    Study.issuer_of_patient_id,
    Study.patient_birth_date,
    Study.patient_sex,
    Study.patient_age,
)
_OF_SERIES = select(Series.id, *_SHOWN).join_from(Series, Study, Series.study_id == Study.id)
_OF_EMBEDDING = select(Embedding.id, Clip.series_id).join_from(
    Embedding, Clip, Embedding.clip_id == Clip.id
)
_OF_CASE = {
    "id": Embedding.id,
    "kind": Clip.kind,
    **{column.key: column for column in _SHOWN},
}
_EACH = func.json_each(bindparam("ids")).table_valued("value").c.value
# By dialect: an element of a list, and how many ids are one parameter.
_MIDDLE_SOURCE = {
    "sqlite": "json_extract(clip.sources, '$[' || (json_array_length(clip.sources) / 2) || ']')",
    "postgresql": "clip.sources ->> (json_array_length(clip.sources) / 2)",
}
_AMONG: Mapping[str, ColumnElement[bool]] = {
    "sqlite": Embedding.id.in_(select(_EACH)),
    "postgresql": Embedding.id == any_(bindparam("ids", type_=ARRAY(BigInteger))),
}
_GIVEN: Mapping[str, Callable[[Sequence[int]], object]] = {"sqlite": json.dumps, "postgresql": list}


class Gallery(Changes):
    """The part of the catalogue that a search looks into."""

    def members(self, model_id: str, ids: Ids | None = None) -> Members:
        """Return what all vectors of a model, or these, are filtered by."""
        of_model = _OF_EMBEDDING.where(Embedding.model_id == model_id)
        with self.reading() as connection:
            if ids is None:
                pairs = [(row[0], row[1]) for row in connection.execute(of_model)]
                rows = connection.execute(_OF_SERIES).all()
            else:
                # Ids first: SQLite would rather read all of a model.
                pairs = [
                    (row[0], row[1])
                    for part in chunks(ids.tolist())
                    for row in connection.execute(
                        _OF_EMBEDDING.add_columns(Embedding.model_id).where(Embedding.id.in_(part))
                    )
                    if row.model_id == model_id
                ]
                rows = [
                    row
                    for part in chunks(sorted({series for _, series in pairs}))
                    for row in connection.execute(_OF_SERIES.where(Series.id.in_(part)))
                ]
        table = np.array([tuple(pair) for pair in pairs], dtype=np.int64).reshape(-1, 2)
        return Members(table[:, 0], table[:, 1], {row.id: row for row in rows})

    def case_rows(self, ids: Sequence[int], since: Bookmark) -> tuple[dict[int, CaseRow], int]:
        """Return by embedding id what a case tells, and how many changes are beyond a bookmark."""
        given = _GIVEN[self.engine.dialect.name](ids)
        found = self.glance(self._cases, ids=given, position=since.position)
        rows = {row[0]: CaseRow(*row) for row in found}
        # Where there is no row to tell it.
        last = found or self.glance(self._unread, position=since.position)
        return rows, last[0][-1] - len(since.seen)

    @cached_property
    def _cases(self) -> Compiled:
        """A statement that is made once: making it takes longer than running it."""
        dialect = self.engine.dialect
        told: dict[str, Any] = {
            **_OF_CASE,
            "middle_source": literal_column(f"coalesce({_MIDDLE_SOURCE[dialect.name]}, '')"),
            "unread": UNREAD[dialect.name],
        }
        return (
            select(*(told[name] for name in CaseRow._fields))
            .join_from(Embedding, Clip, Embedding.clip_id == Clip.id)
            .join(Series, Clip.series_id == Series.id)
            .join(Study, Series.study_id == Study.id)
            .where(_AMONG[dialect.name])
            .compile(dialect=dialect)
        )

    @cached_property
    def _unread(self) -> Compiled:
        dialect = self.engine.dialect
        return select(UNREAD[dialect.name]).compile(dialect=dialect)
