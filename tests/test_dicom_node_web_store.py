"""STOW-RS: taken in as by C-STORE, each object with its own result."""

import json
import tempfile
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from io import BytesIO
from pathlib import Path
from typing import Any

import httpx
import pytest
from dicomweb_client.api import DICOMwebClient
from pydicom import dcmread
from pydicom.datadict import tag_for_keyword
from pydicom.dataelem import DataElement
from pydicom.dataset import Dataset
from pydicom.uid import KeyObjectSelectionDocumentStorage
from test_dicom_node_web_retrieve import data_set
from webs import url_of

from dicom_node import PRODUCT
from dicom_node.node import Node
from training import phantoms

RELATED = {"Content-Type": 'multipart/related; type="application/dicom"; boundary="b b"'}


@pytest.fixture
def still(tmp_path: Path) -> Path:
    return phantoms.still(tmp_path, new_uid=phantoms.uid_source(1), size=(64, 48), seed=1)


@pytest.fixture
def web(start_node: Callable[..., Node]) -> Node:
    return start_node(http={"port": 0, "maximum_upload_mb": 2}, storage={"maximum_object_mb": 1})


def body(*parts: bytes) -> bytes:
    heads = (b"--b b\r\nContent-Type: application/dicom\r\n\r\n" + part for part in parts)
    return b"preamble\r\n" + b"\r\n".join([*heads, b"--b b--"])


def stow(node: Node, content: bytes, *, study: str = "") -> tuple[int, Dataset]:
    url = f"{url_of(node)}/studies{study and '/' + study}"
    response = httpx.post(url, content=content, headers=RELATED, timeout=60)
    assert list((node.config.data / "uploads").iterdir()) == []
    assert response.headers["content-type"] == "application/dicom+json", response.text
    return response.status_code, Dataset.from_json(response.json())


def test_each_object_has_its_own_result_and_what_is_kept_is_kept_whole(
    web: Node, tmp_path: Path
) -> None:
    still = phantoms.still(tmp_path, new_uid=phantoms.uid_source(1), size=(64, 48), seed=1)
    other = phantoms.still(tmp_path, new_uid=phantoms.uid_source(2), size=(64, 48), seed=2)
    good, another, bad = (
        still.read_bytes(),
        other.read_bytes(),
        b"no DICOM",
    )
    header, no_one = dcmread(still), dcmread(other)
    del no_one.SOPInstanceUID
    without = BytesIO()
    no_one.save_as(without, enforce_file_format=False)

    first = stow(web, body(good))
    again = stow(web, body(good))
    mixed = stow(web, body(good, bad, another, without.getvalue()))
    none = stow(web, body(bad))

    assert (first[0], again[0], mixed[0], none[0]) == (200, 200, 202, 409)
    (kept,) = first[1].ReferencedSOPSequence
    assert kept.ReferencedSOPInstanceUID == header.SOPInstanceUID
    assert kept.ReferencedSOPClassUID == header.SOPClassUID
    assert mixed[1].RetrieveURL == none[1].RetrieveURL == "", "two studies, and none"
    assert first[1].RetrieveURL == f"{url_of(web)}/studies/{header.StudyInstanceUID}"
    reasons = [item.FailureReason for item in mixed[1].FailedSOPSequence]
    assert (len(mixed[1].ReferencedSOPSequence), reasons) == (2, [0xC000, 0xA900])
    file = httpx.get(kept.RetrieveURL, headers={"Accept": "application/dicom"})
    assert data_set(file.content) == data_set(good)
    assert web.catalogue.counts().instances == 2


def test_objects_of_another_study_than_the_url_names_are_refused(web: Node, tmp_path: Path) -> None:
    path = phantoms.still(tmp_path, new_uid=phantoms.uid_source(1), size=(64, 48), seed=1)
    study, good = str(dcmread(path).StudyInstanceUID), path.read_bytes()

    refused = stow(web, body(good), study="1.2.3.4")
    kept = stow(web, body(good), study=study)

    assert (refused[0], kept[0]) == (409, 200)
    (failed,) = refused[1].FailedSOPSequence
    assert failed.FailureReason == 0xA900
    assert failed.ReferencedSOPInstanceUID == dcmread(path).SOPInstanceUID


