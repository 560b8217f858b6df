"""Elements of a response: the same bytes as pydicom writes."""

import string

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydicom.charset import python_encoding
from pydicom.datadict import DicomDictionary
from pynetdicom.dsutils import encode

from dicom_node.answer import private
from dicom_node.answer.element import (
    SPECIFIC_CHARACTER_SET,
    Element,
    Value,
    dataset_of,
    encoded,
)
from dicom_node.answer.response import COMPUTED, vr_of
from dicom_node.text import FREE_TEXT_VRS, PLAIN_SETS, UTF_8
from index.attributes import ATTRIBUTES

TAG = 0x00211001  # private, so that it may have any VR
VRS = sorted(
    {attribute.vr for attribute in ATTRIBUTES}
    | {element.vr for element in private.ELEMENTS}
    | {"AE", "UC", "ST"}
)
CHARACTER_SETS = ("", UTF_8, *sorted(PLAIN_SETS))
# pydicom reads numbers before it writes them, strips UIDs, and drops empty component groups at the
# end of a name.
NUMBERS = st.lists(st.integers(0, 99_999).map(str), min_size=1).map("\\".join)
SYNTAXES = pytest.mark.parametrize("is_implicit_vr", [True, False], ids=["implicit", "explicit"])


def values(vr: str, codec: str) -> st.SearchStrategy[Value]:
    """Return what a column, a count or a score may hold, in these characters."""
    if vr == "US":
        return st.integers(0, 0xFFFF)
    if vr == "FD":
        return st.floats(allow_nan=False)
    if vr == "DS":
        return NUMBERS
    if vr == "UI":
        return st.text(string.digits + ".\\", max_size=64)
    if vr == "IS":
        return NUMBERS | st.integers(0, 99_999)
    codec = codec if vr in FREE_TEXT_VRS else "ascii"
    text = st.binary(max_size=70).map(lambda raw: raw.decode(codec, "ignore")) | st.text(
        max_size=70
    ).map(lambda text: text.encode(codec, "ignore").decode(codec))
    if vr == "PN":
        text = text.map(lambda name: name.rstrip("=")).filter(lambda name: "=\\" not in name)
    return text | st.lists(st.text(string.ascii_uppercase), min_size=1) if vr == "CS" else text


@st.composite
def responses(draw: st.DrawFn) -> list[Element]:
    """Return the elements of a response in one of the character sets that are answered."""
    character_set = draw(st.sampled_from(CHARACTER_SETS))
    codec = python_encoding[character_set] if character_set else "ascii"
    vrs = draw(st.lists(st.sampled_from(VRS), max_size=8))
    elements = [
        Element(TAG + number, vr, draw(st.none() | values(vr, codec)))
        for number, vr in enumerate(vrs)
    ]
    if character_set:
        elements.insert(0, Element(SPECIFIC_CHARACTER_SET, "CS", character_set))
    return elements


@SYNTAXES
@settings(suppress_health_check=[HealthCheck.too_slow])
@given(elements=responses())
def test_elements_are_written_as_pydicom_writes_them(
    elements: list[Element], is_implicit_vr: bool
) -> None:
    expected = encode(dataset_of(elements), is_implicit_vr, True)

    assert encoded(elements, is_implicit_vr=is_implicit_vr) == expected


@SYNTAXES
@pytest.mark.parametrize("length", [0xFFFE, 0x10000])
@pytest.mark.parametrize("vr", ["LO", "UT"])
def test_a_value_too_long_for_its_vr_is_written_as_pydicom_writes_it(
    vr: str, length: int, is_implicit_vr: bool
) -> None:
    elements = [Element(TAG, vr, "x" * length)]

    expected = encode(dataset_of(elements), is_implicit_vr, True)

    assert encoded(elements, is_implicit_vr=is_implicit_vr) == expected


@SYNTAXES
def test_any_key_of_the_standard_may_be_empty(is_implicit_vr: bool) -> None:
    tags = [tag for tag in sorted(DicomDictionary) if 0x0002 < tag >> 16 < 0xFFFE]
    elements = [Element(tag, vr_of(tag), None) for tag in tags if tag != SPECIFIC_CHARACTER_SET]

    expected = encode(dataset_of(elements), is_implicit_vr, True)

    assert encoded(elements, is_implicit_vr=is_implicit_vr) == expected


def test_text_of_other_characters_never_stops_an_answer() -> None:
    elements = [Element(TAG, "CS", "\N{GREEK SMALL LETTER ALPHA}"), Element(TAG + 1, "LO", "ä")]

    assert encoded(elements, is_implicit_vr=True)[8:10] == b"? "


def test_the_computed_keys_have_vrs_that_are_compared_here() -> None:
    assert {vr_of(keyword) for keyword in COMPUTED} <= set(VRS)
