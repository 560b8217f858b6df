"""Storage commitment, asked: a report counts as committed when its destination promised it."""

from collections.abc import Callable, Iterator, MutableMapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import peers
import pytest
from archives import Archive
from scripted import Pacs, destination, push

from dicom_node.node import Node
from training import phantoms

QUICK = {
    "attempts": 4,
    "first_retry_s": 0.2,
    "longest_retry_s": 0.5,
    "commitment_wait_s": 0.3,
    "timeout_s": 3.0,
}
NOT_OFFERED = "commitment_not_offered"


@pytest.fixture
def image(tmp_path: Path, new_uid: Callable[[], str]) -> Path:
    return phantoms.still(tmp_path, new_uid=new_uid, size=(64, 48))


@pytest.fixture
def start_archive() -> Iterator[Callable[..., Archive]]:
    """Return a function that starts an archive; all are stopped at the end."""
    with ExitStack() as stack:

        def start(**values: Any) -> Archive:
            return stack.enter_context(peers.stopped_at_the_end(Archive(**values)))

        yield start


@pytest.mark.parametrize("answers", ["same", "later"])
def test_a_report_is_committed_by_an_answer_on_either_association(
    start_node: Callable[..., Node],
    start_archive: Callable[..., Archive],
    image: Path,
    answers: str,
) -> None:
    archive = start_archive(answers=answers)
    node = start_node(answer=QUICK | {"commitment_wait_s": 60}, destinations=archive.destination())
    archive.node_port = node.port

    push(node.port, image)
    rest(node, {"committed": 1})

    assert node.catalogue.counts().studies == {"committed": 1}
    assert archive.told == [0x0000]
    (report,), (asked,) = archive.kept, archive.asked
    (item,) = asked.ReferencedSOPSequence
    assert item.ReferencedSOPInstanceUID == report.SOPInstanceUID
    assert item.ReferencedSOPClassUID == report.SOPClassUID


def test_a_commitment_that_never_comes_is_asked_for_again_and_a_late_answer_counts(
    start_node: Callable[..., Node], start_archive: Callable[..., Archive], image: Path
) -> None:
    archive = start_archive(answers="never")
    node = start_node(
        answer=QUICK | {"attempts": 50, "longest_retry_s": 60}, destinations=archive.destination()
    )
    archive.node_port = node.port

    push(node.port, image)
    peers.wait_for("the second question", lambda: len(archive.asked) == 2)

    first, second = archive.asked
    assert first.TransactionUID != second.TransactionUID
    assert node.catalogue.counts().reports == {"sent": 1}
    assert archive.answer_later(first) == 0x0000
    assert node.catalogue.counts().reports == {"committed": 1}
    assert archive.answer_later(second) == 0x0000  # nobody waits for it any more
    assert len(archive.kept) == 1


def test_an_answer_that_nobody_asked_for_is_refused_and_changes_nothing(
    start_node: Callable[..., Node],
    start_archive: Callable[..., Archive],
    image: Path,
    new_uid: Callable[[], str],
) -> None:
    archive = start_archive(answers="never")
    node = start_node(answer=QUICK, destinations=archive.destination())
    archive.node_port = node.port
    push(node.port, image)
    (asked,) = peers.wait_for("the question", lambda: archive.asked[:1])

    asked.TransactionUID = new_uid()

    assert archive.answer_later(asked) == 0x0115
    assert node.catalogue.counts().reports == {"sent": 1}


def test_a_report_that_the_archive_lacks_is_sent_again_as_the_same_document(
    start_node: Callable[..., Node], start_archive: Callable[..., Archive], image: Path
) -> None:
    archive = start_archive(lacks=[1, 1, 0])
    node = start_node(answer=QUICK, destinations=archive.destination())

    push(node.port, image)
    rest(node, {"committed": 1})

    assert len(archive.kept) == 3
    assert len(set(archive.uids())) == 1
    assert len({each.TransactionUID for each in archive.asked}) == 3


def test_a_report_that_the_archive_always_lacks_is_given_up_as_failed(
    start_node: Callable[..., Node], start_archive: Callable[..., Archive], image: Path
) -> None:
    archive = start_archive(lacks=[1])
    node = start_node(answer=QUICK, destinations=archive.destination())

    push(node.port, image)
    rest(node, {"failed": 1})

    assert len(archive.kept) == len(archive.asked) == QUICK["attempts"]
    assert len(set(archive.uids())) == 1


def test_a_destination_that_never_promises_leaves_the_report_sent_and_the_job_failed(
    start_node: Callable[..., Node], start_archive: Callable[..., Archive], image: Path
) -> None:
    archive = start_archive(answers="abort")
    node = start_node(answer=QUICK, destinations=archive.destination())

    push(node.port, image)
    peers.wait_for("the end", lambda: node.catalogue.counts().jobs == {"failed": 1})

    assert node.catalogue.counts().reports == {"sent": 1}
    assert len(archive.asked) == QUICK["attempts"]
    assert len(archive.kept) == 1


def test_a_destination_that_is_not_to_be_asked_is_not_asked(
    start_node: Callable[..., Node], start_archive: Callable[..., Archive], image: Path
) -> None:
    archive = start_archive()
    node = start_node(answer=QUICK, destinations=archive.destination(commitment=False))

    push(node.port, image)
    rest(node, {"sent": 1})

    assert archive.asked == []


def test_a_question_survives_a_restart(
    start_node: Callable[..., Node], start_archive: Callable[..., Archive], image: Path
) -> None:
    archive = start_archive(answers="never")
    settings = {"answer": QUICK | {"attempts": 50}, "destinations": archive.destination()}
    node = start_node(**settings)
    push(node.port, image)
    peers.wait_for("the question", lambda: archive.asked)
    node.stop()

    node = start_node(**settings)
    archive.node_port = node.port
    asked = len(archive.asked)
    peers.wait_for("another", lambda: len(archive.asked) > asked)
    assert archive.answer_later(archive.asked[0]) == 0x0000
    assert node.catalogue.counts().reports == {"committed": 1}
    assert len(archive.kept) == 1


def rest(node: Node, reports: dict[str, int]) -> None:
    peers.wait_for(f"reports {reports}", lambda: node.catalogue.counts().reports == reports)
    peers.wait_for("rest", lambda: not node.catalogue.counts().jobs)


def test_a_destination_that_does_not_offer_commitment_is_warned_of_once(
    start_node: Callable[..., Node],
    tmp_path: Path,
    new_uid: Callable[[], str],
    events: list[MutableMapping[str, Any]],
) -> None:
    pacs = Pacs()
    try:
        node = start_node(answer=QUICK, destinations=destination(pacs.port))
        for number in range(2):
            folder = tmp_path / str(number)
            push(node.port, phantoms.still(folder, new_uid=new_uid, size=(64, 48)))
        peers.wait_for(
            "the questions", lambda: len([e for e in events if e["event"] == NOT_OFFERED]) == 2
        )
    finally:
        pacs.stop()

    levels = [line["log_level"] for line in events if line["event"] == NOT_OFFERED]
    assert levels == ["warning", "debug"]
