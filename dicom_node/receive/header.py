"""From the bytes of a dataset to the `Header` that the catalogue keeps.

Reads the attributes of `index.attributes.ATTRIBUTES` and stops behind the last of them: pixels are
never touched, values are never validated beyond the three UIDs, and nothing a sender writes into
a header can cost more than reading its first megabytes.
"""

import re
import struct
import zlib
from io import BytesIO
from pathlib import Path
from typing import BinaryIO

from pydicom.charset import convert_encodings, decode_bytes, default_encoding, python_encoding
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.errors import InvalidDicomError
from pydicom.filereader import read_dataset, read_preamble
from pydicom.tag import BaseTag, Tag
from pydicom.uid import (
    UID,
    DeflatedExplicitVRLittleEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
)
from pydicom.valuerep import TEXT_VR_DELIMS

from dicom_node.errors import BadIdentity, NotUnderstood
from index.attributes import ATTRIBUTES
from index.records import Header

# PS3.5 9.1: digits and dots, at most 64 characters. Components with a leading zero are against the
# rule but common in archives, so they pass.
_UID = re.compile(r"[0-9]+(\.[0-9]+)*")
_UID_LENGTH = 64

_CHARACTER_SET = Tag("SpecificCharacterSet")
_TAGS = {attribute.column: Tag(attribute.keyword) for attribute in ATTRIBUTES}
_TEXT_VRS = frozenset({"LO", "SH", "PN", "LT", "ST", "UT", "UC"})
_TEXT = {a.column for a in ATTRIBUTES if a.vr in _TEXT_VRS}
_LAST_TAG = max(_TAGS.values())
_IDENTITY = {
    "study_instance_uid": "StudyInstanceUID",
    "series_instance_uid": "SeriesInstanceUID",
    "sop_instance_uid": "SOPInstanceUID",
    "sop_class_uid": "SOPClassUID",
}

# A deflated dataset is inflated no further than this: the header fits, a bomb does not.
_INFLATED_BYTES = 8 << 20

# Everything pydicom's parser lets out on bytes that are no dataset.
_PARSE_ERRORS = (
    InvalidDicomError, EOFError, struct.error, zlib.error, ValueError, KeyError, TypeError,
    AttributeError, NotImplementedError, OverflowError, RecursionError,
)  # fmt: skip


def read_header(dataset: bytes, transfer_syntax_uid: str) -> Header:
    """Return the catalogue's view of an encoded dataset.

    Raises `NotUnderstood` when the bytes are no dataset in that transfer syntax, `BadIdentity`
    when a UID is missing or no UID (PS3.5 9.1).
    """
    try:
        parsed = _parse(dataset, UID(transfer_syntax_uid))
        encodings = _encodings(_raw(parsed, _CHARACTER_SET))
        values = {
            column: _text(_raw(parsed, tag), encodings if column in _TEXT else [default_encoding])
            for column, tag in _TAGS.items()
        }
    except _PARSE_ERRORS as error:
        raise NotUnderstood(f"the data set cannot be read: {type(error).__name__}") from error
    for column, keyword in _IDENTITY.items():
        check_uid(values[column], keyword)
    return Header(**values, transfer_syntax_uid=transfer_syntax_uid)


def check_uid(value: str, keyword: str) -> None:
    """Raise `BadIdentity` unless `value` is a UID."""
    if not value:
        raise BadIdentity(f"{keyword} is missing", keyword=keyword)
    if len(value) > _UID_LENGTH or not _UID.fullmatch(value):
        raise BadIdentity(f"{keyword} is not a UID", keyword=keyword)


def split_file(file: BinaryIO) -> tuple[FileMetaDataset, bytes]:
    """Return the file meta and the encoded dataset of a DICOM file (PS3.10 7.1).

    A file without a transfer syntax is taken as explicit or implicit little endian, by the look of
    its first element. Raises `NotUnderstood` for what is no DICOM file.
    """
    try:
        read_preamble(file, force=False)
        elements = read_dataset(file, False, True, stop_when=lambda tag, vr, length: tag.group != 2)
        meta = FileMetaDataset(elements)
    except _PARSE_ERRORS as error:
        raise NotUnderstood(f"not a DICOM file: {type(error).__name__}") from error
    dataset = file.read()
    if not meta.get("TransferSyntaxUID"):
        explicit = dataset[4:6].isalpha() and dataset[4:6].isupper()
        meta.TransferSyntaxUID = ExplicitVRLittleEndian if explicit else ImplicitVRLittleEndian
    return meta, dataset


def read_file(path: Path) -> tuple[FileMetaDataset, bytes, Header]:
    """Return file meta, encoded dataset and header of the file at `path`."""
    with path.open("rb") as file:
        meta, dataset = split_file(file)
    return meta, dataset, read_header(dataset, str(meta.TransferSyntaxUID))


def with_meta(header: Header, meta: FileMetaDataset) -> FileMetaDataset:
    """Return `meta` completed with what a kept file must say about itself (PS3.10 Table 7.1-1)."""
    meta.MediaStorageSOPClassUID = UID(header.sop_class_uid)
    meta.MediaStorageSOPInstanceUID = UID(header.sop_instance_uid)
    return meta


def _parse(dataset: bytes, syntax: UID) -> Dataset:
    if syntax == DeflatedExplicitVRLittleEndian:
        dataset = zlib.decompressobj(-zlib.MAX_WBITS).decompress(dataset, _INFLATED_BYTES)
    known = syntax.is_transfer_syntax and not syntax.is_private
    return read_dataset(
        BytesIO(dataset),
        is_implicit_VR=known and syntax.is_implicit_VR,
        is_little_endian=not known or syntax.is_little_endian,
        stop_when=_behind_the_last,
        specific_tags=[_CHARACTER_SET, *_TAGS.values()],
    )


def _behind_the_last(tag: BaseTag, vr: str | None, length: int) -> bool:
    return bool(tag > _LAST_TAG)


def _raw(parsed: Dataset, tag: BaseTag) -> bytes:
    element = parsed.get_item(tag)
    value = element.value if element is not None else None
    if isinstance(value, bytes):
        return value
    return b"" if value is None else str(value).encode()


def _encodings(character_set: bytes) -> list[str]:
    """Return Python's names for SpecificCharacterSet; unknown terms count as UTF-8."""
    terms = [term.strip() for term in character_set.decode("ascii", "replace").split("\\")]
    if any(term not in python_encoding for term in terms):
        return ["utf-8"]
    return convert_encodings(terms)


def _text(value: bytes, encodings: list[str]) -> str:
    value = value.rstrip(b"\x00 ")
    if len(encodings) == 1:
        return value.decode(encodings[0], "replace").strip()
    return decode_bytes(value, encodings, TEXT_VR_DELIMS).strip()
