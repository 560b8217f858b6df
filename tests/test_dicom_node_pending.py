"""Pending responses on an association: what is on the wire, in which pieces, and when it ends."""

import itertools
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import peers
import pytest
from pydicom.uid import ExplicitVRLittleEndian, ImplicitVRLittleEndian
from pynetdicom import build_context, evt
from pynetdicom.pdu import P_DATA_TF
from scripted import association, identifier

from dicom_node.answer.element import Element, dataset_of
from dicom_node.answer.pending import send_pending
from dicom_node.answer.response import (
    CANCELLED,
    PENDING,
    PENDING_WITHOUT_SOME_KEYS,
    Answers,
    Elements,
)
from dicom_node.config import Dicom
from dicom_node.contexts import STUDY_ROOT_FIND, Role, services
from dicom_node.listener import MESSAGES_AHEAD, Listener, cut

PEER_TAKES = 16382  # bytes of values in a PDU, pynetdicom's own limit
MANY = 5000  # answers, more than the buffers of a connection hold
SYNTAXES = pytest.mark.parametrize(
    "syntax", [ExplicitVRLittleEndian, ImplicitVRLittleEndian], ids=["explicit", "implicit"]
)


@SYNTAXES
def test_a_response_is_what_pynetdicom_would_send_in_one_pdu(syntax: str) -> None:
    told = [(PENDING, response(1)), (PENDING_WITHOUT_SOME_KEYS, response(2))]

    sent = pdus(lambda event: send_pending(event, told), syntax)
    expected = pdus(lambda event: iter([(s, dataset_of(e)) for s, e in told]), syntax)

    assert [len(pdu) for pdu in sent] == [2, 2, 1]
    assert [len(pdu) for pdu in expected] == [1] * 5
    assert [value for pdu in sent for value in pdu] == [value for pdu in expected for value in pdu]


def test_no_pdu_is_longer_than_the_peer_takes_and_none_is_split_that_is_not() -> None:
    lengths = range(PEER_TAKES - 400, PEER_TAKES + 20, 2)
    told = [(PENDING, [Element(0x0040A160, "UT", "x" * length)]) for length in lengths]

    sent = pdus(lambda event: send_pending(event, told), ExplicitVRLittleEndian)

    whole = [sum(5 + len(value) for value in pdu) for pdu in sent if len(pdu) == 2]
    assert max(whole) == PEER_TAKES
    assert whole == list(range(min(whole), PEER_TAKES + 1, 2))
    assert len(whole) < len(told)


@SYNTAXES
def test_a_response_longer_than_the_peer_takes_is_sent_in_pieces(syntax: str) -> None:
    long = [*response(1), Element(0x0040A160, "UT", "x" * 40_000)]

    sent = pdus(lambda event: send_pending(event, [(PENDING, long)]), syntax)
    expected = pdus(lambda event: iter([(PENDING, dataset_of(long))]), syntax)

    assert len(sent) > 3
    assert sent == expected


def test_a_cancel_is_read_while_answers_go_out_and_few_of_them_wait_in_memory() -> None:
    waiting: list[int] = []

    def told(event: evt.Event) -> Iterator[tuple[int, Elements]]:
        for number in range(MANY):
            waiting.append(event.assoc.dul.to_provider_queue.qsize())
            yield PENDING, response(number)

    def hold(event: evt.Event) -> None:
        """Read nothing until the node makes no more answers."""
        opened.unbind(evt.EVT_PDU_RECV, hold)
        peers.wait_for("a pause", lambda: paused(waiting))

    with peers.stopped_at_the_end(listener(lambda event: send_pending(event, told(event)))) as at:
        contexts = [build_context(STUDY_ROOT_FIND, ExplicitVRLittleEndian)]
        with association(at.port, contexts, called="SIMILIS_QR") as opened:
            opened.bind(evt.EVT_PDU_RECV, hold)
            said = opened.send_c_find(identifier(StudyInstanceUID=""), STUDY_ROOT_FIND)
            first, _ = next(said)
            opened.send_c_cancel(1, query_model=STUDY_ROOT_FIND)
            *_, (final, _) = said

    assert (first.Status, final.Status) == (PENDING, CANCELLED)
    assert len(waiting) < MANY
    assert max(waiting) <= MESSAGES_AHEAD


def test_a_peer_that_is_gone_is_sent_no_more_answers() -> None:
    ended = threading.Event()

    def answers(event: evt.Event) -> Answers:
        try:
            yield from send_pending(event, ((PENDING, response(n)) for n in itertools.count()))
        finally:
            ended.set()

    with peers.stopped_at_the_end(listener(answers)) as at:
        contexts = [build_context(STUDY_ROOT_FIND, ExplicitVRLittleEndian)]
        with association(at.port, contexts, called="SIMILIS_QR") as opened:
            next(opened.send_c_find(identifier(StudyInstanceUID=""), STUDY_ROOT_FIND))
            cut(opened)

            assert ended.wait(30)


def response(number: int) -> Elements:
    return [
        Element(0x00080052, "CS", "STUDY"),
        Element(0x0020000D, "UI", f"1.2.{number}"),
        Element(0x00204000, "LT", "x" * 4096),
    ]


def pdus(answers: Callable[[evt.Event], Answers], syntax: str) -> list[list[bytes]]:
    """Return the presentation data values in each PDU that answers one C-FIND."""
    received: list[list[bytes]] = []

    def keep(event: evt.Event) -> None:
        if isinstance(event.pdu, P_DATA_TF):
            items = event.pdu.presentation_data_value_items
            received.append([item.presentation_data_value for item in items])

    with peers.stopped_at_the_end(listener(answers)) as at:
        contexts = [build_context(STUDY_ROOT_FIND, syntax)]
        with association(at.port, contexts, called="SIMILIS_QR") as opened:
            opened.bind(evt.EVT_PDU_RECV, keep)
            list(opened.send_c_find(identifier(StudyInstanceUID=""), STUDY_ROOT_FIND))
    return received


def paused(growing: list[int]) -> bool:
    before = len(growing)
    time.sleep(0.3)
    return len(growing) == before


def listener(answers: Callable[[evt.Event], Answers]) -> Listener:
    handlers: list[Any] = [(evt.EVT_C_FIND, answers)]
    return Listener(
        Dicom(),
        ae_titles=("SIMILIS_QR",),
        port=0,
        services=services(Role.QUERY),
        handlers=handlers,
        maximum_bytes=1 << 20,
    )
