import re
import zlib
from pathlib import Path

import pytest
from pydicom import Dataset, FileMetaDataset
from pydicom.uid import (
    UID,
    BasicTextSRStorage,
    EncapsulatedCDAStorage,
    EncapsulatedPDFStorage,
    ExplicitVRLittleEndian,
)

from training import phantoms
from training.errors import BadManifest
from training.pdf_text import MAX_BYTES, MAX_PAGES, text_of
from training.reports import MAX_DEPTH, Report, Reports, read_reports


def coded(meaning: str) -> list[Dataset]:
    code = Dataset()
    code.CodeValue, code.CodingSchemeDesignator, code.CodeMeaning = "1", "99TEST", meaning
    return [code]


def item(kind: str, name: str, **values: object) -> Dataset:
    made = Dataset()
    made.ValueType, made.ConceptNameCodeSequence = kind, coded(name)
    for keyword, value in values.items():
        setattr(made, keyword, value)
    return made


def write_report(path: Path, *content: Dataset) -> Path:
    root = item("CONTAINER", "Imaging Report", ContentSequence=list(content))
    root.SOPClassUID, root.SOPInstanceUID = BasicTextSRStorage, "1.2.3"
    root.StudyInstanceUID, root.Modality = "1.2.4", "SR"
    root.file_meta = FileMetaDataset()
    root.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    root.save_as(path, enforce_file_format=True)
    return path


def test_texts_and_codes_of_a_structured_report_are_taken_in_its_order_and_no_names(
    tmp_path: Path,
) -> None:
    finding = item("TEXT", "Finding", TextValue="Lobar opacity. No effusion.")
    section = item("CONTAINER", "Findings", ContentSequence=[finding])
    write_report(
        tmp_path / "report",
        item("PNAME", "Observer", PersonName="Doe^Jane"),
        section,
        item("CODE", "Impression", ConceptCodeSequence=coded("Pneumonia")),
        item("NUM", "Size"),
    )
    said = ("Lobar opacity", "No effusion", "Impression: Pneumonia")
    assert read_reports(tmp_path).reports == (Report("1.2.4", said),)


def test_texts_and_tables_are_read_and_wrapped_lines_put_together(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("FINDINGS. A SMALL\r\nNODULE OF 4.5 MM. Clear.\n\nNo change\n")
    table = 'text,study_instance_uid\n"Normal,\nclear lungs",1.2.5\n,1.2.6\n'
    (tmp_path / "b.csv").write_text(table)
    (tmp_path / "c.md").write_text("not a report")
    assert read_reports(tmp_path).reports == (
        Report("", ("FINDINGS", "A SMALL NODULE OF 4.5 MM", "Clear", "No change")),
        Report("1.2.5", ("Normal, clear lungs",)),
    )


def test_a_table_without_studies_is_taken(tmp_path: Path) -> None:
    (tmp_path / "b.csv").write_text("text\nClear lungs\n")
    assert read_reports(tmp_path).reports == (Report("", ("Clear lungs",)),)


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("a.txt", b"\xff\xfe", r"a\.txt: it is not UTF-8"),
        ("a.csv", b"report\nclear\n", r"a\.csv, line 1: the column text is missing"),
        ("a.csv", b"", "the column text is missing"),
        ("a.csv", b"n,text\n1\n", r"a\.csv, line 2: it has no field text"),
        ("a.csv", b'text\n"clear\n', "this is no CSV"),
        ("a.md", b"clear", "it holds no report"),
        ("a.txt", b" \n", "it holds no report"),
    ],
)
def test_what_cannot_be_read_is_named(
    tmp_path: Path, name: str, content: bytes, words: str
) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(BadManifest, match=words):
        read_reports(tmp_path)


def test_images_are_no_reports(tmp_path: Path) -> None:
    phantoms.ct_series(tmp_path, new_uid=phantoms.uid_source(1), slices=1, size=32)
    with pytest.raises(BadManifest, match="no report"):
        read_reports(tmp_path)


def test_a_report_cut_short_anywhere_gives_what_is_whole_or_a_reason_that_quotes_nothing(
    tmp_path: Path,
) -> None:
    path = write_report(tmp_path / "report", item("TEXT", "Finding", TextValue="Secret" * 20))
    whole, reasons = path.read_bytes(), set()
    for size in range(132, len(whole), 3):
        path.write_bytes(whole[:size])
        try:
            read_reports(tmp_path)
        except BadManifest as error:
            reasons.add(error.reason)
            assert "Secret" not in str(error)
    assert "this DICOM file is damaged" in reasons


