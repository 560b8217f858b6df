"""A PACS that refuses, aborts, hangs, or takes only a part: one clear outcome each."""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest
from pydicom import dcmread
from pydicom.uid import UID
from pynetdicom import AE, _config, evt
from pynetdicom.sop_class import CTImageStorage
from scripted import Pacs

from dicom_node.answer.requestor import Requestor
from dicom_node.answer.send import send
from dicom_node.config import Destination
from dicom_node.errors import NotOffered, SendFailed
from training import phantoms

NewUid = Callable[[], str]


@pytest.fixture
def objects(tmp_path: Path, new_uid: NewUid) -> list[Path]:
    """Three objects of one report, of which one is of another SOP class."""
    paths = phantoms.ct_series(tmp_path / "ct", new_uid=new_uid, slices=3, size=64)
    other = dcmread(paths[1])
    other.SOPClassUID = other.file_meta.MediaStorageSOPClassUID = UID("1.2.840.10008.5.1.4.1.1.4")
    other.save_as(paths[1])
    return list(paths)


@pytest.mark.parametrize("warning", [0xB000, 0xB006, 0xB007])
def test_a_warning_in_the_middle_means_stored_and_the_rest_follows(
    objects: list[Path], warning: int
) -> None:
    with pacs(0x0000, warning, 0x0000) as there:
        deliver(objects, there.port)
        assert there.offered == 3


def test_a_failure_in_the_middle_is_told_with_its_status_and_ends_the_sending(
    objects: list[Path],
) -> None:
    with pacs(0x0000, 0xA700, 0x0000) as there:
        with pytest.raises(SendFailed, match="status A700"):
            deliver(objects, there.port)
        assert there.offered == 2


def test_all_is_sent_again_under_the_same_uids(objects: list[Path]) -> None:
    with pacs(0x0000, 0xA700, 0x0000) as there:
        with pytest.raises(SendFailed):
            deliver(objects, there.port)
        deliver(objects, there.port)
        assert {str(each.SOPInstanceUID) for each in there.kept} == {
            str(dcmread(path).SOPInstanceUID) for path in objects
        }


def test_an_association_that_is_aborted_in_the_middle_is_a_failure(objects: list[Path]) -> None:
    def abort(event: evt.Event) -> int:
        event.assoc.abort()
        return 0x0000

    with (
        listening(abort) as port,
        pytest.raises(SendFailed, match="association"),
    ):
        deliver(objects, port)


def test_a_peer_that_never_answers_is_given_up_after_the_timeout(objects: list[Path]) -> None:
    released = threading.Event()

    def hang(event: evt.Event) -> int:
        released.wait(20)
        return 0x0000

    with listening(hang) as port:
        with pytest.raises(SendFailed, match="before an answer came"):
            deliver(objects, port, answer_s=0.5)
        released.set()


def test_an_association_that_lasts_too_long_is_ended_from_outside(objects: list[Path]) -> None:
    released = threading.Event()

    def hang(event: evt.Event) -> int:
        released.wait(20)
        return 0x0000

    with listening(hang) as port:
        requestor = Requestor("SIMILIS", answer_s=15.0, longest_s=0.5)
        started = time.monotonic()
        with pytest.raises(SendFailed, match="before an answer came"):
            send(requestor, objects, name="pacs", destination=at(port))
        assert time.monotonic() - started < 10
        released.set()


def test_a_rejected_association_is_told_as_such(objects: list[Path]) -> None:
    with (
        listening(lambda event: 0x0000, require_calling_aet=["NOBODY"]) as port,
        pytest.raises(SendFailed, match="rejected the association"),
    ):
        deliver(objects, port)


def test_a_peer_that_does_not_accept_the_report_is_told_by_its_class(
    objects: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_config, "UNRESTRICTED_STORAGE_SERVICE", False)
    with listening(lambda event: 0x0000) as port:  # which accepts CT
        for paths in ([objects[1]], [objects[1], objects[0]]):
            with pytest.raises(NotOffered, match=r"does not accept MR Image Storage$"):
                deliver(paths, port)


def test_what_a_peer_does_not_accept_beside_a_report_is_named_and_the_report_arrives(
    objects: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_config, "UNRESTRICTED_STORAGE_SERVICE", False)
    arrived: list[str] = []

    def keep(event: evt.Event) -> int:
        arrived.append(event.request.AffectedSOPInstanceUID)
        return 0x0000

    with listening(keep) as port:  # which accepts CT
        refused = deliver(objects, port)
    report, beside, another = (dcmread(path).SOPInstanceUID for path in objects)
    assert (arrived, refused) == ([report, another], (beside,))


@contextmanager
def pacs(*statuses: int) -> Iterator[Pacs]:
    there = Pacs(0, statuses)
    with ExitStack() as stack:
        stack.callback(there.stop)
        yield there


@contextmanager
def listening(handler: Callable[[evt.Event], int], **settings: Any) -> Iterator[int]:
    """Listen with a handler for C-STORE; yield the port."""
    ae = AE("PACS")
    ae.add_supported_context(CTImageStorage)
    for name, value in settings.items():
        setattr(ae, name, value)
    handlers = [(evt.EVT_C_STORE, handler)]
    server = ae.start_server(("127.0.0.1", 0), block=False, evt_handlers=handlers)
    try:
        yield int(server.server_address[1])
    finally:
        ae.shutdown()


def deliver(paths: list[Path], port: int, *, answer_s: float = 5.0) -> tuple[str, ...]:
    requestor = Requestor("SIMILIS", answer_s=answer_s)
    return send(requestor, paths, name="pacs", destination=at(port))


def at(port: int) -> Destination:
    return Destination(ae_title="PACS", host="127.0.0.1", port=port)
