"""Reports that name other patients' studies: only for who is configured to know them, today."""

from collections.abc import Callable, Iterator
from pathlib import Path

import peers
import pytest
from pydicom import dcmread
from pydicom.dataset import Dataset
from pydicom.uid import ExplicitVRLittleEndian
from pynetdicom import build_context
from scripted import Pacs, association, destination, identifier, push

from dicom_node.contexts import STUDY_ROOT_GET, STUDY_ROOT_MOVE
from dicom_node.node import Node
from training import phantoms

NewUid = Callable[[], str]
StartNode = Callable[..., Node]


@pytest.fixture
def pacs() -> Iterator[Pacs]:
    with peers.stopped_at_the_end(Pacs()) as pacs:
        yield pacs


@pytest.fixture
def images(tmp_path: Path, new_uid: NewUid) -> list[Path]:
    """Return the image of a neighbour, then that of the study that the report is on."""
    return [
        phantoms.still(tmp_path / name, new_uid=new_uid, size=(64, 48), patient_id=name)
        for name in ("NEIGHBOUR", "QUERY")
    ]


def send_both(node: Node, images: list[Path]) -> None:
    """Push the neighbour, then the other study, each until its report was made."""
    for number, image in enumerate(images, 1):
        push(node.port, image)
        peers.wait_for(
            "the report", lambda n=number: sum(node.catalogue.counts().reports.values()) >= n
        )


def is_linked(report: Dataset) -> bool:
    return "PertinentOtherEvidenceSequence" in report


def reports_moved(node: Node, pacs: Pacs, image: Path) -> int:
    """Return how many reports come with a study by C-MOVE."""
    before = len(pacs.kept)
    contexts = [build_context(STUDY_ROOT_MOVE, ExplicitVRLittleEndian)]
    asked = identifier(StudyInstanceUID=str(dcmread(image).StudyInstanceUID))
    with association(node.query_port, contexts, called="SIMILIS_QR") as opened:
        list(opened.send_c_move(asked, "PACS", STUDY_ROOT_MOVE))
    return sum(each.Modality == "SR" for each in pacs.kept[before:])


def objects_got(node: Node, image: Path) -> int:
    """Return of how many objects a C-GET of a study consists."""
    contexts = [build_context(STUDY_ROOT_GET, ExplicitVRLittleEndian)]
    asked = identifier(StudyInstanceUID=str(dcmread(image).StudyInstanceUID))
    with association(node.query_port, contexts, called="SIMILIS_QR") as opened:
        final = list(opened.send_c_get(asked, STUDY_ROOT_GET))[-1][0]
    return int(final.NumberOfCompletedSuboperations + final.NumberOfFailedSuboperations)


@pytest.mark.parametrize("later", ["linked", "opaque", "gone"])
def test_a_linked_report_is_handed_out_only_while_its_destination_is_configured_for_it(
    start_node: StartNode, pacs: Pacs, images: list[Path], later: str
) -> None:
    wanted = {"commitment": False, "neighbours": "linked"}
    node = start_node(destinations=destination(pacs.port, **wanted))
    send_both(node, images)
    peers.wait_for("rest", lambda: peers.at_rest(node.catalogue, 2))
    assert is_linked(pacs.kept[-1])
    node.stop()

    sections = {
        "linked": {"destinations": destination(pacs.port, **wanted)},
        "opaque": {"destinations": destination(pacs.port, commitment=False)},
        "gone": {"peers": destination(pacs.port)},
    }
    node = start_node(**sections[later])

    assert reports_moved(node, pacs, images[1]) == (later == "linked")
    assert objects_got(node, images[1]) == 1, "a C-GET does not prove who asks"


def test_a_linked_report_that_waits_is_not_sent_to_who_may_no_longer_have_it(
    start_node: StartNode, pacs: Pacs, images: list[Path]
) -> None:
    answer = {"first_retry_s": 0.2, "longest_retry_s": 0.2, "attempts": 1000}
    settings = {"commitment": False, "neighbours": "linked"}
    nobody = destination(peers.free_port(), **settings)
    node = start_node(answer=answer, destinations=nobody)
    send_both(node, images)
    node.stop()

    node = start_node(answer=answer, destinations=destination(pacs.port, commitment=False))
    peers.wait_for("the reports", lambda: len(pacs.kept) >= 2)
    peers.wait_for("rest", lambda: peers.at_rest(node.catalogue, 2))

    assert not any(map(is_linked, pacs.kept))
    assert {each.PatientID for each in pacs.kept} == {"NEIGHBOUR", "QUERY"}
