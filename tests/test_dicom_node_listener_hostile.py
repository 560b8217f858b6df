"""Peers that mean no good: they cost a limited time and memory, and no one else's place."""

import socket
import struct
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from conftest import quick_config
from peers import listening, run, wait_for
from pydicom import dcmread

from dicom_node.config import Dicom, Lifecycle, Storage
from dicom_node.errors import ConfigError
from dicom_node.listener import Listener
from dicom_node.parts import open_parts
from dicom_node.receive.intake import Intake
from dicom_node.receive.scp import storage_listener

TIMEOUT_S = 1.0


@pytest.fixture
def listener(tmp_path: Path) -> Iterator[Listener]:
    parts = open_parts(quick_config(tmp_path / "data"))
    intake = Intake(parts.store, parts.catalogue, Lifecycle())
    dicom = Dicom(port=0, maximum_associations=3, network_timeout_s=TIMEOUT_S)
    opened = storage_listener(dicom, Storage(maximum_object_mb=1), intake)
    yield opened
    opened.stop()
    parts.close()


def connect(port: int, first: bytes) -> socket.socket:
    connection = socket.create_connection(("127.0.0.1", port), 5)
    connection.sendall(first)
    return connection


def echo(port: int) -> bool:
    return run("echoscu", "-aec", "SIMILIS", "127.0.0.1", port, check=False).returncode == 0


@pytest.mark.peer
@pytest.mark.parametrize(
    "first",
    [b"", b"\x01\x00\x00", struct.pack(">BxL", 1, 500), struct.pack(">BxL", 4, 0xFFFFFFFF)],
    ids=["nothing", "three bytes", "half a request", "four gigabytes announced"],
)
def test_silent_connections_give_their_places_back(listener: Listener, first: bytes) -> None:
    silent = [connect(listener.port, first) for _ in range(4)]

    wait_for("a free place", lambda: echo(listener.port), timeout_s=15 * TIMEOUT_S)

    for connection in silent:
        connection.close()


def test_stopping_does_not_wait_for_a_silent_peer(listener: Listener) -> None:
    silent = connect(listener.port, b"\x01\x00\x00")
    time.sleep(0.2)
    started = time.monotonic()

    listener.stop()

    assert time.monotonic() - started < 5
    silent.close()
    assert not listening(listener.port)


@pytest.mark.peer
def test_an_instance_beyond_the_limit_is_cut_off_and_the_next_is_taken(
    listener: Listener, bundled: Callable[[str], Path], tmp_path: Path, events: list[Any]
) -> None:
    large, small = tmp_path / "large.dcm", bundled("CT_small.dcm")
    dataset = dcmread(small)
    dataset.PixelData = bytes(4 << 20)
    dataset.save_as(large)

    cut = run("storescu", "-aec", "SIMILIS", "127.0.0.1", listener.port, large, check=False)
    kept = run("storescu", "-aec", "SIMILIS", "127.0.0.1", listener.port, small, check=False)

    assert cut.returncode != 0
    assert kept.returncode == 0
    assert [event["event"] for event in events].count("message_too_large") >= 1


def test_a_port_in_use_is_a_configuration_error_that_names_it(listener: Listener) -> None:
    dicom = Dicom(port=listener.port)

    with pytest.raises(ConfigError, match=f"port {listener.port}"):
        Listener(
            dicom,
            ae_titles=("OTHER",),
            port=dicom.port,
            services=(),
            handlers=[],
            maximum_bytes=1,
        )
