"""From the bytes of a dataset to the `Header` that the catalogue keeps.

Reads the attributes of `index.attributes.ATTRIBUTES` and stops behind the last of them: pixels are
never touched, values are never validated beyond the four UIDs, and nothing a sender writes into
a header can cost more than reading its first megabytes.
"""

import struct
import zlib
from collections.abc import Iterable
from io import BytesIO
from pathlib import Path
from typing import BinaryIO

from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.errors import BytesLengthException, InvalidDicomError
from pydicom.filereader import read_dataset, read_file_meta_info, read_preamble
from pydicom.tag import BaseTag, Tag
from pydicom.uid import (
    UID,
    DeflatedExplicitVRLittleEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    MediaStorageDirectoryStorage,
)

from dicom_node.errors import BadIdentity, NotUnderstood
from dicom_node.text import decode, encodings, is_uid
from index.attributes import ATTRIBUTES
from index.records import Header

_CHARACTER_SET = Tag("SpecificCharacterSet")
_TRANSFER_SYNTAX = Tag("TransferSyntaxUID")
_MEDIA_CLASS = Tag("MediaStorageSOPClassUID")
_TAGS = {attribute.column: Tag(attribute.keyword) for attribute in ATTRIBUTES}
_VRS = {attribute.column: attribute.vr for attribute in ATTRIBUTES}
IDENTITY = {
    "study_instance_uid": "StudyInstanceUID",
    "series_instance_uid": "SeriesInstanceUID",
    "sop_instance_uid": "SOPInstanceUID",
    "sop_class_uid": "SOPClassUID",
}

# A header ends before this; what is longer is damaged, or meant to exhaust memory.
_HEADER_BYTES = 8 << 20
DICOMDIR = "a DICOMDIR: the files it lists are taken in by themselves"
# What a report may quote of a query image stands before the pixels: up to the request (0040,xxxx).
_LAST_EVIDENCE = Tag(0x0040, 0xFFFF)
_LAST_BEFORE_PIXELS = Tag(0x7FDF, 0xFFFF)

# Private Information Creator UID (PS3.10 Table 7.1-1) of a file that was sent as a query.
_GUEST = "2.25.172382500392896018441397937692805984372"

# Everything pydicom's parser lets out on bytes that are no dataset.
PARSE_ERRORS = (
    InvalidDicomError, BytesLengthException, EOFError, OSError, struct.error, zlib.error,
    ValueError, LookupError, TypeError, AttributeError, NotImplementedError, OverflowError,
    RecursionError,
)  # fmt: skip


def read_header(dataset: bytes, transfer_syntax_uid: str) -> Header:
    """Return the catalogue's view of an encoded dataset.

    Raises `NotUnderstood` when the bytes are no dataset in that transfer syntax, `BadIdentity`
    when a UID is missing or no UID (PS3.5 9.1).
    """
    tags = _TAGS.values()
    try:
        parsed = _parse(dataset, transfer_syntax_uid, last=max(tags), only=tags)
        names = encodings(_raw(parsed, _CHARACTER_SET))
        values = {
            column: decode(_raw(parsed, tag), _VRS[column], names) for column, tag in _TAGS.items()
        }
    except PARSE_ERRORS as error:
        raise NotUnderstood(f"the data set cannot be read: {type(error).__name__}") from error
    for column, keyword in IDENTITY.items():
        check_uid(values[column], keyword)
    return Header(**values, transfer_syntax_uid=transfer_syntax_uid)


def check_uid(value: str, keyword: str) -> None:
    """Raise `BadIdentity` unless `value` is a UID."""
    if not value:
        raise BadIdentity(f"{keyword} is missing", keyword=keyword)
    if not is_uid(value):
        raise BadIdentity(f"{keyword} is not a UID", keyword=keyword)


def read_elements(dataset: bytes, transfer_syntax_uid: str, keywords: Iterable[str]) -> Dataset:
    """Return only these elements of an encoded dataset; raises `NotUnderstood`."""
    tags = [Tag(keyword) for keyword in keywords]
    try:
        parsed = _parse(dataset, transfer_syntax_uid, last=max(tags), only=tags)
        parsed.decode()  # now, not when someone looks: sequences are parsed as they are read
    except PARSE_ERRORS as error:
        raise NotUnderstood(f"the data set cannot be read: {type(error).__name__}") from error
    return parsed


