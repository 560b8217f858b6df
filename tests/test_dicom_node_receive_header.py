"""Reading headers: bytes from anywhere become a `Header` or a clear refusal."""

import os
import shutil
import tracemalloc
import zlib
from collections.abc import Callable
from io import BytesIO
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydicom import dcmread
from pydicom.dataset import Dataset
from pydicom.filebase import DicomBytesIO
from pydicom.filewriter import write_dataset
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
)

from dicom_node.errors import BadIdentity, NotUnderstood, ObjectRefused
from dicom_node.receive.header import (
    check_uid,
    read_file,
    read_file_header,
    read_header,
    split_file,
)
from index.attributes import ATTRIBUTES


def minimal(**values: object) -> Dataset:
    dataset = Dataset()
    dataset.SOPClassUID = "1.2.840.10008.5.1.4.1.1.2"
    dataset.SOPInstanceUID = "1.2.3.4"
    dataset.StudyInstanceUID = "1.2.3"
    dataset.SeriesInstanceUID = "1.2.3.1"
    for keyword, value in values.items():
        setattr(dataset, keyword, value)
    return dataset


def encoded(dataset: Dataset, syntax: str = ExplicitVRLittleEndian) -> bytes:
    buffer = DicomBytesIO()
    buffer.is_little_endian = syntax != ExplicitVRBigEndian
    buffer.is_implicit_VR = syntax == ImplicitVRLittleEndian
    write_dataset(buffer, dataset)
    if syntax == DeflatedExplicitVRLittleEndian:
        compressor = zlib.compressobj(wbits=-zlib.MAX_WBITS)
        return compressor.compress(buffer.getvalue()) + compressor.flush()
    return buffer.getvalue()


@pytest.mark.parametrize(
    "syntax",
    [
        ImplicitVRLittleEndian,
        ExplicitVRLittleEndian,
        ExplicitVRBigEndian,
        DeflatedExplicitVRLittleEndian,
    ],
)
def test_the_same_header_is_read_from_every_encoding(syntax: str) -> None:
    dataset = minimal(Modality="CT", PatientID="7", BodyPartExamined="CHEST", InstanceNumber=3)

    header = read_header(encoded(dataset, syntax), syntax)

    assert (header.modality, header.patient_id, header.body_part_examined) == ("CT", "7", "CHEST")
    assert (header.instance_number, header.transfer_syntax_uid) == ("3", syntax)


@pytest.mark.parametrize("name", ["CT_small.dcm", "JPEG2000.dcm", "examples_ybr_color.dcm"])
def test_headers_agree_with_pydicom(bundled: Callable[[str], Path], name: str) -> None:
    path = bundled(name)

    _, _, header = read_file(path)

    dataset = dcmread(path, stop_before_pixels=True)
    for attribute in ATTRIBUTES:
        expected = str(dataset.get(attribute.keyword) or "").strip()
        assert getattr(header, attribute.column) == expected, attribute.keyword


@pytest.mark.parametrize(
    ("character_set", "raw", "expected"),
    [
        ("ISO_IR 100", "Müller".encode("latin-1"), "Müller"),
        ("ISO_IR 192", "山田".encode(), "山田"),
        ("\\ISO 2022 IR 87", b"Yamada=\x1b$B;3ED\x1b(B", "Yamada=山田"),
        ("NO SUCH SET", "Müller".encode(), "Müller"),
        ("", b"M\xfcller", "Müller"),
    ],
)
def test_names_are_decoded_by_their_character_set(
    character_set: str, raw: bytes, expected: str
) -> None:
    dataset = minimal(SpecificCharacterSet=character_set.split("\\"))
    body = encoded(dataset)
    name = b"\x10\x00\x10\x00PN" + (len(raw) + len(raw) % 2).to_bytes(2, "little")
    study = body.index(b"\x20\x00\x0d\x00")
    body = body[:study] + name + raw + b" " * (len(raw) % 2) + body[study:]

    assert read_header(body, ExplicitVRLittleEndian).patient_name == expected


