"""Quiet timers and what follows: late instances, second reports, and the node's own coming back."""

from collections.abc import Callable, Iterator, MutableMapping
from pathlib import Path
from typing import Any

import peers
import pytest
from pydicom import dcmread
from pydicom.dataset import Dataset
from pynetdicom import build_context
from scripted import Pacs, association, destination

from dicom_node.node import Node
from training import phantoms

Events = list[MutableMapping[str, Any]]
NewUid = Callable[[], str]


@pytest.fixture
def pacs() -> Iterator[Pacs]:
    with peers.stopped_at_the_end(Pacs()) as pacs:
        yield pacs


@pytest.fixture
def node(start_node: Callable[..., Node], pacs: Pacs) -> Node:
    return start_node(destinations=destination(pacs.port))


@pytest.fixture
def study(tmp_path: Path, new_uid: NewUid) -> list[Dataset]:
    """Return three slices of a study, the last of them in a series of its own."""
    slices = ct_slices(tmp_path, new_uid, seed=1, count=3, patient_id="QUERY")
    slices[2].SeriesInstanceUID = new_uid()
    return slices


def test_a_late_instance_embeds_its_series_again_and_no_other(
    node: Node, study: list[Dataset], events: Events
) -> None:
    first, late, other = study
    push(node, [first, other])
    rest(node, studies=1)

    push(node, [late])
    rest(node, studies=1)

    indexed = [line["series"] for line in events if line["event"] == "series_indexed"]
    assert indexed.count(first.SeriesInstanceUID) == 2
    assert indexed.count(other.SeriesInstanceUID) == 1
    found = node.catalogue.study_query(first.StudyInstanceUID, node.model.model_id)
    assert found is not None
    sources = {row.series_instance_uid: set(row.sources) for row in found.rows}
    assert sources[first.SeriesInstanceUID] == {first.SOPInstanceUID, late.SOPInstanceUID}


def test_a_second_report_follows_only_when_the_ranking_changed(
    node: Node, pacs: Pacs, study: list[Dataset], tmp_path: Path, new_uid: NewUid
) -> None:
    first, late, other = study
    push(node, ct_slices(tmp_path, new_uid, seed=2, patient_id="NEIGHBOUR 1"))
    rest(node, studies=1)
    push(node, [first])
    rest(node, studies=2)
    peers.wait_for("the first report", lambda: reports_on(first, pacs))

    push(node, [late])
    rest(node, studies=2)
    assert len(reports_on(first, pacs)) == 1, "the same case in the same place is no news"

    push(node, ct_slices(tmp_path, new_uid, seed=3, patient_id="NEIGHBOUR 2"))
    rest(node, studies=3)
    push(node, [other])
    rest(node, studies=3)
    peers.wait_for("the second report", lambda: len(reports_on(first, pacs)) == 2)

    one, two = reports_on(first, pacs)
    assert two.SeriesInstanceUID == one.SeriesInstanceUID
    assert two.SOPInstanceUID != one.SOPInstanceUID
    assert (one.InstanceNumber, two.InstanceNumber) == (1, 2)
    assert "PredecessorDocumentsSequence" not in one
    assert predecessors(two) == [one.SOPInstanceUID]


def test_a_report_of_ones_own_that_comes_back_is_welcome_and_leaves_no_trace(
    node: Node, pacs: Pacs, study: list[Dataset]
) -> None:
    push(node, study[:1])
    peers.wait_for("the report", lambda: pacs.kept)
    rest(node, studies=1)
    files = set((node.config.data / "store").rglob("*.dcm"))

    push(node, pacs.kept)

    assert peers.at_rest(node.catalogue, 1), "it must not start a timer"
    assert node.catalogue.counts().instances == 1
    assert set((node.config.data / "store").rglob("*.dcm")) == files


def test_a_report_of_another_maker_is_kept_but_not_embedded(
    node: Node, bundled: Callable[[str], Path]
) -> None:
    push(node, [dcmread(bundled("reportsi.dcm"))])

    rest(node, studies=1)
    assert node.catalogue.counts().series == {"skipped": 1}
    assert node.catalogue.counts().instances == 1


def ct_slices(
    folder: Path, new_uid: NewUid, *, seed: int, count: int = 1, patient_id: str
) -> list[Dataset]:
    paths = phantoms.ct_series(
        folder, new_uid=new_uid, slices=count, size=64, seed=seed, patient_id=patient_id
    )
    return [dcmread(path) for path in paths]


def push(node: Node, datasets: list[Dataset]) -> None:
    for dataset in datasets:
        context = build_context(dataset.SOPClassUID, "1.2.840.10008.1.2.1")
        with association(node.port, [context]) as opened:
            assert opened.send_c_store(dataset).Status == 0x0000


def rest(node: Node, *, studies: int) -> None:
    peers.wait_for("rest", lambda: peers.at_rest(node.catalogue, studies))


def reports_on(slice_: Dataset, pacs: Pacs) -> list[Dataset]:
    return [r for r in pacs.kept if r.StudyInstanceUID == slice_.StudyInstanceUID]


def predecessors(report: Dataset) -> list[str]:
    """Return the SOP Instance UIDs of the documents that `report` follows (PS3.3 C.17.2)."""
    return [
        instance.ReferencedSOPInstanceUID
        for study in report.PredecessorDocumentsSequence
        for series in study.ReferencedSeriesSequence
        for instance in series.ReferencedSOPSequence
    ]
