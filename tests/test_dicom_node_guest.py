"""A study sent as a query to a running node: answered to its sender, shown to nobody, forgotten."""

from collections.abc import Callable, Iterator, MutableMapping
from datetime import timedelta
from pathlib import Path
from typing import Any

import peers
import pytest
from pydicom import dcmread
from pydicom.dataset import Dataset
from pydicom.uid import ExplicitVRLittleEndian
from pynetdicom import build_context
from scripted import Pacs, association, c_find, contexts_of, identifier, push, store

from dicom_node.contexts import STUDY_ROOT_GET
from dicom_node.node import Node
from dicom_node.operate.forget import forget_guests
from dicom_node.parts import open_parts, utc_now
from training import phantoms

pytestmark = pytest.mark.peer
NewUid = Callable[[], str]
Events = list[MutableMapping[str, Any]]

FOR_LONG, AT_ONCE = {"guest_minutes": 60}, {"guest_minutes": 0}


@pytest.fixture
def sender() -> Iterator[Pacs]:
    """Return the listener of the one who asks, whose AE title is SENDER."""
    with peers.stopped_at_the_end(Pacs()) as pacs:
        yield pacs


@pytest.fixture
def pacs() -> Iterator[Pacs]:
    """Return the archive that gets the reports on what is kept."""
    with peers.stopped_at_the_end(Pacs()) as pacs:
        yield pacs


def destinations(sender: Pacs, pacs: Pacs) -> dict[str, object]:
    here = {"host": "127.0.0.1", "commitment": False}
    return {
        "ward": here | {"ae_title": "SENDER", "port": sender.port},
        "pacs": here | {"ae_title": "PACS", "port": pacs.port, "contact_sheet": False},
    }


@pytest.fixture
def guest(tmp_path: Path, new_uid: NewUid) -> Path:
    return still(tmp_path, new_uid, "GUEST")


@pytest.fixture
def kept(tmp_path: Path, new_uid: NewUid) -> Path:
    return still(tmp_path, new_uid, "KEPT")


def still(folder: Path, new_uid: NewUid, patient_id: str) -> Path:
    folder = folder / patient_id
    return phantoms.still(folder, new_uid=new_uid, size=(64, 48), patient_id=patient_id)


def ask(node: Node, path: Path) -> int | None:
    """Send a file as a query, as SENDER; return the status."""
    with association(node.query_port, contexts_of([path]), called="SIMILIS_FIND") as opened:
        return store(opened, path)


def with_kept(start_node: Callable[..., Node], kept: Path, **sections: Any) -> Node:
    """Start a node that keeps one study, reported to all."""
    node = start_node(**sections)
    push(node.port, kept)
    peers.wait_for("rest", lambda: peers.at_rest(node.catalogue, 1))
    return node


def studies_found(node: Node) -> set[str]:
    """Return what an ordinary C-FIND of all studies answers."""
    asked = identifier(StudyInstanceUID="", PatientName="")
    _, answers = c_find(node.query_port, asked, called="SIMILIS_QR")
    return {answer.StudyInstanceUID for answer in answers}


def got(node: Node, study_uid: str) -> int:
    """Return how many objects a C-GET of a study gives."""
    contexts = [build_context(STUDY_ROOT_GET, ExplicitVRLittleEndian)]
    with association(node.query_port, contexts, called="SIMILIS_QR") as opened:
        said = list(opened.send_c_get(identifier(StudyInstanceUID=study_uid), STUDY_ROOT_GET))
    final = said[-1][0]
    return int(final.NumberOfCompletedSuboperations + final.NumberOfFailedSuboperations)


def study_of(path: Path) -> str:
    return str(dcmread(path).StudyInstanceUID)


def on_study(sent: list[Dataset], path: Path) -> list[str]:
    """Return the modalities of what was sent on a study, in order."""
    return [str(each.Modality) for each in sent if each.StudyInstanceUID == study_of(path)]


def files(node: Node) -> tuple[int, int]:
    """Return how many instances and reports lie in the data folder."""
    data = node.config.data
    return len(list(data.glob("store/??/*.dcm"))), len(list(data.glob("reports/*.dcm")))


def test_a_sent_study_is_answered_to_its_sender_and_is_found_by_nobody(
    start_node: Callable[..., Node],
    sender: Pacs,
    pacs: Pacs,
    guest: Path,
    kept: Path,
    events: Events,
) -> None:
    node = with_kept(start_node, kept, answer=FOR_LONG, destinations=destinations(sender, pacs))

    # DCMTK, as a ward would send it.
    called = ("-aet", "SENDER", "-aec", "SIMILIS_FIND", "127.0.0.1", node.query_port)
    peers.run("storescu", "-v", *called, guest)
    peers.wait_for("the answer", lambda: len(on_study(sender.kept, guest)) == 2)
    peers.wait_for("rest", lambda: peers.at_rest(node.catalogue, 2))

    assert on_study(sender.kept, guest) == ["SR", "OT"]
    assert on_study(pacs.kept, guest) == []
    assert node.catalogue.counts().guests == 1
    assert studies_found(node) == {study_of(kept)}
    by_example, answers = c_find(node.query_port, identifier(StudyInstanceUID=study_of(kept)))
    assert ([status.Status for status in by_example], answers) == ([0x0000], [])
    assert (got(node, study_of(guest)), got(node, study_of(kept))) == (0, 3)
    assert "GUEST" not in str(events), "no name and no patient in the log"


