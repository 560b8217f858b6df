"""Storage commitment, given: what was pushed is promised when it is kept, byte for byte."""

import contextlib
import threading
import time
from collections.abc import Callable, Iterator, MutableMapping, Sequence
from pathlib import Path
from typing import Any

import peers
import pytest
from pydicom import dcmread
from pydicom.dataset import Dataset
from pynetdicom import AE, build_context, evt
from pynetdicom.association import Association
from pynetdicom.presentation import PresentationContext
from pynetdicom.sop_class import StorageCommitmentPushModel
from scripted import contexts_of, push, store

from dicom_node.node import Node
from dicom_node.receive.store import Store
from training import phantoms

WELL_KNOWN = "1.2.840.10008.1.20.1.1"


class Modality:
    """Asks the node for commitment, and takes its answer on either association."""

    def __init__(self) -> None:
        self.answers: list[tuple[int, Dataset]] = []
        self.on_own_association: list[bool] = []
        self._heard = threading.Event()
        self.hears = threading.Event()  # cleared: it takes no answer on its own association
        self.hears.set()
        self._ae = AE("MODALITY")
        self._ae.add_requested_context(StorageCommitmentPushModel)
        self._ae.add_supported_context(StorageCommitmentPushModel, scu_role=True, scp_role=True)
        self._handlers = [(evt.EVT_N_EVENT_REPORT, self._hear)]
        server = self._ae.start_server(("127.0.0.1", 0), block=False, evt_handlers=self._handlers)
        self.port = int(server.server_address[1])

    def ask(self, port: int, asked: Dataset, *, stay_s: float, action: int = 1) -> int:
        """Ask, wait a while on that association, and return the status."""
        with self.association(port) as opened:
            status = self.put(opened, asked, action=action)
            self._heard.wait(stay_s)
            threading.Event().wait(0.2)  # the response to the answer goes out before the release
        return status

    @contextlib.contextmanager
    def association(
        self, port: int, contexts: Sequence[PresentationContext] = ()
    ) -> Iterator[Association]:
        """Hold an association for questions, and for more."""
        asking = build_context(StorageCommitmentPushModel)
        opened = self._ae.associate(
            "127.0.0.1",
            port,
            contexts=[asking, *contexts],
            ae_title="SIMILIS",
            evt_handlers=self._handlers,
        )
        assert opened.is_established
        try:
            yield opened
        finally:
            if opened.is_established:
                opened.release()

    def put(self, opened: Association, asked: Dataset, *, action: int = 1) -> int:
        """Put a question on an association; return the status."""
        status, _ = opened.send_n_action(asked, action, StorageCommitmentPushModel, WELL_KNOWN)
        return int(status.Status)

    def destination(self) -> dict[str, object]:
        return {"m": {"ae_title": "MODALITY", "host": "127.0.0.1", "port": self.port}}

    def stop(self) -> None:
        self._ae.shutdown()

    def _hear(self, event: evt.Event) -> tuple[int, None]:
        self.answers.append((event.event_type, event.event_information))
        self.on_own_association.append(event.assoc.is_requestor)
        self._heard.set()
        if event.assoc.is_requestor:
            self.hears.wait(30)
        return 0x0000, None


@pytest.fixture
def modality() -> Iterator[Modality]:
    with peers.stopped_at_the_end(Modality()) as started:
        yield started


@pytest.fixture
def slices(tmp_path: Path, new_uid: Callable[[], str]) -> list[Path]:
    return phantoms.ct_series(tmp_path / "ct", new_uid=new_uid, slices=3, size=64)


@pytest.mark.parametrize("stay_s", [10.0, 0.0])
def test_what_is_kept_is_promised_on_the_open_association_or_on_a_new_one(
    start_node: Callable[..., Node],
    modality: Modality,
    slices: list[Path],
    new_uid: Callable[[], str],
    stay_s: float,
) -> None:
    node = start_node(destinations=modality.destination(), lifecycle={"study_quiet_s": 900})
    push(node.port, *slices)
    asked = question(new_uid(), slices)

    assert modality.ask(node.port, asked, stay_s=stay_s) == 0x0000
    peers.wait_for("the answer", lambda: modality.answers)
    peers.wait_for("no debt", lambda: not node.catalogue.counts().jobs)

    ((event_type, answer),) = modality.answers
    assert modality.on_own_association == [stay_s > 0]
    assert event_type == 1
    assert answer.TransactionUID == asked.TransactionUID
    assert uids(answer.ReferencedSOPSequence) == uids(asked.ReferencedSOPSequence)
    assert "FailedSOPSequence" not in answer


