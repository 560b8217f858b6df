"""A full disk: the sender is told so, and nothing that was acknowledged is lost."""

import os
from collections.abc import Iterator
from pathlib import Path

import peers
import pytest
from disks import small_disk
from pydicom import dcmread
from scripted import association, dataset_of, store

from dicom_node.node import Node
from training import phantoms

OUT_OF_RESOURCES = 0xA700
DISK_MB = 64  # the encoder that answers is kept on it too, 24 of them
CATALOGUE_MB = 2  # its journal grows while the store keeps to the minimum


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """Mount a file system of `DISK_MB`, a third of which is taken by `ballast`."""
    assert os.geteuid() == 0, "this test mounts a small tmpfs: run it as root, as CI does"
    with small_disk(tmp_path / "disk", size_bytes=DISK_MB << 20) as disk:
        (disk / "ballast").write_bytes(bytes((DISK_MB << 20) // 3))
        yield disk


@pytest.fixture(scope="module")
def slices(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Return more CT slices of half a MiB than the disk holds, and small ones for what is left."""
    folder = tmp_path_factory.mktemp("slices")
    new_uid = phantoms.uid_source(1)
    large = phantoms.ct_series(folder, new_uid=new_uid, slices=2 * DISK_MB, size=512)
    return large + phantoms.ct_series(folder, new_uid=new_uid, slices=200, size=32)


@pytest.mark.parametrize("minimum_free_mb", [0, 8])
def test_a_full_disk_refuses_with_a700_keeps_what_was_acknowledged_and_goes_on(
    disk: Path, slices: list[Path], minimum_free_mb: int
) -> None:
    storage = {"minimum_free_mb": minimum_free_mb}
    node = Node(peers.quick_config(disk / "data", storage=storage))
    with peers.stopped_at_the_end(node):
        node.start()
        statuses = push(node, slices)
        acknowledged = [path for path, status in zip(slices, statuses, strict=True) if status == 0]

        assert set(statuses) == {0x0000, OUT_OF_RESOURCES}
        assert statuses[-1] == OUT_OF_RESOURCES
        assert lost(node, acknowledged) == []
        assert free_mb(disk) >= minimum_free_mb - CATALOGUE_MB
        assert not list((disk / "data" / "store" / "incoming").iterdir())

        (disk / "ballast").unlink()
        refused = [path for path in slices if path not in acknowledged][:10]
        assert set(push(node, refused)) == {0x0000}
        assert lost(node, [*acknowledged, *refused]) == []
        peers.wait_for("the vectors", lambda: peers.at_rest(node.catalogue, 1))
        assert set(node.catalogue.counts().series) == {"indexed"}


def push(node: Node, paths: list[Path]) -> list[int | None]:
    with association(node.port) as opened:
        return [store(opened, path) for path in paths]


def lost(node: Node, paths: list[Path]) -> list[str]:
    """Return the UIDs of those that the node does not hold byte for byte."""
    missing = []
    for path in paths:
        uid = dcmread(path, stop_before_pixels=True).SOPInstanceUID
        file = node.catalogue.instance_file(uid)
        kept = file and node.config.data / "store" / file.relative_path
        if kept is None or dataset_of(kept) != dataset_of(path):
            missing.append(uid)
    return missing


def free_mb(folder: Path) -> int:
    found = os.statvfs(folder)
    return found.f_bavail * found.f_frsize >> 20
