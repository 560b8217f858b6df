from pathlib import Path

import pytest
from pydicom import Dataset, FileMetaDataset
from pydicom.uid import BasicTextSRStorage, ExplicitVRLittleEndian

from training import phantoms
from training.errors import BadManifest
from training.reports import MAX_DEPTH, Report, read_reports


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
    assert read_reports(tmp_path) == (Report("1.2.4", said),)


def test_texts_and_tables_are_read_and_wrapped_lines_put_together(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("FINDINGS. A SMALL\r\nNODULE OF 4.5 MM. Clear.\n\nNo change\n")
    table = 'text,study_instance_uid\n"Normal,\nclear lungs",1.2.5\n,1.2.6\n'
    (tmp_path / "b.csv").write_text(table)
    (tmp_path / "c.md").write_text("not a report")
    assert read_reports(tmp_path) == (
        Report("", ("FINDINGS", "A SMALL NODULE OF 4.5 MM", "Clear", "No change")),
        Report("1.2.5", ("Normal, clear lungs",)),
    )


def test_a_table_without_studies_is_taken(tmp_path: Path) -> None:
    (tmp_path / "b.csv").write_text("text\nClear lungs\n")
    assert read_reports(tmp_path) == (Report("", ("Clear lungs",)),)


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


def test_a_tree_is_followed_as_deep_as_reports_go(tmp_path: Path) -> None:
    tree = item("TEXT", "Finding", TextValue="too deep")
    for level in range(MAX_DEPTH):
        text = item("TEXT", "Finding", TextValue=f"level {MAX_DEPTH - level}")
        tree = item("CONTAINER", "Findings", ContentSequence=[text, tree])
    write_report(tmp_path / "report", tree)
    (report,) = read_reports(tmp_path)
    assert report.sentences == tuple(f"level {level}" for level in range(1, MAX_DEPTH))
