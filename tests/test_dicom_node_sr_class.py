"""A report goes out in the richest class that its destination takes, and stays as it was sent."""

from pathlib import Path

import peers
import pytest
from pydicom import dcmread
from pynetdicom import _config
from scripted import Pacs
from test_dicom_node_report import IDENTITY, build, encoded

from dicom_node.answer.send import Sender
from dicom_node.answer.sr_class import SopClass, acceptable_sr_class, fitted, proposed_classes
from dicom_node.config import Destination
from dicom_node.errors import SendFailed

CT = "1.2.840.10008.5.1.4.1.1.2"
RICH, PLAIN, SIMPLE = (each.value for each in SopClass)


def test_a_report_may_become_simpler_and_nothing_else_may_change() -> None:
    assert proposed_classes(RICH) == (RICH, PLAIN, SIMPLE)
    assert proposed_classes(SIMPLE) == (SIMPLE,)
    assert proposed_classes(CT) == (CT,)


@pytest.mark.parametrize(
    ("kept", "accepted", "chosen"),
    [
        (RICH, {RICH, PLAIN, SIMPLE}, RICH),
        (RICH, {PLAIN, SIMPLE}, PLAIN),
        (RICH, {SIMPLE, CT}, SIMPLE),
        (RICH, {CT}, None),
        (PLAIN, {RICH, SIMPLE}, SIMPLE),
        (CT, {RICH}, None),
        (CT, {CT}, CT),
    ],
)
def test_the_richest_accepted_class_is_chosen(
    kept: str, accepted: set[str], chosen: str | None
) -> None:
    assert acceptable_sr_class(kept, accepted) == chosen


@pytest.fixture
def kept(tmp_path: Path) -> Path:
    path = tmp_path / "report.dcm"
    path.write_bytes(encoded(build()))
    return path


def test_a_kept_report_becomes_another_class_in_nothing_but_its_header(kept: Path) -> None:
    before = dcmread(kept)
    fitted(kept, dcmread(kept), {SIMPLE})
    after = dcmread(kept)
    assert after.SOPClassUID == after.file_meta.MediaStorageSOPClassUID == SIMPLE
    assert after.SOPInstanceUID == IDENTITY.sop_instance_uid
    before.SOPClassUID = SIMPLE
    assert after == before


@pytest.mark.parametrize("accepted", [{RICH, SIMPLE}, {CT}, set()])
def test_a_kept_report_that_need_not_or_cannot_change_is_not_touched(
    kept: Path, accepted: set[str]
) -> None:
    before = kept.read_bytes()
    fitted(kept, dcmread(kept), accepted)
    assert kept.read_bytes() == before


@pytest.fixture
def choosy(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let acceptors of this process take only what they list."""
    monkeypatch.setattr(_config, "UNRESTRICTED_STORAGE_SERVICE", False)


@pytest.mark.usefixtures("choosy")
@pytest.mark.parametrize("classes", [(PLAIN, SIMPLE), (SIMPLE,)])
def test_an_old_archive_gets_one_report_in_its_class_and_again_the_same_one(
    kept: Path, classes: tuple[str, ...]
) -> None:
    with peers.stopped_at_the_end(Pacs(classes=classes)) as pacs:
        send_to(pacs, kept)
        send_to(pacs, kept)
    assert [report.SOPClassUID for report in pacs.kept] == [classes[0]] * 2
    assert pacs.kept[0] == pacs.kept[1] == dcmread(kept)


@pytest.mark.usefixtures("choosy")
def test_an_archive_that_takes_no_report_is_told_by_name(kept: Path) -> None:
    before = kept.read_bytes()
    with (
        peers.stopped_at_the_end(Pacs(classes=[CT])) as pacs,
        pytest.raises(SendFailed, match="pacs"),
    ):
        send_to(pacs, kept)
    assert kept.read_bytes() == before


def send_to(pacs: Pacs, path: Path) -> None:
    destination = Destination(ae_title="PACS", host="127.0.0.1", port=pacs.port)
    Sender("SIMILIS").send(path, name="pacs", destination=destination)
