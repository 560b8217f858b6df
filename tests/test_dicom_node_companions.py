"""What goes out beside a report: valid objects of the query's study that name no one else."""

import os
import re
from collections.abc import Callable
from dataclasses import replace
from io import BytesIO
from itertools import count
from pathlib import Path

import numpy as np
import peers
import pytest
from pydicom import dcmread
from pydicom.dataset import Dataset
from pydicom.uid import UID, EncapsulatedPDFStorage, SecondaryCaptureImageStorage
from test_dicom_node_report import ALGORITHM, IDENTITY, SAMPLE, evidence, header, ranking

from dicom_node.answer.companions import Companions
from dicom_node.answer.contact_sheet import SIDE_PX
from dicom_node.answer.modules import encode
from dicom_node.config import Destination
from dicom_node.errors import WorkerFailed
from dicom_node.receive.worker import Thumbnail
from encoder.series import assemble
from index.parts import PartPlace
from index.records import Ranking

GOLDEN = Path(__file__).parent / "golden"
BOTH = Destination(ae_title="PACS", host="127.0.0.1", port=104, contact_sheet=True, pdf=True)


class Grey:
    """Decodes every picture to one grey, or loses its process over it."""

    def __init__(self, *, breaks: bool = False) -> None:
        self.breaks = breaks
        self.asked: list[tuple[Path, bool]] = []

    def thumbnail(
        self, path: Path, side_px: int, *, of_another: bool, part: PartPlace | None
    ) -> Thumbnail:
        self.asked.append((path, of_another))
        if self.breaks:
            raise WorkerFailed("the embedding process died (signal SIGSEGV)")
        return Thumbnail(b"\x80" * (side_px**2 * 3))


def companions(thumbnailer: Grey, find: Callable[[str], Path | None]) -> Companions:
    uids = count(2001)
    return Companions(
        device_uid="2.25.1234567890",
        thumbnailer=thumbnailer,
        find=find,
        new_uid=lambda: UID(f"2.25.{next(uids)}"),
    )


def beside(
    image: Dataset | None = None,
    *,
    found: Ranking | None = None,
    destination: Destination = BOTH,
    thumbnailer: Grey | None = None,
    number: int = 1,
) -> list[Dataset]:
    made = companions(thumbnailer or Grey(), lambda uid: Path(__file__)).beside(
        replace(IDENTITY, instance_number=number),
        destination,
        query=evidence(image or header()),
        ranking=ranking() if found is None else found,
        algorithm=ALGORITHM,
    )
    return list(made)


@pytest.mark.peer
@pytest.mark.parametrize("name", SAMPLE)
def test_dciodvfy_finds_no_error(name: str, tmp_path: Path) -> None:
    for document, iod in zip(beside(header(name)), ("SCImage", "EncapsulatedPDF"), strict=True):
        path = tmp_path / f"{iod}.dcm"
        path.write_bytes(encode(document))
        said = peers.run("dciodvfy", "-new", path, check=False).stdout.splitlines()
        assert iod in said
        assert [line for line in said if line.startswith(("Error", "Abort"))] == []
        assert not any("Laterality" in line for line in said)


@pytest.mark.peer
def test_dciodvfy_finds_the_errors_of_broken_ones(tmp_path: Path) -> None:
    sheet, pdf = beside()
    del sheet.ConversionType
    del pdf.MIMETypeOfEncapsulatedDocument
    for document in (sheet, pdf):
        path = tmp_path / "broken.dcm"
        path.write_bytes(encode(document))
        assert re.search("^Error", peers.run("dciodvfy", "-new", path, check=False).stdout, re.M)


@pytest.mark.parametrize(("number", "name"), [(0, "contact-sheet-ct"), (1, "pdf-ct")])
def test_the_header_is_the_golden_one(number: int, name: str) -> None:
    document = beside()[number]
    for keyword in ("PixelData", "EncapsulatedDocument", "EncapsulatedDocumentLength"):
        if keyword in document:
            del document[keyword]
    said = f"{document}\n"
    path = GOLDEN / f"{name}.txt"
    if os.environ.get("UPDATE_GOLDEN") == "1":
        path.write_text(said)
    assert said == path.read_text()


