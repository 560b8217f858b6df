"""C-MOVE: whom objects go to, which, as kept or decompressed, and how failures are counted."""

from pathlib import Path

import numpy as np
import peers
import pytest
from pydicom import dcmread
from pydicom.encaps import encapsulate
from pydicom.uid import ExplicitVRLittleEndian
from pynetdicom import AE, build_context, build_role, evt
from retrievals import SLICES, Archive, assert_decompressed, counts, digests, move, of
from scripted import CT, association, identifier

from dicom_node.answer.retrieve import RetrieveService, send_files
from dicom_node.contexts import STUDY_ROOT_GET
from dicom_node.receive.store import Store
from index.matching import Selection

pytestmark = pytest.mark.peer


@pytest.mark.parametrize("called", ["SIMILIS_QR", "SIMILIS_FIND"])
@pytest.mark.parametrize("kind", ["plain", "packed"])
def test_a_move_sends_the_kept_bytes(archive: Archive, kind: str, called: str) -> None:
    paths: list[Path] = getattr(archive, kind)

    said = move(archive.node, of(paths), "ANYTHING", called=called)

    assert counts(said) == (0x0000, SLICES, 0, 0)
    pending = [status.NumberOfRemainingSuboperations for status, _ in said[:-1]]
    assert pending == list(reversed(range(SLICES)))
    assert archive.arrived("ANYTHING") == digests(paths)


def test_one_image_is_moved_alone_and_lists_of_them_together(archive: Archive) -> None:
    several = of(archive.plain, "IMAGE")
    several.SOPInstanceUID = [dcmread(path).SOPInstanceUID for path in archive.plain[:2]]

    assert counts(move(archive.node, of(archive.plain, "IMAGE"), "PLAIN"))[1] == 1
    assert archive.arrived("PLAIN") == digests(archive.plain[:1])
    assert counts(move(archive.node, several, "PLAIN"))[1] == 2
    assert archive.arrived("PLAIN") == digests(archive.plain[:2])


def test_a_study_is_moved_with_its_report(archive: Archive) -> None:
    study = dcmread(archive.plain[0]).StudyInstanceUID
    reports = [kept for kept in archive.pacs.kept if kept.StudyInstanceUID == study]

    said = move(archive.node, of(archive.plain, "STUDY"), "ANYTHING")

    assert counts(said) == (0x0000, SLICES + 1, 0, 0)
    arrived = archive.arrived("ANYTHING")
    assert arrived.keys() - digests(archive.plain).keys() == {reports[-1].SOPInstanceUID}


def test_nothing_is_moved_of_an_unknown_study(archive: Archive) -> None:
    said = move(archive.node, identifier(StudyInstanceUID="1.2.3"), "ANYTHING")

    assert counts(said) == (0x0000, 0, 0, 0)


# pynetdicom leaves the socket of a refused connection to the garbage collector.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize(
    ("title", "reason"),
    [
        ("NOBODY", "NOBODY is no destination or peer of the configuration"),
        ("GONE", "GONE is configured, but takes no association"),
    ],
)
def test_a_destination_that_is_unknown_or_does_not_answer_is_refused_with_the_reason(
    archive: Archive, title: str, reason: str
) -> None:
    said = move(archive.node, of(archive.plain), title)

    assert [(status.Status, status.ErrorComment) for status, _ in said] == [(0xA801, reason)]


def test_an_uncompressed_file_is_put_into_the_encoding_that_a_peer_takes(archive: Archive) -> None:
    said = move(archive.node, of(archive.plain, "IMAGE"), "IMPLICIT")

    assert counts(said) == (0x0000, 1, 0, 0)
    (path,) = archive.received["IMPLICIT"].iterdir()
    sent, got = dcmread(archive.plain[0]), dcmread(path)
    assert got.file_meta.TransferSyntaxUID.is_implicit_VR
    assert np.array_equal(got.pixel_array, sent.pixel_array)
    path.unlink()


