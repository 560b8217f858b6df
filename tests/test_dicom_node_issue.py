"""What a destination gets when a study is complete: the report and what goes out beside it."""

from collections.abc import Callable, Iterator
from pathlib import Path

import peers
import pytest
from pydicom import dcmread
from pydicom.dataset import Dataset
from pydicom.uid import EncapsulatedPDFStorage, SecondaryCaptureImageStorage
from scripted import Pacs, destination
from test_dicom_node_lifecycle import ct_slices, push, rest
from test_dicom_node_report import items

from dicom_node.answer.sr_class import SopClass, fitted
from dicom_node.node import Node
from dicom_node.receive.worker import Thumbnail, Worker

NewUid = Callable[[], str]


@pytest.fixture
def pacs() -> Iterator[Pacs]:
    with peers.stopped_at_the_end(Pacs()) as pacs:
        yield pacs


def of(study: Dataset, pacs: Pacs) -> dict[str, Dataset]:
    """Return what the PACS got on a study, by SOP class."""
    return {
        kept.SOPClassUID: kept
        for kept in pacs.kept
        if kept.StudyInstanceUID == study.StudyInstanceUID
    }


def test_a_destination_gets_report_sheet_and_pdf_and_sends_them_back_without_harm(
    start_node: Callable[..., Node], pacs: Pacs, tmp_path: Path, new_uid: NewUid
) -> None:
    wanted = destination(pacs.port, contact_sheet=True, pdf=True)
    node = start_node(destinations=wanted)
    (neighbour,) = ct_slices(tmp_path, new_uid, seed=1, patient_id="NEIGHBOUR")
    (query,) = ct_slices(tmp_path, new_uid, seed=2, patient_id="QUERY")
    push(node, [neighbour])
    rest(node, studies=1)
    push(node, [query])
    rest(node, studies=2)
    peers.wait_for("the documents", lambda: len(of(query, pacs)) == 3)

    got = of(query, pacs)
    assert set(got) == {
        SopClass.COMPREHENSIVE_3D, SecondaryCaptureImageStorage, EncapsulatedPDFStorage,
    }  # fmt: skip
    sheet = got[SecondaryCaptureImageStorage]
    assert sheet.PatientID == "QUERY"
    source = sheet.SourceImageSequence[0]
    assert source.ReferencedSOPInstanceUID == query.SOPInstanceUID
    left, right = sheet.pixel_array[70:300, 12:250], sheet.pixel_array[70:300, 266:504]
    assert left.std() > 10, "the query's slice"
    assert right.std() > 10, "its neighbour's"
    rest(node, studies=2)
    assert len(of(neighbour, pacs)) == 1, "there was no case to show"

    push(node, list(got.values()))
    assert peers.at_rest(node.catalogue, 2), "it must not start a timer"
    assert node.catalogue.counts().instances == 2


def test_a_destination_may_ask_for_the_real_uids_of_the_cases(
    start_node: Callable[..., Node], pacs: Pacs, tmp_path: Path, new_uid: NewUid
) -> None:
    node = start_node(destinations=destination(pacs.port, neighbours="linked", title="SIM000"))
    (neighbour,) = ct_slices(tmp_path, new_uid, seed=1, patient_id="NEIGHBOUR")
    (query,) = ct_slices(tmp_path, new_uid, seed=2, patient_id="QUERY")
    push(node, [neighbour])
    rest(node, studies=1)
    push(node, [query])
    rest(node, studies=2)
    (report,) = of(query, pacs).values()

    images = {
        item.ReferencedSOPSequence[0].ReferencedSOPInstanceUID
        for item in items(report)
        if item.ValueType == "IMAGE"
    }
    assert images == {query.SOPInstanceUID, neighbour.SOPInstanceUID}
    assert report.ConceptNameCodeSequence[0].CodeValue == "SIM000"
    assert "PertinentOtherEvidenceSequence" in report

    # It names another patient's study: nobody but its destination gets it.
    keys = ("QueryRetrieveLevel=STUDY", f"StudyInstanceUID={query.StudyInstanceUID}")
    asked = [part for key in keys for part in ("-k", key)]
    (tmp_path / "got").mkdir()
    node_at = ("-aec", "SIMILIS_QR", "127.0.0.1", node.query_port)
    peers.run("getscu", "-S", "+B", "-od", tmp_path / "got", *node_at, *asked)
    got = [dcmread(path).SOPInstanceUID for path in (tmp_path / "got").iterdir()]
    assert got == [query.SOPInstanceUID]


def test_a_report_names_its_predecessor_by_the_class_in_which_it_was_sent(
    start_node: Callable[..., Node], pacs: Pacs, tmp_path: Path, new_uid: NewUid
) -> None:
    node = start_node(destinations=destination(pacs.port))
    first, late = ct_slices(tmp_path, new_uid, seed=1, count=2, patient_id="QUERY")
    push(node, [first])
    rest(node, studies=1)
    (sent,) = pacs.kept
    kept = node.config.data / "reports" / f"{sent.SOPInstanceUID}.dcm"
    fitted(kept, dcmread(kept), {SopClass.ENHANCED.value})

    push(node, ct_slices(tmp_path, new_uid, seed=2, patient_id="NEIGHBOUR"))
    rest(node, studies=2)
    push(node, [late])
    rest(node, studies=2)
    peers.wait_for("the second report", lambda: len(of(first, pacs)) == 1 and len(pacs.kept) == 3)

    (study,) = of(first, pacs)[SopClass.COMPREHENSIVE_3D].PredecessorDocumentsSequence
    (predecessor,) = study.ReferencedSeriesSequence[0].ReferencedSOPSequence
    assert predecessor.ReferencedSOPClassUID == SopClass.ENHANCED
    assert predecessor.ReferencedSOPInstanceUID == sent.SOPInstanceUID


def test_a_worker_shows_an_instance_or_says_why_not(
    tmp_path: Path, bundled: Callable[[str], Path], node: Node
) -> None:
    worker = Worker(node.config.encoder)
    try:
        shown = worker.thumbnail(bundled("CT_small.dcm"), 32, of_another=True)
        assert len(shown.pixels) == 32 * 32 * 3
        assert worker.thumbnail(bundled("US1_UNCI.dcm"), 32, of_another=True) == Thumbnail(
            b"", "text may be burned in"
        )
        refused = worker.thumbnail(bundled("reportsi.dcm"), 32, of_another=False)
        assert refused == Thumbnail(b"", "a structured report")
    finally:
        worker.stop()
