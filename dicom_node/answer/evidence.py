"""The query's images as evidence of a report, and how their headers are read.

A PACS sends whatever its modalities wrote: attributes missing, damaged, in any character set.
What cannot be read counts as absent; nothing here raises for it or repeats it in a warning.
"""

import re
import struct
from dataclasses import dataclass, field
from typing import Any

from pydicom import config
from pydicom.charset import convert_encodings, decode_bytes, python_encoding
from pydicom.datadict import dictionary_VR
from pydicom.dataset import Dataset
from pydicom.errors import BytesLengthException
from pydicom.multival import MultiValue
from pydicom.valuerep import TEXT_VR_DELIMS, PersonName, validate_value

_IDENTITY = ("StudyInstanceUID", "SOPClassUID", "SOPInstanceUID", "SeriesInstanceUID")

# Everything pydicom's conversion of a damaged element lets out.
_DAMAGED = (
    BytesLengthException, ValueError, TypeError, KeyError, AttributeError, EOFError,
    NotImplementedError, OverflowError, struct.error,
)  # fmt: skip

# PS3.5 9.1, but for components with a leading zero, which are common in archives.
_UID = re.compile(r"(?=.{1,64}$)[0-9]+(\.[0-9]+)*")

# Text that identifies is copied as it is, too long or not: it must match what the archive has.
_FREE_TEXT = frozenset({"LO", "SH", "PN", "LT", "ST", "UT", "UC"})


@dataclass(frozen=True, slots=True, eq=False)
class KeyImage:
    """One image of the query: its header and the UIDs by which it is referred to."""

    header: Dataset
    sop_class_uid: str
    sop_instance_uid: str
    series_instance_uid: str


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class QueryEvidence:
    """The headers of the query's key images, the first of which decides patient and study.

    `query_clip_image`: for each row of `Query.vectors` the SOP Instance UID of its key image.
    Raises ValueError when an image lacks a UID, is of another study, or is missing.
    """

    images: tuple[Dataset, ...]
    query_clip_image: tuple[str, ...]
    key_images: tuple[KeyImage, ...] = field(init=False)

    def __post_init__(self) -> None:
        if not self.images:
            raise ValueError("a report needs at least one query image")
        by_uid: dict[str, KeyImage] = {}
        for header in self.images:
            study, *uids = (text_of(header, keyword) for keyword in _IDENTITY)
            if not (study and all(uids)):
                raise ValueError(f"a query image lacks one of {', '.join(_IDENTITY)}")
            if study != self.study_instance_uid:
                raise ValueError("the query images are of more than one study")
            key_image = KeyImage(header, *uids)
            by_uid[key_image.sop_instance_uid] = key_image
        missing = set(self.query_clip_image) - by_uid.keys()
        if missing:
            raise ValueError(f"key images without a header: {', '.join(sorted(missing))}")
        object.__setattr__(self, "key_images", tuple(by_uid.values()))

    @property
    def study_instance_uid(self) -> str:
        """The study that the report belongs to."""
        return text_of(self.images[0], "StudyInstanceUID")

    def source(self, query_clip: int) -> KeyImage:
        """Return the key image of a row of `Query.vectors`."""
        uid = self.query_clip_image[query_clip]
        return next(image for image in self.key_images if image.sop_instance_uid == uid)


def text_of(dataset: Dataset, keyword: str, parent: Dataset | None = None) -> str:
    """Return an attribute as text in Unicode; empty when it is absent or breaks its VR.

    Reads the bytes instead of converting them, so that no value ends up in a warning. An item of
    a sequence inherits the character set of its `parent` (PS3.3 C.12.1.1.2).
    """
    value = _stored(dataset, keyword)
    vr = dictionary_VR(keyword)
    if isinstance(value, bytes):
        text = _decode(value, _encodings(dataset, parent) if vr in _FREE_TEXT else ["ascii"], vr)
    elif isinstance(value, MultiValue):
        text = "\\".join(str(part) for part in value)
    else:
        text = "" if value is None else str(value)
    text = text.strip(" \0")
    return text if text and (vr in _FREE_TEXT or _obeys(vr, text)) else ""


def integer_of(image: Dataset, keyword: str) -> int | None:
    """Return an attribute as integer; None when it is absent or damaged."""
    try:
        value = image.get(keyword)
        return None if value is None else int(value)
    except _DAMAGED:
        return None


def first_item_of(image: Dataset, keyword: str) -> Dataset:
    """Return the first item of a sequence; an empty one when it is absent or damaged."""
    try:
        items = image.get(keyword)
        return items[0] if items else Dataset()
    except _DAMAGED:
        return Dataset()


def _stored(dataset: Dataset, keyword: str) -> Any:
    """Return a value as it is held: bytes until someone had it converted."""
    return dataset.get_item(keyword).value if keyword in dataset else None


def _decode(value: bytes, encodings: list[str], vr: str) -> str:
    if len(encodings) == 1:
        return value.decode(encodings[0], "replace")
    if vr == "PN":
        return str(PersonName(value, encodings, validation_mode=config.IGNORE))
    return decode_bytes(value, encodings, TEXT_VR_DELIMS)


def _encodings(dataset: Dataset, parent: Dataset | None) -> list[str]:
    """Return Python's names for SpecificCharacterSet; unknown terms count as UTF-8."""
    if parent is not None and "SpecificCharacterSet" not in dataset:
        dataset = parent
    value = _stored(dataset, "SpecificCharacterSet")
    if isinstance(value, bytes):
        value = value.decode("ascii", "replace").split("\\")
    terms = [value] if isinstance(value, str) else list(value or [""])
    terms = [str(term).strip(" \0") for term in terms]
    if any(term not in python_encoding for term in terms):
        return ["utf-8"]
    return convert_encodings(terms)


def _obeys(vr: str, value: str) -> bool:
    if vr == "UI":
        return _UID.fullmatch(value) is not None
    try:
        validate_value(vr, value, config.RAISE)
    except ValueError:
        return False
    return True
