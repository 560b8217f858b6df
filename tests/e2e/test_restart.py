"""A node that is killed or stopped at any moment, and started again on the same folder."""

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import peers
import pytest
from pydicom import dcmread
from scripted import association, contexts_of, dataset_of, store

from dicom_node.parts import Parts, open_parts
from training import phantoms

TIMERS = "[lifecycle]\nseries_quiet_s = 0.5\nstudy_quiet_s = 1.0\n"
STOP_WITHIN_S = 10.0
KILL_AFTER = 80


@pytest.fixture(scope="module")
def stills(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Return 100 radiographs of a study each."""
    folder = tmp_path_factory.mktemp("stills")
    return [
        phantoms.still(folder, new_uid=phantoms.uid_source(seed), size=(64, 48), seed=seed)
        for seed in range(100)
    ]


@pytest.fixture(scope="module")
def volumes(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Return 200 slices in ten series."""
    folder = tmp_path_factory.mktemp("volumes")
    return [
        path
        for seed in range(10)
        for path in phantoms.ct_series(
            folder, new_uid=phantoms.uid_source(seed), slices=20, size=64, seed=seed
        )
    ]


def test_what_was_acknowledged_before_a_kill_is_there_and_embedded_after_a_restart(
    tmp_path: Path, volumes: list[Path]
) -> None:
    node = peers.Serve(tmp_path, TIMERS)
    acknowledged: list[Path] = []
    killer = threading.Thread(target=kill_during, args=(node, acknowledged))
    killer.start()
    with association(node.port, contexts_of(volumes)) as opened:
        for path in volumes:
            if store(opened, path) != 0x0000:
                break
            acknowledged.append(path)
    killer.join()
    assert KILL_AFTER <= len(acknowledged) < len(volumes), "the kill must come during the push"

    with peers.stopped_at_the_end(peers.Serve(tmp_path, TIMERS)) as node, parts_of(node) as parts:
        assert lost(parts, acknowledged) == []
        studies = len({study_of(path) for path in acknowledged})
        peers.wait_for("all vectors", lambda: peers.at_rest(parts.catalogue, studies))
        counts = parts.catalogue.counts()
        assert set(counts.series) == {"indexed"}
        # One more may have been kept whose acknowledgement was cut off.
        assert counts.instances - len(acknowledged) in (0, 1)


def test_a_stop_in_the_midst_of_embedding_is_quick_and_the_next_start_goes_on(
    tmp_path: Path, stills: list[Path]
) -> None:
    node = peers.Serve(tmp_path, TIMERS)
    with parts_of(node) as parts:
        with association(node.port, contexts_of(stills)) as opened:
            assert {store(opened, path) for path in stills} == {0x0000}
        peers.wait_for("the first vector", lambda: parts.catalogue.counts().clips)

        began = time.monotonic()
        assert node.stop() == 0
        assert time.monotonic() - began < STOP_WITHIN_S
        assert parts.catalogue.counts().clips < len(stills), "there must be something left to do"

        with peers.stopped_at_the_end(peers.Serve(tmp_path, TIMERS)):
            done = {"indexed": len(stills)}
            peers.wait_for("the rest", lambda: parts.catalogue.counts().series == done)
    assert "job_given_up" not in node.log.read_text()


def test_an_idle_node_stops_at_once_and_a_busy_folder_is_refused(tmp_path: Path) -> None:
    node = peers.Serve(tmp_path, TIMERS)
    second = peers.Serve(tmp_path, TIMERS, wait=False)
    assert second.process.wait(60) == 1
    assert "is in use by a running node" in node.log.read_text()

    began = time.monotonic()
    assert node.stop() == 0
    assert time.monotonic() - began < STOP_WITHIN_S


def kill_during(node: peers.Serve, acknowledged: list[Path]) -> None:
    while len(acknowledged) < KILL_AFTER:
        time.sleep(0.001)
    node.kill()


@contextmanager
def parts_of(node: peers.Serve) -> Iterator[Parts]:
    """Look into the data folder of a node in another process."""
    parts = open_parts(node.settings())
    try:
        yield parts
    finally:
        parts.close()


def lost(parts: Parts, paths: list[Path]) -> list[str]:
    """Return the UIDs of those that are not kept byte for byte."""
    missing = []
    for path in paths:
        uid = dcmread(path, stop_before_pixels=True).SOPInstanceUID
        file = parts.catalogue.instance_file(uid)
        if file is None or dataset_of(parts.store.path(file.relative_path)) != dataset_of(path):
            missing.append(uid)
    return missing


def study_of(path: Path) -> str:
    return str(dcmread(path, stop_before_pixels=True).StudyInstanceUID)
