"""STOW-RS: taken in as by C-STORE, each object with its own result."""

from collections.abc import Callable
from io import BytesIO
from pathlib import Path

import httpx
import pytest
from dicomweb_client.api import DICOMwebClient
from pydicom import dcmread
from pydicom.dataset import Dataset
from test_dicom_node_web_retrieve import data_set
from webs import url_of

from dicom_node.node import Node
from training import phantoms

RELATED = {"Content-Type": 'multipart/related; type="application/dicom"; boundary="b b"'}


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


def test_without_room_the_sender_is_to_come_again(
    start_node: Callable[..., Node], tmp_path: Path
) -> None:
    node = start_node(http={"port": 0}, storage={"minimum_free_mb": 1 << 40})
    path = phantoms.still(tmp_path, new_uid=phantoms.uid_source(1), size=(64, 48), seed=1)

    status, result = stow(node, body(path.read_bytes()))

    assert (status, result.FailedSOPSequence[0].FailureReason) == (503, 0xA700)


@pytest.mark.parametrize(
    ("content", "status"),
    [(b"", 400), (b"--b b--", 400), (body(b"")[:-9], 400), (body(bytes(3 << 20)), 413),
     (body(bytes(3 << 19)), 400)],
)  # fmt: skip
def test_a_body_that_is_damaged_or_too_large_is_refused_as_a_whole(
    web: Node, content: bytes, status: int
) -> None:
    response = httpx.post(f"{url_of(web)}/studies", content=content, headers=RELATED, timeout=60)

    assert (response.status_code, list(response.json())) == (status, ["error"])
    assert web.catalogue.counts().instances == 0
    assert list((web.config.data / "uploads").iterdir()) == []