def split_file(file: BinaryIO) -> tuple[FileMetaDataset, bytes]:
    """Return the transfer syntax, as file meta, and the encoded dataset of a file (PS3.10 7.1).

    A file without a transfer syntax is taken as explicit or implicit little endian, by the look of
    its first element. Raises `NotUnderstood`, also for a DICOMDIR, which is no object but a list
    of files (PS3.10 8.6).
    """
    try:
        read_preamble(file, force=False)
        elements = read_dataset(file, False, True, stop_when=lambda tag, vr, length: tag.group != 2)
        syntax = decode(_raw(elements, _TRANSFER_SYNTAX), "UI", [])
        media_class = decode(_raw(elements, _MEDIA_CLASS), "UI", [])
        dataset = b"" if media_class == MediaStorageDirectoryStorage else file.read()
    except InvalidDicomError as error:
        raise NotUnderstood("not a DICOM file") from error
    except PARSE_ERRORS as error:
        raise NotUnderstood(f"a damaged DICOM file: {type(error).__name__}") from error
    if media_class == MediaStorageDirectoryStorage:
        raise NotUnderstood(DICOMDIR)
    if not is_uid(syntax):
        explicit = dataset[4:6].isalpha() and dataset[4:6].isupper()
        syntax = ExplicitVRLittleEndian if explicit else ImplicitVRLittleEndian
    meta = FileMetaDataset()
    meta.TransferSyntaxUID = UID(syntax)
    return meta, dataset


def read_file(path: Path) -> tuple[FileMetaDataset, bytes, Header]:
    """Return file meta, encoded dataset and header of the file at `path`."""
    with path.open("rb") as file:
        meta, dataset = split_file(file)
    return meta, dataset, read_header(dataset, str(meta.TransferSyntaxUID))


def read_file_header(path: Path) -> Header:
    """Return the header of the file at `path`, of which no more than that is read."""
    meta, dataset = _beginning(path)
    return read_header(dataset, str(meta.TransferSyntaxUID))


def read_evidence(path: Path) -> Dataset:
    """Return what a report may quote of a kept image; raises `NotUnderstood`."""
    meta, dataset = _beginning(path)
    try:
        return _parse(dataset, str(meta.TransferSyntaxUID), last=_LAST_EVIDENCE, only=None)
    except PARSE_ERRORS as error:
        raise NotUnderstood(f"the header cannot be read: {type(error).__name__}") from error


def read_metadata(path: Path) -> Dataset:
    """Return everything that stands before the pixels of a kept file; raises `NotUnderstood`."""
    meta, dataset = _beginning(path)
    try:
        return _parse(dataset, str(meta.TransferSyntaxUID), last=_LAST_BEFORE_PIXELS, only=None)
    except PARSE_ERRORS as error:
        raise NotUnderstood(f"the header cannot be read: {type(error).__name__}") from error


def _beginning(path: Path) -> tuple[FileMetaDataset, bytes]:
    with path.open("rb") as file:
        return split_file(BytesIO(file.read(_HEADER_BYTES)))


def with_meta(header: Header, meta: FileMetaDataset, *, guest: bool = False) -> FileMetaDataset:
    """Return `meta` completed with what a kept file must say about itself (PS3.10 Table 7.1-1).

    A `guest`'s file says that it was sent as a query: without its row nothing else tells.
    """
    meta.MediaStorageSOPClassUID = UID(header.sop_class_uid)
    meta.MediaStorageSOPInstanceUID = UID(header.sop_instance_uid)
    if guest:
        meta.PrivateInformationCreatorUID = UID(_GUEST)
        meta.PrivateInformation = b"guest\0"
    return meta


def is_guest(meta: FileMetaDataset) -> bool:
    """Tell whether a file with this `meta` was sent as a query."""
    return bool(meta.get("PrivateInformationCreatorUID") == _GUEST)


def is_guest_file(path: Path) -> bool:
    """Tell whether the file at `path` says that it was sent as a query; a damaged one does not."""
    try:
        return is_guest(read_file_meta_info(path))
    except PARSE_ERRORS:
        return False


def _parse(
    dataset: bytes, transfer_syntax_uid: str, *, last: BaseTag, only: Iterable[BaseTag] | None
) -> Dataset:
    """Read a dataset up to the tag `last`, all elements or `only` some; inflate no further."""
    syntax = UID(transfer_syntax_uid)
    if syntax == DeflatedExplicitVRLittleEndian:
        dataset = zlib.decompressobj(-zlib.MAX_WBITS).decompress(dataset, _HEADER_BYTES)
    known = syntax.is_transfer_syntax and not syntax.is_private
    return read_dataset(
        BytesIO(dataset),
        is_implicit_VR=known and syntax.is_implicit_VR,
        is_little_endian=not known or syntax.is_little_endian,
        stop_when=lambda tag, vr, length: bool(tag > last),
        specific_tags=None if only is None else [_CHARACTER_SET, *only],
    )


def _raw(parsed: Dataset, tag: BaseTag) -> bytes:
    element = parsed.get_item(tag)
    value = element.value if element is not None else None
    if isinstance(value, bytes):
        return value
    return b"" if value is None else str(value).encode()
