"""Ordinary queries: what matches, by value representation and level."""

import re
import string
from collections.abc import Iterator
from dataclasses import replace
from datetime import datetime

import pytest
from catalogues import RULE, Clock, NewDatabase, open_catalogue
from hypothesis import given, settings
from hypothesis import strategies as st
from postgres import closed_connections

from index.attributes import ATTRIBUTES
from index.catalogue import Catalogue
from index.criteria import Key, age_range, value_range
from index.errors import BadQuery
from index.matching import Selection
from index.records import Header, StoredFile
from index.report_records import NewReport, ReportFile, ReportState

BY_KEYWORD = {attribute.keyword: attribute for attribute in ATTRIBUTES}
FIRST = Header(
    study_instance_uid="1.1",
    series_instance_uid="1.1.1",
    sop_instance_uid="1.1.1.1",
    sop_class_uid="1.2.840.10008.5.1.4.1.1.2",
    transfer_syntax_uid="1.2.840.10008.1.2.1",
    patient_id="A_1%",
    patient_name="Müller^Jürgen",
    study_date="20240131",
    study_time="101530.5",
    study_description="CT Thorax",
    modality="CT",
    series_number="7",
)
SECOND = replace(
    FIRST,
    study_instance_uid="1.2",
    series_instance_uid="1.2.1",
    sop_instance_uid="1.2.1.1",
    patient_id="AB1xx",
    patient_name="Yamada^Tarou=山田^太郎",
    study_date="",
    study_time="1530",
    study_description="ct thorax",
)
THIRD = replace(
    SECOND, series_instance_uid="1.2.2", sop_instance_uid="1.2.2.1", modality="SR", series_number=""
)


def put(catalogue: Catalogue, number: int, header: Header) -> int:
    stored = StoredFile(f"{number}.dcm", f"{number:064}", 1)
    return catalogue.record(header, stored, RULE).study_id


@pytest.fixture
def filled(catalogue: Catalogue) -> Catalogue:
    for number, header in enumerate((FIRST, SECOND, THIRD)):
        put(catalogue, number, header)
    return catalogue


def key(keyword: str, value: str) -> Key:
    return Key(BY_KEYWORD[keyword], tuple(value.split("\\")))


def studies(catalogue: Catalogue, *keys: Key) -> list[str]:
    return sorted(row.study_instance_uid for row in catalogue.matching_studies(keys))


@pytest.mark.parametrize(
    ("keyword", "value", "expected"),
    [
        ("PatientID", "", ["1.1", "1.2"]),
        ("PatientID", "*", ["1.1", "1.2"]),
        ("PatientID", "A_1%", ["1.1"]),
        ("PatientID", "A_1*", ["1.1"]),
        ("PatientID", "A?1?", ["1.1"]),
        ("PatientID", "a*", []),
        ("PatientID", "*1*", ["1.1", "1.2"]),
        ("StudyDescription", "CT*", ["1.1"]),
        ("StudyDescription", "ct thorax", ["1.2"]),
        ("PatientName", "MÜLLER^*", ["1.1"]),
        ("PatientName", "müller^jürgen^^", ["1.1"]),
        ("PatientName", "müller", []),
        ("PatientName", "yamada^*", ["1.2"]),
        ("PatientName", "山田^太郎", ["1.2"]),
        ("StudyInstanceUID", "1.2\\1.3", ["1.2"]),
        ("StudyInstanceUID", "1.1\\1.2", ["1.1", "1.2"]),
        ("StudyDate", "20240131", ["1.1"]),
        ("StudyDate", "2024.01.31", ["1.1"]),
        ("StudyDate", "20240101-20240201", ["1.1"]),
        ("StudyDate", "-20250101", ["1.1"]),
        ("StudyDate", "20240201-", []),
        ("StudyTime", "10", ["1.1"]),
        ("StudyTime", "101530", ["1.1"]),
        ("StudyTime", "1000-1530", ["1.1", "1.2"]),
        ("StudyTime", "-1529", ["1.1"]),
        ("Modality", "CT", ["1.1", "1.2"]),
        ("Modality", "SR\\US", ["1.2"]),
        ("SeriesNumber", "007", ["1.1", "1.2"]),
    ],
)
def test_a_key_matches_by_the_rule_of_its_value_representation(
    filled: Catalogue, keyword: str, value: str, expected: list[str]
) -> None:
    assert studies(filled, key(keyword, value)) == expected


