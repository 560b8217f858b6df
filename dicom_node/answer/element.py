"""The elements of a C-FIND response, as bytes for an association or as a data set for the web.

One response has a dozen elements of plain values and a query has many responses: written here,
without a `Dataset` between, they cost a twentieth of what pydicom takes.
"""

from collections.abc import Iterable
from struct import pack
from typing import NamedTuple

from pydicom.charset import default_encoding, python_encoding
from pydicom.dataset import Dataset
from pydicom.valuerep import EXPLICIT_VR_LENGTH_32

from dicom_node.text import FREE_TEXT_VRS

Value = str | int | float | list[str] | None

SPECIFIC_CHARACTER_SET = 0x00080005
_BINARY = {"US": "<H", "FD": "<d"}
_LONGEST = 0xFFFF  # what the length of an explicit VR says, PS3.5 7.1.2


class Element(NamedTuple):
    """One element of a response: no sequence with items, no value of bytes."""

    tag: int
    vr: str
    value: Value


def dataset_of(elements: Iterable[Element]) -> Dataset:
    """Return the elements as a data set."""
    dataset = Dataset()
    for tag, vr, value in elements:
        dataset.add_new(tag, vr, value)
    return dataset


def encoded(elements: Iterable[Element], *, is_implicit_vr: bool) -> bytes:
    """Return the elements, which are in the order of their tags, in Little Endian (PS3.5 7.1).

    Free text is in the SpecificCharacterSet among them, one that needs no escapes.
    """
    codec = default_encoding
    written = []
    for tag, vr, value in elements:
        if tag == SPECIFIC_CHARACTER_SET:
            codec = python_encoding[str(value)]
        encoded_value = _bytes(vr, value, codec)
        written += [_header(tag, vr, len(encoded_value), is_implicit_vr), encoded_value]
    return b"".join(written)


def _header(tag: int, vr: str, length: int, is_implicit_vr: bool) -> bytes:
    group, element = tag >> 16, tag & 0xFFFF
    if is_implicit_vr:
        return pack("<HHL", group, element, length)
    if length > _LONGEST and vr not in EXPLICIT_VR_LENGTH_32:
        vr = "UN"  # PS3.5 6.2.2
    if vr in EXPLICIT_VR_LENGTH_32:
        return pack("<HH2sHL", group, element, vr.encode(), 0, length)
    return pack("<HH2sH", group, element, vr.encode(), length)


def _bytes(vr: str, value: Value, codec: str) -> bytes:
    """Return a value, padded to even length (PS3.5 6.2)."""
    if value is None:
        return b""
    if vr in _BINARY:
        return pack(_BINARY[vr], value)
    text = "\\".join(value) if isinstance(value, list) else str(value)
    raw = text.encode(codec if vr in FREE_TEXT_VRS else default_encoding, "replace")
    return raw if len(raw) % 2 == 0 else raw + (b"\0" if vr == "UI" else b" ")
