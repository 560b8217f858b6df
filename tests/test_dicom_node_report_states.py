"""What happens to a report while it is on its way: taken back, promised, asked for once more."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import peers
import pytest
from archives import Archive
from pydicom import dcmread
from pynetdicom import evt
from scripted import association, contexts_of, push, store
from test_dicom_node_commitment import QUICK, rest

from dicom_node.node import Node
from training import phantoms

NewUid = Callable[[], str]


class Busy(Archive):
    """An archive to which something happens before it says that it stored an object."""

    def __init__(self, **values: Any) -> None:
        super().__init__(**values)
        self.before_answer: Callable[[], object] = lambda: None

    def _keep(self, event: evt.Event) -> int:
        status = super()._keep(event)
        self.before_answer()
        return status


@pytest.fixture
def archive() -> Iterator[Busy]:
    """Return an archive that never answers by itself whether it keeps what it was sent."""
    with peers.stopped_at_the_end(Busy(answers="never")) as archive:
        yield archive


@pytest.fixture
def image(tmp_path: Path, new_uid: NewUid) -> Path:
    return phantoms.still(tmp_path, new_uid=new_uid, size=(64, 48))


def started(start_node: Callable[..., Node], archive: Busy, **wanted: object) -> Node:
    """Start a node that reports to the archive, which may also ask it as SENDER."""
    node = start_node(
        answer=QUICK | {"attempts": 50, "commitment_wait_s": 60.0, "longest_retry_s": 60.0},
        destinations=archive.destination(ae_title="SENDER", **wanted),
    )
    archive.node_port = node.port
    return node


def ask(node: Node, path: Path) -> None:
    """Send a study as a query, as SENDER."""
    with association(node.query_port, contexts_of([path]), called="SIMILIS_FIND") as opened:
        assert store(opened, path) == 0x0000


def test_a_report_that_no_longer_holds_while_it_is_sent_is_not_sent_but_outdated(
    start_node: Callable[..., Node], archive: Busy, image: Path
) -> None:
    node = started(start_node, archive, commitment=False)
    corrected = dcmread(image)
    corrected.PatientID = "MERGED"
    corrected.save_as(image.with_name("corrected.dcm"))

    def correct_once() -> None:
        archive.before_answer = lambda: None
        push(node.port, image.with_name("corrected.dcm"))

    archive.before_answer = correct_once
    push(node.port, image)

    peers.wait_for("the second report", lambda: len(archive.kept) == 2)
    peers.wait_for("rest", lambda: peers.at_rest(node.catalogue, 1))
    assert node.catalogue.counts().reports == {"outdated": 1, "sent": 1}


def test_a_promise_that_comes_while_the_report_is_sent_again_holds(
    start_node: Callable[..., Node], archive: Busy, image: Path
) -> None:
    node = started(start_node, archive)
    push(node.port, image)
    (asked,) = peers.wait_for("the question", lambda: archive.asked[:1])

    told: list[int | None] = []
    archive.before_answer = lambda: told.append(archive.answer_later(asked))
    ask(node, image)
    peers.wait_for("the report again", lambda: len(archive.kept) == 2)

    rest(node, {"committed": 1})
    assert told == [0x0000]
    assert len(archive.asked) == 1, "the promise was given"


def test_who_asks_about_a_study_whose_report_is_promised_gets_that_report_again(
    start_node: Callable[..., Node], archive: Busy, image: Path
) -> None:
    node = started(start_node, archive)
    push(node.port, image)
    (asked,) = peers.wait_for("the question", lambda: archive.asked[:1])
    assert archive.answer_later(asked) == 0x0000
    rest(node, {"committed": 1})

    ask(node, image)
    peers.wait_for("the report again", lambda: len(archive.kept) == 2)

    rest(node, {"committed": 1})
    assert len(set(archive.uids())) == 1
    assert len(archive.asked) == 1, "the promise still stands"
