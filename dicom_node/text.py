"""Text out of DICOM bytes: character sets, padding, UIDs. Never raises, never warns, never quotes.

pydicom's own conversion repeats values in warnings and errors, and values may name a patient.
"""

import re
from collections.abc import Iterable
from contextlib import suppress

from pydicom import config
from pydicom.charset import convert_encodings, decode_bytes, default_encoding, python_encoding
from pydicom.valuerep import TEXT_VR_DELIMS, PersonName

# PS3.5 6.1.2.3: the VRs whose values depend on SpecificCharacterSet.
UTF_8 = "ISO_IR 192"
FREE_TEXT_VRS = frozenset({"LO", "SH", "PN", "LT", "ST", "UT", "UC"})

# PS3.3 C.12.1.1.2: the character sets, other than UTF-8, that need no escapes.
PLAIN_SETS = frozenset(python_encoding) & {
    *(f"ISO_IR {n}" for n in (100, 101, 109, 110, 126, 127, 138, 144, 148, 166, 203)), "GB18030",
}  # fmt: skip

# PS3.5 9.1: digits and dots, at most 64 characters. Components with a leading zero are against the
# rule but common in archives, so they pass.
_UID = re.compile(r"(?=.{1,64}$)[0-9]+(\.[0-9]+)*")


def is_uid(value: str) -> bool:
    """Tell whether `value` is a UID."""
    return _UID.fullmatch(value) is not None


def encodings(character_set: bytes) -> list[str]:
    """Return Python's names for a SpecificCharacterSet; unknown terms count as UTF-8."""
    terms = [term.strip(" \0") for term in character_set.decode("ascii", "replace").split("\\")]
    if any(term not in python_encoding for term in terms):
        return ["utf-8"]
    return convert_encodings(terms)


def character_set(texts: Iterable[str], wanted: str) -> str:
    """Return the SpecificCharacterSet that these texts need: none, `wanted` if it will do, UTF-8.

    `wanted` is the one that the peer uses itself.
    """
    joined = "".join(texts)
    if joined.isascii():
        return ""
    if wanted in PLAIN_SETS:
        with suppress(UnicodeEncodeError):
            joined.encode(python_encoding[wanted])
            return wanted
    return UTF_8


def decode(value: bytes, vr: str, names: list[str]) -> str:
    """Return the value of an element of `vr` as text, without its padding."""
    value = value.rstrip(b"\x00 ")
    if vr not in FREE_TEXT_VRS:
        names = [default_encoding]
    if len(names) == 1:
        return value.decode(names[0], "replace").strip()
    if vr == "PN":  # each component group begins with the first character set again
        return str(PersonName(value, names, validation_mode=config.IGNORE)).strip()
    return decode_bytes(value, names, TEXT_VR_DELIMS).strip()
