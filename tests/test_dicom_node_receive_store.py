"""The store: bytes kept as they came, named by their hash, all or nothing."""

import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydicom import dcmread
from pydicom.dataset import FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian

from dicom_node.errors import OutOfResources
from dicom_node.receive.header import split_file
from dicom_node.receive.store import Store, digest


def meta_of(sop_instance_uid: str = "1.2.3") -> FileMetaDataset:
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = "1.2.840.10008.5.1.4.1.1.2"
    meta.MediaStorageSOPInstanceUID = sop_instance_uid
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    return meta


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Store:
    return Store(tmp_path_factory.mktemp("store"))


@given(dataset=st.binary(min_size=8, max_size=500))
def test_what_is_written_is_what_came(shared: Store, dataset: bytes) -> None:
    dataset = b"\x08\x00" + dataset  # never group 2, which would be read as file meta
    stored = shared.write(dataset, meta_of())
    with shared.path(stored.relative_path).open("rb") as file:
        meta, kept = split_file(file)

    assert kept == dataset
    assert digest(kept, meta) == stored.sha256
    assert stored.size_bytes == len(dataset)


def test_the_same_bytes_are_one_file(tmp_path: Path) -> None:
    store = Store(tmp_path)

    first, second = store.write(b"same", meta_of("1.2")), store.write(b"same", meta_of("1.2"))

    assert first == second
    assert len(list(tmp_path.rglob("*.dcm"))) == 1


def test_no_path_is_made_from_a_uid(tmp_path: Path) -> None:
    store = Store(tmp_path / "store")

    stored = store.write(b"data", meta_of("../../../../tmp/evil"))

    assert store.path(stored.relative_path).resolve().is_relative_to(tmp_path / "store")
    assert "evil" not in stored.relative_path


def test_a_kept_file_is_a_dicom_file(tmp_path: Path) -> None:
    store = Store(tmp_path)
    body = b"\x08\x00\x18\x00UI\x06\x001.2.3\x00"

    stored = store.write(body, meta_of())

    assert dcmread(store.path(stored.relative_path)).SOPInstanceUID == "1.2.3"


def test_too_little_room_is_out_of_resources_and_leaves_nothing(tmp_path: Path) -> None:
    store = Store(tmp_path, minimum_free_bytes=1 << 60)

    with pytest.raises(OutOfResources) as refused:
        store.write(b"data", meta_of())

    assert refused.value.status == 0xA700
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]


def test_only_old_leftovers_are_swept(tmp_path: Path) -> None:
    store = Store(tmp_path)
    old, young = tmp_path / "incoming" / "old", tmp_path / "incoming" / "young"
    for path in (old, young):
        path.write_bytes(b"half")
    os.utime(old, (0, 0))

    assert store.sweep() == 1
    assert young.exists()
    assert not old.exists()