@pytest.mark.parametrize(
    ("keyword", "value"),
    [
        ("StudyInstanceUID", "1.*"),
        ("StudyDate", "2024*"),
        ("StudyDate", "yesterday"),
        ("StudyDate", "-"),
        ("StudyTime", "25h"),
        ("SeriesNumber", "?"),
        ("SeriesNumber", "one"),
        ("PatientAge", "0*"),
        ("PatientID", "x" * 65536),
        ("StudyInstanceUID", "\\".join(f"1.{n}" for n in range(2000))),
    ],
)
def test_a_value_that_cannot_match_is_refused_by_its_keyword(
    filled: Catalogue, keyword: str, value: str
) -> None:
    with pytest.raises(BadQuery) as refused:
        studies(filled, key(keyword, value))

    assert refused.value.field == keyword


# Letters that mean something to LIKE, to regular expressions or to SQL.
TEXTS = st.text(st.sampled_from("ab%_\\'*?[.^$"), min_size=1, max_size=8)


@pytest.fixture(scope="module")
def growing(new_database: NewDatabase) -> Iterator[Catalogue]:
    with new_database() as url, closed_connections():
        yield open_catalogue(url, Clock())


@settings(max_examples=200)
@given(value=TEXTS, pattern=TEXTS)
def test_wildcards_match_as_a_regular_expression_would(
    growing: Catalogue, value: str, pattern: str
) -> None:
    number = growing.counts().instances
    uids = {"study_instance_uid": f"1.{number}", "sop_instance_uid": f"1.{number}.1"}
    put(growing, number, replace(FIRST, patient_id=value, **uids))
    oracle = "".join({"*": ".*", "?": "."}.get(letter, re.escape(letter)) for letter in pattern)

    found = studies(growing, key("StudyInstanceUID", f"1.{number}"), _whole("PatientID", pattern))

    assert bool(found) == bool(re.fullmatch(oracle, value))


def _whole(keyword: str, value: str) -> Key:
    """Return a key of one value, which may hold backslashes."""
    return Key(BY_KEYWORD[keyword], (value,))


@given(st.text(string.digits + "-: .", max_size=20))
def test_a_range_of_dates_is_read_or_refused(text: str) -> None:
    try:
        first, last = value_range(text, vr="DA", keyword="StudyDate")
    except BadQuery:
        return
    assert all(end is None or datetime.strptime(end, "%Y%m%d") for end in (first, last))
    assert first or last


@pytest.mark.parametrize(
    ("text", "ends"),
    [
        ("20240229", ("20240229", "20240229")),
        ("20240101-20241231", ("20240101", "20241231")),
        ("20240101 - ", ("20240101", None)),
        ("-20240101", (None, "20240101")),
        ("2024.01.31", ("20240131", "20240131")),
        ("2024.01.01-2024.12.31", ("20240101", "20241231")),
        ("20240201-20240231", ("20240201", "20240231")),
    ],
)
def test_dates_and_ranges_of_them_are_read(text: str, ends: tuple[str | None, str | None]) -> None:
    assert value_range(text, vr="DA", keyword="StudyDate") == ends


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("01.01.2024", "no date or range, as 20240131 or 20240101-20241231"),
        ("2024-01-01", "no date or range, as 20240131 or 20240101-20241231"),
        ("2024.0101", "no date or range, as 20240131 or 20240101-20241231"),
        ("2024", "no date or range, as 20240131 or 20240101-20241231"),
        ("-", "no date or range, as 20240131 or 20240101-20241231"),
        ("01012024", "there is no such day"),
        ("20240230", "there is no such day"),
        ("20240101-20241301", "there is no such day"),
        ("99999999", "there is no such day"),
        ("20240201-20240232", "there is no such day"),
        ("20241231-20240101", "the first day is after the last"),
    ],
)
def test_what_is_no_date_is_refused_with_one_that_is(text: str, reason: str) -> None:
    with pytest.raises(BadQuery) as refused:
        value_range(text, vr="DA", keyword="StudyDate")
    assert refused.value.reason == reason


def test_universal_matching_yields_every_study_once_newest_first(catalogue: Catalogue) -> None:
    for number in range(1203):
        uids = {"study_instance_uid": f"9.{number}", "sop_instance_uid": f"9.{number}.1"}
        put(catalogue, number, replace(FIRST, **uids))

    found = [row.study_instance_uid for row in catalogue.matching_studies(())]

    assert found == [f"9.{number}" for number in reversed(range(1203))]


