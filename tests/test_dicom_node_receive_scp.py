"""C-STORE over real associations: what is kept, what is refused, and what comes twice."""

import tempfile
from collections.abc import Callable, MutableMapping
from pathlib import Path
from typing import Any

import peers
import pytest
from pydicom import dcmread
from pydicom.dataset import Dataset
from pydicom.uid import UID
from scripted import association, contexts_of, dataset_of, encoded, store, store_bytes

from dicom_node.node import Node
from training import phantoms

Events = list[MutableMapping[str, Any]]
Bundled = Callable[[str], Path]
NewUid = Callable[[], str]

# One file each of the ways in which a PACS stores pixels.
TRANSFER_SYNTAXES = (
    "CT_small.dcm", "MR_small_implicit.dcm", "ExplVR_BigEnd.dcm", "image_dfl.dcm",
    "emri_small_RLE.dcm", "examples_ybr_color.dcm", "693_J2KI.dcm", "693_J2KR.dcm", "US1_J2KR.dcm",
    "MR_small_jpeg_ls_lossless.dcm",
)  # fmt: skip


@pytest.mark.parametrize("name", TRANSFER_SYNTAXES)
def test_an_object_is_kept_byte_for_byte_in_its_transfer_syntax_and_becomes_searchable(
    node: Node, bundled: Bundled, tmp_path: Path, new_uid: NewUid, name: str
) -> None:
    path = renamed(bundled(name), tmp_path, new_uid)
    sent = dcmread(path, stop_before_pixels=True)

    with association(node.port, contexts_of([path])) as opened:
        assert store(opened, path) == 0x0000

    file = node.catalogue.instance_file(sent.SOPInstanceUID)
    assert file is not None
    assert file.transfer_syntax_uid == sent.file_meta.TransferSyntaxUID
    assert kept(node, sent.SOPInstanceUID) == dataset_of(path)
    peers.wait_for("its vector", lambda: searchable(node, sent.StudyInstanceUID))


@pytest.mark.peer
def test_what_dcmtk_pushes_is_kept_byte_for_byte(
    node: Node, bundled: Bundled, tmp_path: Path, new_uid: NewUid
) -> None:
    (tmp_path / "push").mkdir()
    # Of the others DCMTK sends what is not compressed as Explicit VR Little Endian.
    for name in ("CT_small.dcm", "emri_small_RLE.dcm", "JPEG2000.dcm", "SC_rgb_jpeg_dcmtk.dcm"):
        path = renamed(bundled(name), tmp_path, new_uid)
        # Lengths and padding as DCMTK writes them, so that it sends what is in the file.
        peers.run("dcmconv", "-g", "-p", path, tmp_path / "push" / name)

    peers.dcmsend(node.port, tmp_path / "push")

    for path in (tmp_path / "push").iterdir():
        assert kept(node, dcmread(path).SOPInstanceUID) == dataset_of(path), path.name


@pytest.mark.parametrize("keyword", ["StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID"])
@pytest.mark.parametrize("value", [None, "../../x", "/tmp/x", ["1.2.3", "1.2.4"], "1." * 40 + "1"])
def test_an_object_without_a_proper_uid_is_refused_by_the_name_of_the_attribute(
    node: Node, new_uid: NewUid, events: Events, keyword: str, value: object
) -> None:
    bad, good = ct_slice(new_uid), ct_slice(new_uid)
    announced = bad.SOPInstanceUID
    setattr(bad, keyword, value)

    status = refused_then_stored(node, encoded(bad), announced=announced, good=good)

    assert status.Status == 0xA900
    assert status.ErrorComment.startswith(keyword)
    assert [line["reason"] for line in refusals(events)] == [status.ErrorComment]
    assert refusals(events)[0]["source"].startswith("SENDER@")


@pytest.mark.parametrize("announced", ["1.2.3.4", "../../x", "/tmp/x"])
def test_an_object_that_is_not_the_one_announced_is_refused(
    node: Node, new_uid: NewUid, events: Events, announced: str
) -> None:
    body = encoded(ct_slice(new_uid))

    status = refused_then_stored(node, body, announced=announced, good=ct_slice(new_uid))

    assert (status.Status, status.ErrorComment) == (
        0xA900,
        "SOPInstanceUID is not the one announced",
    )
    assert refusals(events)[0]["sop_instance_uid"] == announced


@pytest.mark.parametrize("body", [b"\xff" * 400, b"\x08\x00\x05\x00CS\xff\xff", bytes(range(256))])
def test_bytes_that_are_no_data_set_are_refused(
    node: Node, new_uid: NewUid, events: Events, body: bytes
) -> None:
    status = refused_then_stored(node, body, announced=new_uid(), good=ct_slice(new_uid))

    assert status.Status in (0xC000, 0xA900)
    assert status.ErrorComment
    assert len(refusals(events)) == 1