def pdf(*pages: str, link: str = "") -> bytes:
    """Write a PDF by hand: a page with a line of text each."""
    count = len(pages)
    kids = " ".join(f"{3 + 2 * number} 0 R" for number in range(count))
    objects = ["<< /Type /Catalog /Pages 2 0 R >>",
               f"<< /Type /Pages /Kids [{link or kids}] /Count {count} >>"]  # fmt: skip
    font = "<< /Font << /F << /Type /Font /Subtype /Type1 /BaseFont /Helvetica >> >> >>"
    for number, text in enumerate(pages):
        objects.append(f"<< /Type /Page /Parent 2 0 R /MediaBox [0 0 600 800] /Resources {font} "
                       f"/Contents {4 + 2 * number} 0 R >>")  # fmt: skip
        drawn = f"BT /F 12 Tf 50 700 Td ({text}) Tj ET"
        objects.append(f"<< /Length {len(drawn)} >>\nstream\n{drawn}\nendstream")
    body, places = b"%PDF-1.4\n", []
    for number, each in enumerate(objects):
        places.append(len(body))
        body += f"{number + 1} 0 obj\n{each}\nendobj\n".encode()
    table = "".join(f"{place:010d} 00000 n \n" for place in places)
    size = len(objects) + 1
    end = f"xref\n0 {size}\n0000000000 65535 f \n{table}trailer\n"
    root = f"<< /Size {size} /Root 1 0 R >>\nstartxref\n{len(body)}\n%%EOF\n"
    return body + (end + root).encode()


def write_document(path: Path, content: bytes, kind: UID = EncapsulatedPDFStorage) -> Path:
    document = Dataset()
    document.SOPClassUID, document.SOPInstanceUID, document.Modality = kind, "1.2.3", "DOC"
    document.StudyInstanceUID, document.DocumentTitle = "1.2.7", "Report of Doe^Jane"
    document.EncapsulatedDocument = content + b"\0" * (len(content) % 2)
    document.file_meta = FileMetaDataset()
    document.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    document.save_as(path, enforce_file_format=True)
    return path


def test_the_text_of_an_encapsulated_pdf_is_a_report_of_its_study(tmp_path: Path) -> None:
    write_document(tmp_path / "one", pdf("Clear lungs. No effusion.", "Heart not large."))
    assert read_reports(tmp_path) == Reports(
        (Report("1.2.7", ("Clear lungs", "No effusion", "Heart not large")),), ()
    )


@pytest.mark.parametrize(
    ("content", "kind", "reason"),
    [
        (pdf("Secret")[:80], EncapsulatedPDFStorage, "damaged"),
        (b"", EncapsulatedPDFStorage, "damaged"),
        (b"Secret", EncapsulatedPDFStorage, "damaged"),
        (pdf("Secret", link="2 0 R"), EncapsulatedPDFStorage, "damaged|no text"),
        (pdf(""), EncapsulatedPDFStorage, "no text"),
        (b"<ClinicalDocument/>", EncapsulatedCDAStorage, "CDA document is not read"),
    ],
)
def test_documents_that_give_no_text_are_counted_and_the_others_read(
    tmp_path: Path, content: bytes, kind: UID, reason: str
) -> None:
    write_document(tmp_path / "bad", content, kind)
    with pytest.raises(BadManifest, match=f"no report.*bad: .*({reason})"):
        read_reports(tmp_path)
    write_document(tmp_path / "good", pdf("Clear lungs."))
    found = read_reports(tmp_path)
    assert found.reports == (Report("1.2.7", ("Clear lungs",)),)
    (line,) = found.unreadable
    assert re.search(reason, line) and "Secret" not in line


def test_a_pdf_that_is_too_large_or_takes_too_long_is_given_up() -> None:
    with pytest.raises(ValueError, match="more than"):
        text_of(b" " * (MAX_BYTES + 1))
    with pytest.raises(ValueError, match="takes more than 0 s"):
        text_of(pdf("Clear lungs"), time_s=0)


def test_a_small_pdf_that_unfolds_to_gigabytes_is_given_up() -> None:
    packed = zlib.compress(b"(Clear lungs) Tj " * 2**24).decode("latin-1")
    plain = pdf("Clear lungs").decode("latin-1")
    start, end = plain.index("<< /Length"), plain.index("endstream")
    bomb = f"<< /Length {len(packed)} /Filter /FlateDecode >>\nstream\n{packed}\n"
    with pytest.raises(ValueError, match="too much work"):
        text_of((plain[:start] + bomb + plain[end:]).encode("latin-1"))


def test_only_so_many_pages_are_read() -> None:
    assert text_of(pdf(*["page"] * (MAX_PAGES + 5))).split() == ["page"] * MAX_PAGES


def test_a_tree_is_followed_as_deep_as_reports_go(tmp_path: Path) -> None:
    tree = item("TEXT", "Finding", TextValue="too deep")
    for level in range(MAX_DEPTH):
        text = item("TEXT", "Finding", TextValue=f"level {MAX_DEPTH - level}")
        tree = item("CONTAINER", "Findings", ContentSequence=[text, tree])
    write_report(tmp_path / "report", tree)
    (report,) = read_reports(tmp_path).reports
    assert report.sentences == tuple(f"level {level}" for level in range(1, MAX_DEPTH))