@pytest.mark.parametrize(
    "keyword", ["StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID", "SOPClassUID"]
)
@pytest.mark.parametrize("value", ["", "../../etc/passwd", "1.2.3\\1.2.4", "1." * 40 + "1", "1..2"])
def test_a_uid_that_is_none_is_refused_by_name(keyword: str, value: str) -> None:
    dataset = minimal()
    del dataset[keyword]
    if value:
        dataset.add_new(keyword, "LO", value)

    with pytest.raises(BadIdentity) as refused:
        read_header(encoded(dataset), ExplicitVRLittleEndian)

    assert refused.value.keyword == keyword
    assert refused.value.status == 0xA900


def test_leading_zeros_in_a_uid_pass_because_archives_hold_them() -> None:
    check_uid("1.2.03.4", "StudyInstanceUID")


def test_a_deflate_bomb_is_inflated_no_further_than_its_header() -> None:
    bomb = minimal(PixelData=b"\0" * (64 << 20))
    bomb["PixelData"].VR = "OB"

    header = read_header(
        encoded(bomb, DeflatedExplicitVRLittleEndian), DeflatedExplicitVRLittleEndian
    )

    assert header.sop_instance_uid == "1.2.3.4"


def test_three_thousand_nested_sequences_are_refused_or_read_but_never_crash() -> None:
    item = minimal()
    nested = b"\xfe\xff\x00\xe0\xff\xff\xff\xff\x08\x00\x15\x11SQ\0\0\xff\xff\xff\xff" * 3000
    body = b"\x08\x00\x15\x11SQ\0\0\xff\xff\xff\xff" + nested + encoded(item)

    with pytest.raises(ObjectRefused):
        read_header(body, ExplicitVRLittleEndian)


@settings(max_examples=300)
@given(st.binary(max_size=600))
def test_random_bytes_are_refused_and_never_crash(body: bytes) -> None:
    with pytest.raises(ObjectRefused):
        read_header(body, ExplicitVRLittleEndian)


@settings(max_examples=300)
@given(st.integers(0, 400), st.integers(0, 255), st.integers(0, 400))
def test_a_damaged_header_is_read_or_refused(at: int, value: int, cut: int) -> None:
    body = bytearray(encoded(minimal(Modality="CT", PatientName="A^B", StudyDate="20260101")))
    body[at % len(body)] = value

    try:
        header = read_header(bytes(body[: len(body) - cut % len(body)]), ExplicitVRLittleEndian)
    except ObjectRefused as refusal:
        assert refusal.status in (0xA900, 0xC000)
    else:
        check_uid(header.sop_instance_uid, "SOPInstanceUID")


def test_a_file_is_split_into_meta_and_the_bytes_behind_it(
    bundled: Callable[[str], Path],
) -> None:
    content = bundled("CT_small.dcm").read_bytes()

    meta, dataset = split_file(BytesIO(content))

    assert content.endswith(dataset)
    assert dataset.startswith(b"\x08\x00")
    assert meta.TransferSyntaxUID == ExplicitVRLittleEndian


def test_a_file_that_is_only_looked_at_is_not_read_whole(
    bundled: Callable[[str], Path], tmp_path: Path
) -> None:
    path = tmp_path / "large.dcm"
    shutil.copy(bundled("CT_small.dcm"), path)
    os.truncate(path, 1 << 30)  # a hole: it takes no room on the disk
    tracemalloc.start()
    try:
        header = read_file_header(path)
        assert tracemalloc.get_traced_memory()[1] < 32 << 20
    finally:
        tracemalloc.stop()

    assert header == read_file(bundled("CT_small.dcm"))[2]


@pytest.mark.parametrize("content", [b"", b"DICM", b"\0" * 200, b"PK\x03\x04" + b"x" * 300])
def test_what_is_no_dicom_file_is_not_understood(content: bytes) -> None:
    with pytest.raises(NotUnderstood):
        split_file(BytesIO(content))
