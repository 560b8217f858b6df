"""Poisoned files and dying workers: the node goes on, and says what it could not read."""

import copy
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, MutableMapping
from pathlib import Path
from typing import Any

import peers
from pydicom import dcmread
from scripted import association, push

from dicom_node.node import Node
from training import phantoms

Events = list[MutableMapping[str, Any]]
NewUid = Callable[[], str]
StartNode = Callable[..., Node]


def test_what_cannot_be_decoded_is_kept_and_put_aside_with_its_reason_and_the_node_goes_on(
    start_node: StartNode,
    bundled: Callable[[str], Path],
    tmp_path: Path,
    new_uid: NewUid,
    events: Events,
) -> None:
    node = start_node()
    good = phantoms.still(tmp_path, new_uid=new_uid, size=(64, 48))
    push(node.port, bundled("MR_truncated.dcm"), bundled("JPGLosslessP14SV1_1s_1f_8b.dcm"), good)

    peers.wait_for("rest", lambda: peers.at_rest(node.catalogue, 3))

    status = status_of(node)
    assert status["instances"] == 3
    assert status["series"] == {"indexed": 2, "quarantined": 1}
    (quarantined,) = status["quarantined"]
    assert "pixel data is less than expected" in quarantined["reason"]
    decoders = {line["decoder"] for line in named(events, "series_indexed")}
    assert decoders == {"simpleitk", "pydicom"}


def test_a_worker_that_is_killed_is_replaced_and_its_series_embedded_again(
    start_node: StartNode, tmp_path: Path, new_uid: NewUid, events: Events
) -> None:
    node = start_node()
    push(node.port, *phantoms.ct_series(tmp_path, new_uid=new_uid, slices=60, size=256))
    peers.wait_for("the embedding", lambda: node.catalogue.counts().jobs.get("running"))

    os.kill(named(events, "worker_started")[0]["pid"], signal.SIGKILL)

    peers.wait_for("the second try", lambda: node.catalogue.counts().series == {"indexed": 1})
    assert len(named(events, "worker_started")) == 2
    assert "SIGKILL" in named(events, "job_delayed")[0]["reason"]


def test_a_series_that_takes_too_long_twice_is_put_aside_and_the_node_goes_on(
    start_node: StartNode, tmp_path: Path, new_uid: NewUid, events: Events
) -> None:
    node = start_node(encoder={"threads": 2, "timeout_s": 0.01})
    push(node.port, phantoms.still(tmp_path, new_uid=new_uid))

    peers.wait_for("the end of patience", lambda: named(events, "job_given_up"))

    assert node.catalogue.counts().series == {"quarantined": 1}
    (series,) = node.catalogue.counts().quarantined
    assert series.reason == "the embedding process took longer than 0.01 s and was ended"
    assert len(named(events, "job_delayed")) == 1
    assert named(events, "job_given_up")[0]["attempts"] == 2
    with association(node.port) as opened:
        assert opened.is_established


def test_a_late_instance_gives_a_series_that_was_put_aside_another_chance(
    start_node: StartNode, tmp_path: Path, new_uid: NewUid
) -> None:
    node = start_node()
    whole = dcmread(phantoms.still(tmp_path, new_uid=new_uid, size=(64, 48)))
    cut = copy.deepcopy(whole)
    cut.PixelData = whole.PixelData[:100]
    cut.save_as(tmp_path / "cut.dcm")
    push(node.port, tmp_path / "cut.dcm")
    peers.wait_for("quarantine", lambda: node.catalogue.counts().quarantined)

    push(node.port, tmp_path / f"{whole.SOPInstanceUID}.dcm")

    peers.wait_for("its vector", lambda: node.catalogue.counts().series == {"indexed": 1})
    assert node.catalogue.counts().quarantined == ()


def status_of(node: Node) -> Any:
    """Return what `similis status --json` says of the running node."""
    command = [sys.executable, "-m", "dicom_node", "status", "--json", "--data"]
    said = subprocess.run([*command, node.config.data], capture_output=True, check=True)
    return json.loads(said.stdout)


def named(events: Events, event: str) -> Events:
    return [line for line in events if line["event"] == event]
