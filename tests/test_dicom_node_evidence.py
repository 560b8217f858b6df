"""Query evidence: headers of any make are read without a complaint, or refused with a reason."""

from pathlib import Path

import pydicom.data
import pytest
from cases import case
from pydicom import dcmread
from pydicom.dataset import Dataset
from pydicom.filebase import DicomBytesIO
from pydicom.filereader import read_dataset

from dicom_node.answer.evidence import QueryEvidence, first_item_of, integer_of, text_of

CHARACTER_SETS = {
    "chrFren.dcm": "Buc^Jérôme",
    "chrGreek.dcm": "Διονυσιος",
    "chrH31.dcm": "Yamada^Tarou=山田^太郎=やまだ^たろう",
    "chrKoreanMulti.dcm": "김희중",
    "chrX1.dcm": "Wang^XiaoDong=王^小東=",
}
IDENTITY_UIDS = ("StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID", "SOPClassUID")


def image(study: str = "1.2.3", instance: str = "1.2.3.4.5") -> Dataset:
    header = Dataset()
    header.StudyInstanceUID = study
    header.SeriesInstanceUID = "1.2.3.4"
    header.SOPInstanceUID = instance
    header.SOPClassUID = "1.2.840.10008.5.1.4.1.1.2"
    return header


def received(*elements: tuple[int, bytes, bytes]) -> Dataset:
    """Return a dataset as it comes from a file: (tag, VR, value bytes) not yet converted."""
    encoded = b"".join(
        (tag >> 16).to_bytes(2, "little")
        + (tag & 0xFFFF).to_bytes(2, "little")
        + vr
        + len(value).to_bytes(2, "little")
        + value
        for tag, vr, value in elements
    )
    return Dataset(read_dataset(DicomBytesIO(encoded), False, True))


def evidence(*images: Dataset) -> QueryEvidence:
    return QueryEvidence(
        images=images, query_clip_image=tuple(str(image.SOPInstanceUID) for image in images)
    )


@pytest.mark.parametrize("name", CHARACTER_SETS)
def test_names_in_any_character_set_are_read_as_unicode(name: str) -> None:
    path = Path(pydicom.data.__file__).parent / "charset_files" / name
    assert text_of(dcmread(path), "PatientName") == CHARACTER_SETS[name]


# pydicom's own warning, at reading.
@pytest.mark.filterwarnings("ignore:Unknown encoding 'ISO_IR 999':UserWarning")
def test_an_unknown_character_set_counts_as_utf_8() -> None:
    header = received((0x00080005, b"CS", b"ISO_IR 999"), (0x00100020, b"LO", "Zoë".encode()))
    assert text_of(header, "PatientID") == "Zoë"


def test_an_item_inherits_the_character_set_of_the_image() -> None:
    header = received((0x00080005, b"CS", b"ISO_IR 100"))
    item = received((0x00401001, b"SH", b"H\xfcfte "))
    assert text_of(item, "RequestedProcedureID", header) == "Hüfte"


@pytest.mark.parametrize(
    ("tag", "vr", "value", "keyword"),
    [
        (0x00080020, b"DA", b"1997.01.02", "StudyDate"),
        (0x00080030, b"TM", b"10:20:30", "StudyTime"),
        (0x00101010, b"AS", b"64", "PatientAge"),
        (0x00080060, b"CS", b"ct!?", "Modality"),
        (0x00200052, b"UI", b"none", "FrameOfReferenceUID"),
    ],
)
def test_a_value_that_breaks_its_vr_counts_as_absent(
    tag: int, vr: bytes, value: bytes, keyword: str
) -> None:
    assert text_of(received((tag, vr, value)), keyword) == ""


def test_an_identifier_is_kept_however_long_it_is() -> None:
    assert text_of(received((0x00100020, b"LO", b"9" * 80)), "PatientID") == "9" * 80


def test_a_uid_with_a_leading_zero_is_kept() -> None:
    assert text_of(received((0x0020000D, b"UI", b"1.2.03")), "StudyInstanceUID") == "1.2.03"


def test_a_damaged_number_or_sequence_counts_as_absent() -> None:
    header = received((0x00280010, b"US", b"\x01"), (0x00280011, b"US", b"\x80\x00"))
    assert integer_of(header, "Rows") is None
    assert integer_of(header, "Columns") == 128
    assert first_item_of(header, "RequestAttributesSequence") == Dataset()


def test_a_clip_is_traced_to_its_key_image() -> None:
    first, second = image(), image(instance="1.2.3.4.6")
    query = QueryEvidence(
        images=(first, second), query_clip_image=("1.2.3.4.6", "1.2.3.4.5", "1.2.3.4.6")
    )
    found = [query.source(case(1, 0.9, query_clip=clip)).image.header for clip in range(3)]
    assert found == [second, first, second]


@pytest.mark.parametrize("keyword", IDENTITY_UIDS)
def test_an_image_without_identity_is_no_evidence(keyword: str) -> None:
    nameless = image()
    nameless[keyword].value = ""
    with pytest.raises(ValueError, match="lacks one of"):
        evidence(nameless)


def test_no_image_is_no_evidence() -> None:
    with pytest.raises(ValueError, match="at least one"):
        evidence()


def test_images_of_two_studies_are_no_evidence() -> None:
    with pytest.raises(ValueError, match="more than one study"):
        evidence(image(), image(study="1.2.4", instance="1.2.4.5"))


def test_a_clip_whose_image_is_missing_is_no_evidence() -> None:
    with pytest.raises(ValueError, match=r"1\.2\.9"):
        QueryEvidence(images=(image(),), query_clip_image=("1.2.9",))