def test_dicomweb_client_stores_what_a_search_then_finds(web: Node, tmp_path: Path) -> None:
    paths = phantoms.ct_series(tmp_path, new_uid=phantoms.uid_source(3), slices=3, size=64, seed=3)
    client = DICOMwebClient(url=url_of(web))

    result = client.store_instances([dcmread(path) for path in paths])

    assert len(result.ReferencedSOPSequence) == 3
    study = dcmread(paths[0]).StudyInstanceUID
    assert len(client.search_for_instances(study)) == 3


def test_a_store_that_cannot_be_written_is_named_as_the_reason(web: Node, still: Path) -> None:
    incoming = web.config.data / "store" / "incoming"
    incoming.rmdir()

    status, result = stow(web, body(still.read_bytes()))

    assert (status, result.FailedSOPSequence[0].FailureReason) == (503, 0xA700)


def test_a_body_is_not_received_onto_a_disk_that_is_full(
    start_node: Callable[..., Node], still: Path
) -> None:
    node = start_node(http={"port": 0}, storage={"minimum_free_mb": 1 << 40})
    content = still.read_bytes()

    for path in ("/studies", "/similar"):
        for sent in (content, iter([content])):  # its length announced, and not
            response = httpx.post(
                url_of(node) + path, content=sent, headers={"Content-Type": "application/dicom"}
            )
            assert (response.status_code, list(response.json())) == (507, ["error"]), path
    assert list((node.config.data / "uploads").iterdir()) == []


