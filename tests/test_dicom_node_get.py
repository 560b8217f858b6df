"""C-GET: what goes out on the association that asked, in which transfer syntax."""

import hashlib
from pathlib import Path

import peers
import pytest
from pydicom import dcmread
from pydicom.dataset import Dataset
from pydicom.uid import ExplicitVRLittleEndian, JPEG2000Lossless
from pynetdicom import AE, build_context, build_role, evt
from retrievals import Archive, assert_decompressed, digests, of
from scripted import CT, dataset_of

from dicom_node.contexts import STUDY_ROOT_GET

pytestmark = pytest.mark.peer


def getscu(archive: Archive, folder: Path, asked: Dataset, *options: str) -> dict[str, Path]:
    """Fetch by DCMTK, which proposes one context for each SOP class; return files by UID."""
    keys = [part for element in asked for part in ("-k", f"{element.keyword}={element.value}")]
    target = ("-S", "-v", "-aec", "SIMILIS_QR", "127.0.0.1", archive.node.query_port)
    peers.run("getscu", "+B", *options, "-od", folder, *target, *keys)
    return {dcmread(path).SOPInstanceUID: path for path in folder.iterdir()}


@pytest.mark.parametrize("options", [[], ["+xv"]], ids=["plain", "prefers JPEG 2000"])
@pytest.mark.parametrize("kind", ["plain", "packed"])
def test_dcmtk_gets_a_study_with_its_reports_in_one_request(
    archive: Archive, tmp_path: Path, kind: str, options: list[str]
) -> None:
    paths: list[Path] = getattr(archive, kind)
    study = dcmread(paths[0]).StudyInstanceUID
    reports = {own.SOPInstanceUID for own in archive.pacs.kept if own.StudyInstanceUID == study}

    got = getscu(archive, tmp_path, of(paths, "STUDY"), *options)

    images = {dcmread(path).SOPInstanceUID: path for path in paths}
    assert got.keys() - images.keys() and got.keys() - images.keys() <= reports
    for uid, path in images.items():
        if kind == "plain":
            assert dataset_of(got[uid]) == dataset_of(path)
        else:
            assert_decompressed(dcmread(got[uid]), dcmread(path))


def test_a_peer_that_proposes_one_transfer_syntax_a_context_gets_the_kept_bytes(
    archive: Archive,
) -> None:
    contexts = [
        build_context(STUDY_ROOT_GET, ExplicitVRLittleEndian),
        build_context(CT, ExplicitVRLittleEndian),
        build_context(CT, JPEG2000Lossless),
    ]
    got: dict[str, str] = {}

    def keep(event: evt.Event) -> int:
        sent = event.encoded_dataset(include_meta=False)
        got[event.request.AffectedSOPInstanceUID] = hashlib.sha256(sent).hexdigest()
        return 0x0000

    opened = AE("SENDER").associate(
        "127.0.0.1",
        archive.node.query_port,
        contexts=contexts,
        ae_title="SIMILIS_QR",
        ext_neg=[build_role(CT, scp_role=True)],
        evt_handlers=[(evt.EVT_C_STORE, keep)],
    )
    list(opened.send_c_get(of(archive.packed), STUDY_ROOT_GET))
    opened.release()

    assert got == digests(archive.packed)