def test_what_is_unknown_damaged_or_of_another_class_is_not_promised(
    start_node: Callable[..., Node],
    modality: Modality,
    slices: list[Path],
    new_uid: Callable[[], str],
) -> None:
    node = start_node(destinations=modality.destination(), lifecycle={"study_quiet_s": 900})
    push(node.port, *slices[:2])
    damaged = node.catalogue.instance_file(dcmread(slices[1]).SOPInstanceUID)
    assert damaged is not None
    path = node.config.data / "store" / damaged.relative_path
    path.write_bytes(path.read_bytes()[:-1] + b"\x7f")
    asked = question(new_uid(), [*slices, slices[0]])
    asked.ReferencedSOPSequence[3].ReferencedSOPClassUID = "1.2.840.10008.5.1.4.1.1.4"

    assert modality.ask(node.port, asked, stay_s=10) == 0x0000

    ((event_type, answer),) = modality.answers
    assert event_type == 2
    assert uids(answer.ReferencedSOPSequence) == uids(asked.ReferencedSOPSequence)[:1]
    assert [item.FailureReason for item in answer.FailedSOPSequence] == [0x0110, 0x0112, 0x0119]


def test_a_peer_that_goes_on_to_push_is_answered_on_a_new_association(
    start_node: Callable[..., Node],
    modality: Modality,
    slices: list[Path],
    new_uid: Callable[[], str],
) -> None:
    node = start_node(destinations=modality.destination(), lifecycle={"study_quiet_s": 900})
    asked = question(new_uid(), slices)
    push(node.port, *slices)

    with modality.association(node.port, contexts_of(slices)) as opened:
        modality.put(opened, asked)
        while not modality.answers:
            assert store(opened, slices[0]) == 0x0000
            time.sleep(0.2)
        assert store(opened, slices[0]) == 0x0000

    assert modality.on_own_association == [False]


def test_a_peer_that_stays_and_does_not_take_the_answer_is_told_again_on_a_new_association(
    start_node: Callable[..., Node],
    modality: Modality,
    slices: list[Path],
    new_uid: Callable[[], str],
) -> None:
    answer = {"timeout_s": 1.0, "first_retry_s": 0.2}
    node = start_node(
        answer=answer, destinations=modality.destination(), lifecycle={"study_quiet_s": 900}
    )
    push(node.port, *slices)

    with modality.association(node.port) as opened:
        modality.hears.clear()
        modality.put(opened, question(new_uid(), slices))
        peers.wait_for("both answers", lambda: len(modality.answers) == 2, 15)
        modality.hears.set()

    assert modality.on_own_association == [True, False]
    peers.wait_for("no debt", lambda: not node.catalogue.counts().jobs)


def test_nothing_is_read_for_a_peer_that_left_and_has_no_address(
    start_node: Callable[..., Node],
    modality: Modality,
    slices: list[Path],
    new_uid: Callable[[], str],
    events: list[MutableMapping[str, Any]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    read: list[str] = []
    monkeypatch.setattr(Store, "digest_of", lambda store, path: read.append(path) or "")
    node = start_node(lifecycle={"study_quiet_s": 900})
    push(node.port, *slices)

    assert modality.ask(node.port, question(new_uid(), slices), stay_s=0) == 0x0000
    peers.wait_for("the failure", lambda: [e for e in events if e["event"] == "job_delayed"])

    assert read == []


def test_an_answer_owed_survives_a_restart(
    start_node: Callable[..., Node],
    modality: Modality,
    slices: list[Path],
    new_uid: Callable[[], str],
) -> None:
    retries = {"first_retry_s": 0.2, "longest_retry_s": 0.5}
    node = start_node(answer=retries)  # which does not know the modality
    push(node.port, *slices)
    assert modality.ask(node.port, question(new_uid(), slices), stay_s=0) == 0x0000
    peers.wait_for("the failure", lambda: node.catalogue.counts().jobs)
    node.stop()
    assert modality.answers == []

    node = start_node(answer=retries, destinations=modality.destination())
    peers.wait_for("the answer", lambda: modality.answers)
    assert modality.answers[0][0] == 1


@pytest.mark.parametrize(
    ("keyword", "value", "action", "status"),
    [
        ("TransactionUID", "no uid", 1, 0x0115),
        ("TransactionUID", "1.2.3", 2, 0x0123),
        ("ReferencedSOPSequence", [Dataset()], 1, 0x0115),
    ],
)
def test_a_question_that_makes_no_sense_is_refused(
    node: Node, modality: Modality, keyword: str, value: object, action: int, status: int
) -> None:
    asked = question("1.2.3.4", [])
    setattr(asked, keyword, value)
    assert modality.ask(node.port, asked, stay_s=0, action=action) == status


def question(transaction_uid: str, paths: Sequence[Path]) -> Dataset:
    asked = Dataset()
    asked.TransactionUID = transaction_uid
    asked.ReferencedSOPSequence = []
    for path in paths:
        named = dcmread(path, stop_before_pixels=True)
        item = Dataset()
        item.ReferencedSOPClassUID = named.SOPClassUID
        item.ReferencedSOPInstanceUID = named.SOPInstanceUID
        asked.ReferencedSOPSequence.append(item)
    return asked


def uids(items: Sequence[Dataset]) -> list[str]:
    return [item.ReferencedSOPInstanceUID for item in items]