def test_a_series_and_an_image_match_within_their_parents_only(filled: Catalogue) -> None:
    assert [row.modality for row in filled.matching_series("1.2", ())] == ["CT", "SR"]
    assert [row.modality for row in filled.matching_series("1.2", [key("Modality", "S*")])] == [
        "SR"
    ]
    assert filled.matching_series("1.3", ()) == ()
    (series, _) = filled.matching_series("1.2", ())
    assert series.instances == 1
    (image,) = filled.matching_images("1.2", "1.2.2", ())
    assert image.sop_instance_uid == "1.2.2.1"
    assert filled.matching_images("1.1", "1.2.2", ()) == ()


def test_only_the_current_version_of_an_instance_is_found(filled: Catalogue) -> None:
    put(filled, 9, replace(FIRST, instance_number="2"))

    assert len(filled.matching_images("1.1", "1.1.1", ())) == 1
    assert [f.relative_path for f in filled.selected_files(Selection(studies=("1.1",)))] == [
        "9.dcm"
    ]


def test_a_selection_names_files_by_study_series_or_image(filled: Catalogue) -> None:
    def files(**uids: tuple[str, ...]) -> list[str]:
        return [f.sop_instance_uid for f in filled.selected_files(Selection(**uids))]

    assert files(studies=("1.1", "1.2")) == ["1.1.1.1", "1.2.1.1", "1.2.2.1"]
    assert files(studies=("1.2",), series=("1.2.2",)) == ["1.2.2.1"]
    assert files(studies=("1.2",), series=("1.2.2",), images=("1.2.2.1", "1.2.1.1")) == ["1.2.2.1"]
    assert files(studies=("1.1",), series=("1.2.2",)) == []


def test_of_reports_the_last_goes_with_its_study_and_any_by_its_name(catalogue: Catalogue) -> None:
    study_id = put(catalogue, 0, FIRST)
    for uid, predecessor in (("7.1", ""), ("7.2", "7.1")):
        catalogue.save_report(
            NewReport(
                study_id=study_id,
                revision=1,
                destination="",
                sop_instance_uid=uid,
                series_instance_uid="7",
                relative_path=f"{uid}.dcm",
                model_id="m",
                predecessor=predecessor,
                attachments=(ReportFile(f"{uid}.9", "1.2", f"{uid}.9.dcm"),),
            )
        )

    def reports(**uids: tuple[str, ...]) -> list[str]:
        selection = Selection(studies=("1.1",), **uids)
        return [own.sop_instance_uid for own in catalogue.selected_reports(selection)]

    assert reports() == ["7.2", "7.2.9"]
    assert reports(series=("7",)) == ["7.2"]
    assert reports(series=("7",), images=("7.1",)) == ["7.1"]
    assert reports(series=("8",)) == []

    newest = catalogue.report_of("7.2")
    assert newest is not None
    catalogue.move_report(newest.id, ReportState.OUTDATED)
    assert reports() == []


def test_a_linked_report_is_for_those_who_may_have_it(catalogue: Catalogue) -> None:
    study_id = put(catalogue, 0, FIRST)
    for destination, linked in (("linked", True), ("opaque", False)):
        catalogue.save_report(
            NewReport(
                study_id=study_id,
                revision=1,
                destination=destination,
                sop_instance_uid=f"7.{len(destination)}.{linked:d}",
                series_instance_uid="7",
                relative_path=f"{destination}.dcm",
                model_id="m",
                linked=linked,
                attachments=(ReportFile(f"8.{linked:d}", "1.2", f"{destination}.9.dcm"),),
            )
        )

    def files(*linked_for: str) -> list[str]:
        selection = Selection(studies=("1.1",))
        return [
            own.relative_path
            for own in catalogue.selected_reports(selection, linked_for=linked_for)
        ]

    opaque = ["opaque.dcm", "opaque.9.dcm"]
    assert files() == files("opaque", "another") == opaque
    assert set(files("linked")) == {*opaque, "linked.dcm", "linked.9.dcm"}


@pytest.mark.parametrize(
    ("text", "expected"),
    [("45", (45, 45)), ("0-12", (0, 12)), (" 65 - ", (65, None)), ("-12", (None, 12)),
     ("7-7", (7, 7))],
)  # fmt: skip
def test_an_age_or_a_range_of_ages_has_both_ends(
    text: str, expected: tuple[int | None, int | None]
) -> None:
    assert age_range(text, field="age") == expected


@pytest.mark.parametrize("text", ["-", "old", "045Y", "1-2-3", "-1-5", "12-0", "1000", "4.5", "٤٥"])
def test_what_is_no_range_of_ages_is_refused(text: str) -> None:
    with pytest.raises(BadQuery, match="age"):
        age_range(text, field="age")
