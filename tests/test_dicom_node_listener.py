"""Associations: who may open one with which AE, and what is accepted in it."""

import socket
import threading
from collections.abc import Callable, MutableMapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import peers
import pytest
from pydicom.uid import HEVCMP51, MPEG2MPML, MPEG4HP41, RLELossless
from pynetdicom import build_context
from pynetdicom.association import Association
from scripted import association, store

from dicom_node.listener import _Checkpoint
from dicom_node.node import Node

ULTRASOUND_MULTIFRAME = "1.2.840.10008.5.1.4.1.1.3.1"
VIDEO_ENDOSCOPIC = "1.2.840.10008.5.1.4.1.1.77.1.1.1"
PRIVATE_STORAGE = "1.3.12.2.1107.5.9.1"  # Siemens CSA Non-Image

Events = list[MutableMapping[str, Any]]


@pytest.mark.peer
def test_both_ae_titles_answer_an_echo(node: Node) -> None:
    for ae_title, port in (("SIMILIS", node.port), ("SIMILIS_FIND", node.query_port)):
        assert peers.run("echoscu", "-aec", ae_title, "127.0.0.1", port).returncode == 0


@pytest.mark.peer
def test_a_wrong_called_ae_title_is_rejected_with_its_reason_and_logged(
    node: Node, events: Events
) -> None:
    echo = peers.run("echoscu", "-v", "-aec", "ELSEWHERE", "127.0.0.1", node.port, check=False)

    assert echo.returncode != 0
    assert "Reason: Called AE Title Not Recognized" in echo.stdout
    rejected = peers.wait_for("the log line", lambda: named(events, "association_rejected"))
    assert rejected[0]["called"] == "ELSEWHERE"
    assert rejected[0]["source"].startswith("ECHOSCU@")


@pytest.mark.peer
def test_only_the_listed_calling_ae_titles_get_in(
    start_node: Callable[..., Node], events: Events
) -> None:
    node = start_node(
        dicom={"port": 0, "query_port": 0, "calling_ae_titles": ["PACS", "WORKSTATION"]}
    )

    def echo(calling: str, called: str, port: int) -> str:
        ae_titles = ("-aet", calling, "-aec", called)
        return peers.run("echoscu", "-v", *ae_titles, "127.0.0.1", port, check=False).stdout

    for called, port in (("SIMILIS", node.port), ("SIMILIS_FIND", node.query_port)):
        assert "Received Echo Response (Success)" in echo("WORKSTATION", called, port)
        assert "Reason: Calling AE Title Not Recognized" in echo("STRANGER", called, port)
    peers.wait_for("two log lines", lambda: len(named(events, "association_rejected")) == 2)


@pytest.mark.parametrize(
    ("sop_class", "syntax"),
    [
        (PRIVATE_STORAGE, "1.2.840.10008.1.2.1"),
        (VIDEO_ENDOSCOPIC, MPEG2MPML),
        (VIDEO_ENDOSCOPIC, MPEG4HP41),
        (VIDEO_ENDOSCOPIC, HEVCMP51),
        (ULTRASOUND_MULTIFRAME, RLELossless),
    ],
)
def test_any_storage_sop_class_is_accepted_in_the_senders_transfer_syntax(
    node: Node, sop_class: str, syntax: str
) -> None:
    with association(node.port, [build_context(sop_class, syntax)]) as opened:
        accepted = opened.accepted_contexts

    assert [(c.abstract_syntax, c.transfer_syntax[0]) for c in accepted] == [(sop_class, syntax)]


def test_a_sender_of_128_contexts_gets_all_of_them(node: Node) -> None:
    contexts = [build_context(f"{PRIVATE_STORAGE}.{n}") for n in range(128)]

    with association(node.port, contexts) as opened:
        assert len(opened.accepted_contexts) == 128


def test_the_query_retrieve_title_stores_nothing(
    node: Node, bundled: Callable[[str], Path]
) -> None:
    with association(node.query_port, called="SIMILIS_QR") as opened:
        assert store(opened, bundled("CT_small.dcm")) == 0x0122

    assert node.catalogue.counts().instances == 0


@pytest.mark.parametrize("garbage", [b"GET / HTTP/1.1\r\nHost: x\r\n\r\n", b"\x16\x03\x01" * 99])
def test_bytes_that_are_no_dicom_do_not_disturb_the_node(node: Node, garbage: bytes) -> None:
    with socket.create_connection(("127.0.0.1", node.port), timeout=10) as stranger:
        stranger.sendall(garbage)

    with association(node.port) as opened:
        assert opened.is_established


def named(events: Events, event: str) -> Events:
    return [line for line in events if line["event"] == event]


def test_a_reactor_that_wakes_late_is_not_let_into_the_next_request() -> None:
    reactor = SimpleNamespace(_is_paused=True)
    checkpoint = _Checkpoint(cast(Association, reactor))
    checkpoint.clear()
    waiting = threading.Thread(target=checkpoint.wait, daemon=True)
    waiting.start()

    with checkpoint._guard:  # it is woken, and before it gets further the next request begins
        checkpoint.set()
        waiting.join(0.2)
        threading.Event.clear(checkpoint)
    waiting.join(0.2)
    assert waiting.is_alive()
    assert reactor._is_paused

    checkpoint.set()
    waiting.join(5)
    assert not waiting.is_alive()
    assert not reactor._is_paused
