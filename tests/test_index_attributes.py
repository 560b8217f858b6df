from dataclasses import fields

from hypothesis import given
from hypothesis import strategies as st

from index.attributes import (
    ATTRIBUTES,
    IMAGE_ATTRIBUTES,
    SERIES_ATTRIBUTES,
    STUDY_ATTRIBUTES,
    TEXT_LENGTH,
)
from index.models import Base
from index.records import Header


def test_header_has_one_field_per_attribute() -> None:
    expected = {attribute.column for attribute in ATTRIBUTES} | {"transfer_syntax_uid"}
    assert {field.name for field in fields(Header)} == expected


def test_every_attribute_has_a_column_of_its_length() -> None:
    tables = {"study": STUDY_ATTRIBUTES, "series": SERIES_ATTRIBUTES, "instance": IMAGE_ATTRIBUTES}
    for name, attributes in tables.items():
        columns = Base.metadata.tables[name].c
        for attribute in attributes:
            assert columns[attribute.column].type.length == attribute.length, attribute.keyword


@given(st.text(st.characters(exclude_categories=[]), max_size=400))
def test_clean_makes_any_text_storable(text: str) -> None:
    cleaned = ATTRIBUTES[0].clean(text)
    assert "\0" not in cleaned
    assert len(cleaned) <= TEXT_LENGTH
    cleaned.encode("utf-8")


def test_clean_leaves_an_overlong_accession_number_whole() -> None:
    accession = next(a for a in ATTRIBUTES if a.keyword == "AccessionNumber")
    assert accession.clean("HOSPITAL-2024-0000012345 ") == "HOSPITAL-2024-0000012345"
