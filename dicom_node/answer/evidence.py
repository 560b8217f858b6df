"""The query's images as evidence of a report, and how their headers are read.

A PACS sends whatever its modalities wrote: attributes missing, damaged, in any character set.
What cannot be read counts as absent; nothing here raises for it or repeats it in a warning.
"""

import struct
from dataclasses import dataclass, field
from typing import Any

from pydicom import config
from pydicom.datadict import dictionary_VR
from pydicom.dataset import Dataset
from pydicom.errors import BytesLengthException
from pydicom.multival import MultiValue
from pydicom.valuerep import validate_value

from dicom_node.text import FREE_TEXT_VRS, decode, encodings, is_uid
from index.parts import PartPlace
from index.records import Case

_IDENTITY = ("StudyInstanceUID", "SOPClassUID", "SOPInstanceUID", "SeriesInstanceUID")

# Everything pydicom's conversion of a damaged element lets out.
_DAMAGED = (
    BytesLengthException, ValueError, TypeError, KeyError, AttributeError, EOFError,
    NotImplementedError, OverflowError, struct.error,
)  # fmt: skip


@dataclass(frozen=True, slots=True, eq=False)
class KeyImage:
    """One image of the query: its header and the UIDs by which it is referred to."""

    header: Dataset
    sop_class_uid: str
    sop_instance_uid: str
    series_instance_uid: str


@dataclass(frozen=True, slots=True, eq=False)
class Source:
    """A key image, and the part of it that is meant, None for all of it."""

    image: KeyImage
    part: PartPlace | None

    @property
    def frame(self) -> int | None:
        """The frame to refer to; None where the image has only one, or all are meant."""
        several = (integer_of(self.image.header, "NumberOfFrames") or 1) > 1
        return self.part.frame if self.part is not None and several else None


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

    def source(self, case: Case) -> Source:
        """Return what a case is most like: its part of the query, else the clip's key image."""
        part = case.query_part
        by_uid = {image.sop_instance_uid: image for image in self.key_images}
        if part is not None and part.sop_instance_uid in by_uid:
            return Source(by_uid[part.sop_instance_uid], part)
        return Source(by_uid[self.query_clip_image[case.query_clip]], None)


def text_of(dataset: Dataset, keyword: str, parent: Dataset | None = None) -> str:
    """Return an attribute as text in Unicode; empty when it is absent or breaks its VR.

    Reads the bytes instead of converting them, so that no value ends up in a warning. An item of
    a sequence inherits the character set of its `parent` (PS3.3 C.12.1.1.2).
    """
    value = _stored(dataset, keyword)
    vr = dictionary_VR(keyword)
    if isinstance(value, bytes):
        text = decode(value, vr, encodings(_character_set(dataset, parent)))
    elif isinstance(value, MultiValue):
        text = "\\".join(str(part) for part in value)
    else:
        text = "" if value is None else str(value)
    text = text.strip(" \0")
    # Text that identifies is copied as it is, too long or not: it must match what the archive has.
    return text if text and (vr in FREE_TEXT_VRS or _obeys(vr, text)) else ""


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


def _character_set(dataset: Dataset, parent: Dataset | None) -> bytes:
    """Return SpecificCharacterSet as it stands in the data set, or in its parent."""
    if parent is not None and "SpecificCharacterSet" not in dataset:
        dataset = parent
    value = _stored(dataset, "SpecificCharacterSet")
    if isinstance(value, bytes):
        return value
    terms = [value] if isinstance(value, str) else list(value or [])
    return "\\".join(str(term) for term in terms).encode()


def _obeys(vr: str, value: str) -> bool:
    if vr == "UI":
        return is_uid(value)
    try:
        validate_value(vr, value, config.RAISE)
    except ValueError:
        return False
    return True