def test_a_body_for_which_there_is_no_place_is_refused_and_leaves_nothing(
    web: Node, still: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    uploads = web.config.data / "uploads"
    headers = {"Content-Type": "application/dicom"}

    def no_body(**options: Any) -> str:
        folder = mkdtemp(**options)
        (Path(folder) / "body").symlink_to("/nowhere/body")
        return folder

    mkdtemp = tempfile.mkdtemp
    monkeypatch.setattr(tempfile, "mkdtemp", no_body)
    unwritten = httpx.post(f"{url_of(web)}/studies", content=still.read_bytes(), headers=headers)
    assert list(uploads.iterdir()) == []
    uploads.rmdir()
    unplaced = httpx.post(f"{url_of(web)}/studies", content=still.read_bytes(), headers=headers)

    for response in (unwritten, unplaced):
        assert response.status_code == 507
        assert "the upload cannot be written" in response.json()["error"]


def test_a_document_of_a_nodes_own_is_acknowledged_without_a_url(web: Node, still: Path) -> None:
    own, written = dcmread(still), BytesIO()
    own.Manufacturer = own.ManufacturerModelName = PRODUCT
    own.DeviceSerialNumber, own.SOPInstanceUID = "2.25.1", "2.25.2"
    own.save_as(written, enforce_file_format=False)
    good, study = still.read_bytes(), own.StudyInstanceUID

    alone = stow(web, body(written.getvalue()), study=study)
    mixed = stow(web, body(written.getvalue(), good, b"no DICOM"))

    assert (alone[0], mixed[0], web.catalogue.counts().instances) == (200, 202, 1)
    assert (alone[1].RetrieveURL, mixed[1].RetrieveURL) == ("", f"{url_of(web)}/studies/{study}")
    (document,) = alone[1].ReferencedSOPSequence
    assert (document.ReferencedSOPInstanceUID, document.RetrieveURL) == ("2.25.2", "")
    kept, document = mixed[1].ReferencedSOPSequence
    assert (document.ReferencedSOPInstanceUID, document.RetrieveURL) == ("2.25.2", "")
    assert httpx.get(kept.RetrieveURL).status_code == 200


def test_a_slow_disk_does_not_keep_others_from_being_answered(
    web: Node, still: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    slow = threading.Event()

    def hanging(function: Any) -> Any:
        return lambda *args, **options: slow.wait(5) and function(*args, **options)

    monkeypatch.setattr(tempfile, "mkdtemp", hanging(tempfile.mkdtemp))
    with ThreadPoolExecutor(1) as pool:
        stored = pool.submit(stow, web, body(still.read_bytes()))
        time.sleep(0.3)
        started = time.monotonic()
        asked = httpx.get(f"{url_of(web)}/studies")
        seconds = time.monotonic() - started
        slow.set()

        assert (asked.status_code, stored.result()[0]) == (200, 200)
    assert seconds < 2


def test_what_is_kept_is_named_though_a_later_part_is_broken(web: Node, tmp_path: Path) -> None:
    begin, end = b"\r\n--b b\r\n\r\n", b"\r\n--b b--"
    too_large = begin + bytes(3 << 19)
    broken = {
        begin + b"cut off": 1,
        b"\r\n--b b\r\nno end of the head": 1,
        too_large + end: 1,
        too_large + begin + b"no DICOM" + end: 2,
    }
    for seed, (rest, failed) in enumerate(broken.items(), start=1):
        good = phantoms.still(tmp_path, new_uid=phantoms.uid_source(seed), size=(64, 48), seed=seed)

        status, result = stow(web, begin.lstrip() + good.read_bytes() + rest)

        assert status == 202
        (kept,) = result.ReferencedSOPSequence
        assert kept.ReferencedSOPInstanceUID == dcmread(good).SOPInstanceUID
        assert [item.FailureReason for item in result.FailedSOPSequence] == [0xC000] * failed
        assert web.catalogue.counts().instances == seed


@pytest.mark.parametrize("keyword", ["ConceptNameCodeSequence", "ReferencedSeriesSequence"])
def test_a_rejection_note_with_an_odd_sequence_fails_alone(
    web: Node, still: Path, keyword: str
) -> None:
    for vr, value in {"LO": "odd", "US": [1, 2], "OB": b"odd!"}.items():
        note = odd_note(still, keyword, DataElement(keyword, vr, value))
        written = BytesIO()
        note.save_as(written, enforce_file_format=False)

        status, result = stow(web, body(still.read_bytes(), written.getvalue()))

        assert status == 202, vr
        (kept,), (failed,) = result.ReferencedSOPSequence, result.FailedSOPSequence
        assert kept.ReferencedSOPInstanceUID == dcmread(still).SOPInstanceUID
        assert failed.ReferencedSOPInstanceUID == note.SOPInstanceUID
        assert failed.FailureReason == 0xC000
    assert web.catalogue.counts().instances == 1


def odd_note(image: Path, keyword: str, element: DataElement) -> Dataset:
    """Make a rejection note of which one sequence is replaced by `element`."""
    note, title, study = dcmread(image), Dataset(), Dataset()
    note.SOPClassUID = KeyObjectSelectionDocumentStorage
    note.SOPInstanceUID += ".1"
    del note.PixelData
    title.CodeValue, title.CodingSchemeDesignator, title.CodeMeaning = "113001", "DCM", "Rejected"
    note.ConceptNameCodeSequence = [title]
    note.CurrentRequestedProcedureEvidenceSequence = [study]
    odd = study if keyword == "ReferencedSeriesSequence" else note
    odd[keyword] = element
    return note


def test_numbers_that_json_has_not_are_empty_values(web: Node, still: Path) -> None:
    dataset, item = dcmread(still), Dataset()
    dataset.ExposureTimeInms = float("nan")
    dataset.ReconstructionFieldOfView = [float("inf"), 2.5]
    item.ExposureTimeInms = float("-inf")
    dataset.ExposureSequence = [item]
    written = BytesIO()
    dataset.save_as(written)
    status, result = stow(web, body(written.getvalue()))

    url = f"{result.ReferencedSOPSequence[0].RetrieveURL}/metadata"
    told = json.loads(httpx.get(url).content, parse_constant=lambda name: pytest.fail(name))

    assert status == 200
    assert told[0]["00189328"] == {"vr": "FD"}
    assert told[0]["00189317"] == {"vr": "FD", "Value": [None, 2.5]}
    assert told[0][f"{tag_for_keyword('ExposureSequence'):08X}"]["Value"] == [
        {"00189328": {"vr": "FD"}}
    ]


@pytest.mark.parametrize(
    ("content", "status"),
    [(b"", 400), (b"--b b--", 400), (body(b"")[:-9], 400), (body(bytes(3 << 20)), 413),
     (body(b"x")[:-9], 400)],
)  # fmt: skip
def test_a_body_that_is_damaged_or_too_large_is_refused_as_a_whole(
    web: Node, content: bytes, status: int
) -> None:
    response = httpx.post(f"{url_of(web)}/studies", content=content, headers=RELATED, timeout=60)

    assert (response.status_code, list(response.json())) == (status, ["error"])
    assert web.catalogue.counts().instances == 0
    assert list((web.config.data / "uploads").iterdir()) == []