def test_the_same_object_twice_is_one_file_and_one_row(
    start_node: Callable[..., Node], new_uid: NewUid, events: Events
) -> None:
    node, slice_ = start_node(), ct_slice(new_uid)

    for _ in range(3):
        assert push(node, slice_) == 0x0000

    peers.wait_for("the vector", lambda: peers.at_rest(node.catalogue, 1))
    assert push(node, slice_) == 0x0000
    assert node.catalogue.counts().instances == 1
    assert len(kept_files(node)) == 1
    assert len(list(node.catalogue.kept_files())) == 1
    assert peers.at_rest(node.catalogue, 1), "a duplicate is no news"
    assert not [line for line in events if line["event"] == "replaced"]


def test_other_bytes_under_the_same_uid_keep_both_and_embed_the_series_again(
    start_node: Callable[..., Node], new_uid: NewUid, events: Events
) -> None:
    node, old = start_node(), ct_slice(new_uid)
    push(node, old)
    peers.wait_for("the first vector", lambda: peers.at_rest(node.catalogue, 1))
    first = vectors(node, old)

    new = ct_slice(new_uid, seed=9)
    new.SOPInstanceUID, new.SeriesInstanceUID = old.SOPInstanceUID, old.SeriesInstanceUID
    new.StudyInstanceUID = old.StudyInstanceUID
    assert push(node, new) == 0x0000

    replaced = [line for line in events if line["event"] == "replaced"]
    assert [line["sop_instance_uid"] for line in replaced] == [old.SOPInstanceUID]
    peers.wait_for("the second vector", lambda: peers.at_rest(node.catalogue, 1))
    assert kept(node, new.SOPInstanceUID) == encoded(new)
    assert {dataset_of(path) for path in kept_files(node)} == {encoded(old), encoded(new)}
    assert node.catalogue.counts().instances == 1
    assert node.catalogue.counts().clips == 1
    assert vectors(node, new) != first


def ct_slice(new_uid: NewUid, *, seed: int = 0) -> Dataset:
    """Return a CT slice that has no file meta."""
    with tempfile.TemporaryDirectory() as folder:
        series = phantoms.ct_series(Path(folder), new_uid=new_uid, slices=1, size=64, seed=seed)
        return Dataset(dcmread(series[0]))


def renamed(path: Path, folder: Path, new_uid: NewUid) -> Path:
    """Return a copy under other UIDs, so that tests that share a node do not meet; no capture."""
    dataset = dcmread(path)
    dataset.pop("ConversionType", None)  # captures of a screen are not embedded
    dataset.SOPInstanceUID = dataset.file_meta.MediaStorageSOPInstanceUID = UID(new_uid())
    dataset.StudyInstanceUID, dataset.SeriesInstanceUID = new_uid(), new_uid()
    dataset.save_as(folder / path.name)
    return folder / path.name


def push(node: Node, dataset: Dataset) -> int:
    with association(node.port) as opened:
        status = store_bytes(opened, encoded(dataset), announced=dataset.SOPInstanceUID)
    return int(status.Status)


def refused_then_stored(node: Node, body: bytes, *, announced: str, good: Dataset) -> Dataset:
    """Return the status of a bad object; check that it left no trace and that a good one passes."""
    before = everything(node)
    with association(node.port) as opened:
        status = store_bytes(opened, body, announced=announced)
        assert everything(node) == before
        passed = store_bytes(opened, encoded(good), announced=good.SOPInstanceUID)
    assert passed.Status == 0x0000
    assert kept(node, good.SOPInstanceUID) == encoded(good)
    return status


def everything(node: Node) -> tuple[int, set[Path]]:
    """Return the number of rows, and the files in the store and around the data folder."""
    data = node.config.data
    files = {path for path in data.parent.rglob("*") if path.is_file()}
    moving = {path for path in files if data in path.parents and data / "store" not in path.parents}
    return node.catalogue.counts().instances, files - moving


def kept_files(node: Node) -> list[Path]:
    return list((node.config.data / "store").rglob("*.dcm"))


def kept(node: Node, sop_instance_uid: str) -> bytes:
    """Return the data set that the node keeps under a UID."""
    file = node.catalogue.instance_file(sop_instance_uid)
    assert file is not None, "there is no row"
    return dataset_of(node.config.data / "store" / file.relative_path)


def searchable(node: Node, study_uid: str) -> bool:
    return node.catalogue.study_query(study_uid, node.model.model_id) is not None


def vectors(node: Node, dataset: Dataset) -> list[list[float]]:
    query = node.catalogue.study_query(dataset.StudyInstanceUID, node.model.model_id)
    assert query is not None
    return query.vectors.tolist()


def refusals(events: Events) -> Events:
    return [line for line in events if line["event"] == "object_refused"]