def test_a_guest_is_forgotten_when_its_time_is_up_after_a_restart_too(
    start_node: Callable[..., Node], sender: Pacs, pacs: Pacs, guest: Path, kept: Path
) -> None:
    settings = {"answer": FOR_LONG, "destinations": destinations(sender, pacs)}
    node = with_kept(start_node, kept, **settings)
    before = files(node)
    assert ask(node, guest) == 0x0000
    peers.wait_for("the answer", lambda: node.catalogue.counts().reports == {"sent": 3})
    peers.wait_for("rest", lambda: not node.catalogue.counts().jobs)
    forget_guests_after(node, timedelta())  # its hour begins
    node.stop()

    forget_guests_after(node, timedelta(minutes=59))
    assert files(node) == (before[0] + 1, before[1] + 2)
    forget_guests_after(node, timedelta(minutes=61))
    assert files(node) == before


def forget_guests_after(node: Node, time: timedelta) -> None:
    """Do what a node does about guests, so much later."""
    parts = open_parts(node.config, clock=lambda: utc_now() + time)
    forget_guests(parts)
    parts.close()


@pytest.mark.parametrize("status", [0x0000, 0xA700])
def test_a_guest_goes_at_its_time_whether_its_report_was_taken_or_not(
    start_node: Callable[..., Node], pacs: Pacs, guest: Path, kept: Path, status: int
) -> None:
    with peers.stopped_at_the_end(Pacs(statuses=(0x0000, 0x0000, status))) as sender:
        settings = {
            "answer": AT_ONCE | {"attempts": 2, "first_retry_s": 0.1},
            "destinations": destinations(sender, pacs),
        }
        node = with_kept(start_node, kept, **settings)
        before, offered = files(node), sender.offered
        counted = node.catalogue.counts()

        assert ask(node, guest) == 0x0000
        peers.wait_for("the guest", lambda: node.catalogue.counts().guests == 1)
        peers.wait_for("its end", lambda: node.catalogue.counts().guests == 0)

    assert sender.offered > offered
    assert files(node) == before
    assert node.catalogue.counts() == counted
    assert node.catalogue.study_row(study_of(guest)) is None


def test_a_query_survives_a_restart_between_its_arrival_and_its_answer(
    start_node: Callable[..., Node], sender: Pacs, pacs: Pacs, guest: Path, kept: Path
) -> None:
    settings = {"answer": AT_ONCE, "destinations": destinations(sender, pacs)}
    with_kept(start_node, kept, **settings).stop()
    slow = peers.QUICK | {"series_quiet_s": 5.0, "study_quiet_s": 5.0}
    node = start_node(lifecycle=slow, **settings)
    assert ask(node, guest) == 0x0000
    node.stop()
    assert on_study(sender.kept, guest) == []

    node = start_node(lifecycle=slow, **settings)
    assert node.catalogue.counts().guests == 1
    peers.wait_for("the answer", lambda: len(on_study(sender.kept, guest)) == 2)
    peers.wait_for("its end", lambda: node.catalogue.counts().guests == 0)


def test_a_kept_study_that_is_sent_as_a_query_is_answered_and_stays(
    start_node: Callable[..., Node], sender: Pacs, pacs: Pacs, kept: Path
) -> None:
    node = with_kept(start_node, kept, answer=AT_ONCE, destinations=destinations(sender, pacs))
    before = files(node), node.catalogue.counts()
    told = [each.SOPInstanceUID for each in sender.kept]

    assert ask(node, kept) == 0x0000
    peers.wait_for("the same report again", lambda: len(sender.kept) == 2 * len(told))
    peers.wait_for("rest", lambda: peers.at_rest(node.catalogue, 1))

    assert [each.SOPInstanceUID for each in sender.kept] == told * 2
    assert len(pacs.kept) == 1
    assert (files(node), node.catalogue.counts()) == before
    assert studies_found(node) == {study_of(kept)}


def test_a_guest_that_is_pushed_becomes_kept_and_is_reported_to_the_others(
    start_node: Callable[..., Node], sender: Pacs, pacs: Pacs, guest: Path, kept: Path
) -> None:
    node = with_kept(start_node, kept, answer=FOR_LONG, destinations=destinations(sender, pacs))
    assert ask(node, guest) == 0x0000
    peers.wait_for("the answer", lambda: len(on_study(sender.kept, guest)) == 2)

    push(node.port, guest)
    peers.wait_for("the other report", lambda: on_study(pacs.kept, guest) == ["SR"])
    peers.wait_for("rest", lambda: peers.at_rest(node.catalogue, 2))

    assert node.catalogue.counts().guests == 0
    assert len(on_study(sender.kept, guest)) == 2, "it says what the sender knows"
    assert studies_found(node) == {study_of(kept), study_of(guest)}
    _, answers = c_find(node.query_port, identifier(StudyInstanceUID=study_of(kept)))
    assert [answer.StudyInstanceUID for answer in answers] == [study_of(guest)]


def test_a_sender_that_is_no_destination_is_refused_and_nothing_is_kept(
    start_node: Callable[..., Node], guest: Path, events: Events
) -> None:
    node = start_node()

    with association(node.query_port, contexts_of([guest]), called="SIMILIS_FIND") as opened:
        said = opened.send_c_store(guest)

    assert (said.Status, said.ErrorComment) == (
        0x0124,
        "no destination has AE title SENDER, nowhere to answer",
    )
    assert (files(node), node.catalogue.counts().instances) == ((0, 0), 0)
    (line,) = [line for line in events if line["event"] == "object_refused"]
    assert line["status"] == "0124"


def test_a_guest_obeys_the_limits_of_storage(
    start_node: Callable[..., Node], sender: Pacs, pacs: Pacs, guest: Path
) -> None:
    node = start_node(destinations=destinations(sender, pacs), storage={"minimum_free_mb": 1 << 40})

    assert ask(node, guest) == 0xA700
    assert node.catalogue.counts().guests == 0