@pytest.mark.parametrize("title", ["PLAIN", "IMPLICIT"])
def test_a_compressed_file_is_decompressed_for_a_peer_that_does_not_take_it(
    archive: Archive, title: str
) -> None:
    said = move(archive.node, of(archive.packed), title)

    assert counts(said) == (0x0000, SLICES, 0, 0)
    arrived = {dcmread(path).SOPInstanceUID: path for path in archive.received[title].iterdir()}
    for path in archive.packed:
        assert_decompressed(dcmread(arrived.pop(dcmread(path).SOPInstanceUID)), dcmread(path))
    assert not arrived
    for path in archive.received[title].iterdir():
        path.unlink()


def test_a_compressed_file_that_cannot_be_decoded_has_failed_and_is_named(
    archive: Archive,
) -> None:
    uid = dcmread(archive.packed[0]).SOPInstanceUID
    file = archive.node.catalogue.instance_file(uid)
    assert file is not None
    path = archive.node.config.data / "store" / file.relative_path
    kept = path.read_bytes()
    damaged = dcmread(path)
    damaged.PixelData = encapsulate([b"no run lengths" * 8])
    damaged.save_as(path)
    try:
        said = move(archive.node, of(archive.packed), "PLAIN")
    finally:
        path.write_bytes(kept)

    assert counts(said) == (0xB000, SLICES - 1, 1, 0)
    _, failed = said[-1]
    assert failed is not None
    assert failed.FailedSOPInstanceUIDList == uid
    assert len(archive.arrived("PLAIN")) == SLICES - 1


@pytest.mark.parametrize("called", ["SIMILIS_QR", "SIMILIS_FIND"])
def test_a_move_comes_from_the_ae_title_that_was_called(archive: Archive, called: str) -> None:
    callers: list[str] = []

    def note(event: evt.Event) -> None:
        callers.append(event.assoc.requestor.ae_title)

    server = archive.pacs._ae._servers[0]
    server.bind(evt.EVT_ACCEPTED, note)
    try:
        move(archive.node, of(archive.plain, "IMAGE"), "PACS", called=called)
    finally:
        server.unbind(evt.EVT_ACCEPTED, note)

    assert callers == [called]


def test_warnings_and_failures_of_the_destination_are_counted(archive: Archive) -> None:
    archive.pacs._statuses[:] = [0xB000, 0xA700, 0x0000]

    said = move(archive.node, of(archive.plain), "PACS")

    assert counts(said) == (0xB000, 1, 1, 1)
    _, failed = said[-1]
    assert failed is not None
    assert failed.FailedSOPInstanceUIDList in digests(archive.plain)


def test_a_file_that_is_gone_has_failed_and_the_others_are_sent(archive: Archive) -> None:
    uid = dcmread(archive.packed[0]).SOPInstanceUID
    file = archive.node.catalogue.instance_file(uid)
    assert file is not None
    path = archive.node.config.data / "store" / file.relative_path
    path.rename(path.with_suffix(".away"))
    try:
        said = move(archive.node, of(archive.packed), "ANYTHING")
    finally:
        path.with_suffix(".away").rename(path)

    assert counts(said) == (0xB000, SLICES - 1, 1, 0)
    _, failed = said[-1]
    assert failed is not None
    assert failed.FailedSOPInstanceUIDList == uid
    assert len(archive.arrived("ANYTHING")) == SLICES - 1