def test_no_identifier_of_a_neighbour_is_in_the_files() -> None:
    found = ranking(20)
    documents = beside(found=found)
    assert [document.SOPClassUID for document in documents] == [
        SecondaryCaptureImageStorage, SecondaryCaptureImageStorage, EncapsulatedPDFStorage,
    ]  # fmt: skip
    for content in map(encode, documents):
        assert header().PatientID.encode() in content  # the scan does find what is there
        for case in found.cases:
            for secret in (
                case.study_instance_uid, case.series_instance_uid, case.sop_instance_uid,
                case.patient_id, case.issuer_of_patient_id, case.study_description,
                case.study_date, case.patient_age,
            ):  # fmt: skip
                assert secret.encode() not in content


def test_the_pixels_are_those_of_the_pages() -> None:
    (sheet,) = beside(destination=replace_destination(pdf=False))
    read = dcmread(BytesIO(encode(sheet)))
    assert read.pixel_array.shape == (read.Rows, read.Columns, 3)
    assert (read.pixel_array == 128).all(axis=-1).sum() == 4 * SIDE_PX**2
    assert list(read.ImageType[:2]) == ["DERIVED", "SECONDARY"]


def test_the_pdf_has_a_page_for_every_page_of_the_sheet() -> None:
    *sheets, document = beside(found=ranking(20))
    content = document.EncapsulatedDocument[: document.EncapsulatedDocumentLength]
    assert content.startswith(b"%PDF-")
    assert content.rstrip().endswith(b"%%EOF")
    assert len(document.EncapsulatedDocument) % 2 == 0
    assert len(re.findall(rb"/Type\s*/Page\b(?!s)", content)) == len(sheets) == 2


def test_the_same_arguments_give_the_same_bytes() -> None:
    assert [*map(encode, beside())] == [*map(encode, beside())]


@pytest.mark.parametrize(("sheet", "pdf"), [(False, False), (True, False), (False, True)])
def test_a_destination_gets_what_it_asks_for(sheet: bool, pdf: bool) -> None:
    made = beside(destination=replace_destination(contact_sheet=sheet, pdf=pdf))
    classes = {document.SOPClassUID for document in made}
    wanted = {SecondaryCaptureImageStorage} if sheet else set()
    assert classes == wanted | ({EncapsulatedPDFStorage} if pdf else set())


def test_without_cases_there_is_nothing_to_show() -> None:
    assert beside(found=ranking(0)) == []


def test_later_sheets_follow_in_the_series_of_the_first() -> None:
    first, second = beside()[0], beside(number=2)[0]
    assert first.SeriesInstanceUID == second.SeriesInstanceUID
    assert first.InstanceNumber < second.InstanceNumber
    assert first.SeriesInstanceUID != beside()[1].SeriesInstanceUID


def test_a_picture_that_kills_the_worker_does_not_hold_up_the_sheet() -> None:
    whole, broken = beside()[0], beside(thumbnailer=Grey(breaks=True))[0]
    assert (whole.Rows, whole.Columns) == (broken.Rows, broken.Columns)
    assert not np.array_equal(whole.pixel_array, broken.pixel_array)


def test_a_deleted_picture_is_not_asked_for() -> None:
    grey = Grey()
    made = companions(grey, lambda uid: None).beside(
        IDENTITY, BOTH, query=evidence(header()), ranking=ranking(1), algorithm=ALGORITHM
    )
    assert len(list(made)) == 2
    assert grey.asked == []


def test_only_the_querys_own_pictures_may_name_a_patient() -> None:
    grey = Grey()
    beside(thumbnailer=grey)
    assert [of_another for _, of_another in grey.asked] == [False, True, True, True]


def test_a_contact_sheet_is_never_embedded(tmp_path: Path) -> None:
    for number, document in enumerate(beside()):
        (tmp_path / f"{number}.dcm").write_bytes(encode(document))
    assembly = assemble(sorted(tmp_path.iterdir()))
    assert assembly.groups == ()
    assert len(assembly.skipped) == 2


def replace_destination(**changes: object) -> Destination:
    return BOTH.model_copy(update=changes)