def test_a_report_whose_file_is_gone_has_failed_and_the_others_are_sent(archive: Archive) -> None:
    study = dcmread(archive.plain[0]).StudyInstanceUID
    *_, report = (
        kept
        for kept in archive.pacs.kept
        if (kept.StudyInstanceUID, kept.Modality) == (study, "SR")
    )
    path = archive.node.config.data / "reports" / f"{report.SOPInstanceUID}.dcm"
    contexts = [
        build_context(STUDY_ROOT_GET, ExplicitVRLittleEndian),
        build_context(CT, ExplicitVRLittleEndian),
    ]
    got: list[str] = []

    def keep(event: evt.Event) -> int:
        got.append(event.request.AffectedSOPInstanceUID)
        return 0x0000

    path.rename(path.with_suffix(".away"))
    try:
        moved = move(archive.node, of(archive.plain, "STUDY"), "ANYTHING")
        opened = AE("SENDER").associate(
            "127.0.0.1",
            archive.node.query_port,
            contexts=contexts,
            ae_title="SIMILIS_QR",
            ext_neg=[build_role(CT, scp_role=True)],
            evt_handlers=[(evt.EVT_C_STORE, keep)],
        )
        fetched = list(opened.send_c_get(of(archive.plain, "STUDY"), STUDY_ROOT_GET))
        opened.release()
    finally:
        path.with_suffix(".away").rename(path)

    assert counts(moved) == counts(fetched) == (0xB000, SLICES, 1, 0)
    for said in (moved, fetched):
        assert said[-1][1] is not None
        assert said[-1][1].FailedSOPInstanceUIDList == report.SOPInstanceUID
    assert archive.arrived("ANYTHING") == digests(archive.plain)
    assert set(got) == set(digests(archive.plain))


def test_files_over_http_are_those_that_are_there(archive: Archive) -> None:
    retrieve = RetrieveService(
        catalogue=archive.node.catalogue,
        store=Store(archive.node.config.data / "store"),
        reports=archive.node.config.data / "nowhere",
        peers={},
        linked={},
    )
    study = Selection(studies=(dcmread(archive.plain[0]).StudyInstanceUID,))

    assert len(retrieve.files(study)) == SLICES
    assert len(retrieve.files(study, lost=True)) == SLICES + 1


def test_an_association_is_taught_once_to_send_files(archive: Archive) -> None:
    with association(archive.node.query_port, called="SIMILIS_QR") as opened:
        send_files(opened, None)
        taught = opened.send_c_store
        send_files(opened, None)

        assert opened.send_c_store is taught


REFUSED = [
    ("PATIENT", {"PatientID": "1"}, "the level is STUDY, SERIES or IMAGE"),
    ("STUDY", {}, "StudyInstanceUID is missing"),
    ("STUDY", {"StudyInstanceUID": "1.2.*"}, "StudyInstanceUID is not a UID"),
    ("SERIES", {"StudyInstanceUID": "1.2"}, "SeriesInstanceUID is missing"),
    ("STUDY", {"StudyInstanceUID": [f"1.{n}" for n in range(501)]}, "more than 500 UIDs"),
]


@pytest.mark.parametrize(("level", "keys", "reason"), REFUSED)
def test_a_retrieval_that_names_nothing_is_refused_with_the_reason(
    archive: Archive, level: str, keys: dict[str, str], reason: str
) -> None:
    asked = identifier(level, **keys)
    contexts = [build_context(STUDY_ROOT_GET, ExplicitVRLittleEndian)]
    with association(archive.node.query_port, contexts, called="SIMILIS_QR") as opened:
        got = list(opened.send_c_get(asked, STUDY_ROOT_GET))

    for said in (got, move(archive.node, asked, "ANYTHING")):
        ((final, _),) = said
        assert (final.Status, final.ErrorComment) == (0xA900, reason)


def test_dcmtk_moves_a_study_to_itself_only_where_the_node_knows_it(
    archive: Archive, tmp_path: Path
) -> None:
    asked = [
        part
        for element in of(archive.plain)
        for part in ("-k", f"{element.keyword}={element.value}")
    ]
    target = ("-S", "-d", "-aec", "SIMILIS_QR", "127.0.0.1", archive.node.query_port)

    known = peers.run("movescu", "-aem", "PLAIN", *target, *asked, check=False).stdout
    unknown = peers.run("movescu", "-aem", "MOVESCU", *target, *asked, check=False).stdout

    assert "No failures or warnings" in known
    assert archive.arrived("PLAIN") == digests(archive.plain)
    assert "0xa801" in unknown
