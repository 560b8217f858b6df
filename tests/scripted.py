"""Peers that do exactly as told: a sender of any bytes, and a PACS with a list of answers."""

import contextlib
import tempfile
import threading
from collections.abc import Iterator, Sequence
from io import BytesIO
from pathlib import Path

from pydicom import dcmread
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.filewriter import dcmwrite
from pydicom.uid import UID, ExplicitVRLittleEndian
from pynetdicom import AE, build_context, evt
from pynetdicom.association import Association
from pynetdicom.presentation import PresentationContext

from dicom_node.contexts import STUDY_ROOT_FIND
from dicom_node.listener import prepare_connection
from dicom_node.receive.header import split_file
from dicom_node.receive.store import part10

CT = "1.2.840.10008.5.1.4.1.1.2"


def dataset_of(path: Path) -> bytes:
    """Return the bytes behind the file meta."""
    with path.open("rb") as file:
        return split_file(file)[1]


def encoded(dataset: Dataset) -> bytes:
    """Return a data set in Explicit VR Little Endian."""
    buffer = BytesIO()
    dcmwrite(buffer, dataset, implicit_vr=False, little_endian=True)
    return buffer.getvalue()


def contexts_of(paths: Sequence[Path]) -> list[PresentationContext]:
    """Return the presentation contexts that these files need."""
    metas = [dcmread(path, stop_before_pixels=True).file_meta for path in paths]
    kinds = {(meta.MediaStorageSOPClassUID, meta.TransferSyntaxUID) for meta in metas}
    return [build_context(*kind) for kind in sorted(kinds)]


@contextlib.contextmanager
def association(
    port: int, contexts: Sequence[PresentationContext] = (), *, called: str = "SIMILIS"
) -> Iterator[Association]:
    """Hold an association, by default one for a CT slice in Explicit VR Little Endian."""
    opened = AE("SENDER").associate(
        "127.0.0.1",
        port,
        contexts=list(contexts) or [build_context(CT, ExplicitVRLittleEndian)],
        ae_title=called,
        evt_handlers=[(evt.EVT_CONN_OPEN, prepare_connection)],
    )
    assert opened.is_established, "the node did not accept the association"
    connection = opened.dul.socket.socket
    try:
        yield opened
    finally:
        if opened.is_established:
            opened.release()
        connection.close()  # pynetdicom drops the socket of a broken connection unclosed


def store(opened: Association, path: Path) -> int | None:
    """Send a file byte for byte; return the status, None when the association broke first."""
    try:
        status = opened.send_c_store(path)
    except RuntimeError:  # there is no association any more
        return None
    return int(status.Status) if "Status" in status else None


def push(port: int, *paths: Path) -> None:
    """Send files over one association; each must be taken."""
    with association(port, contexts_of(paths)) as opened:
        assert [store(opened, path) for path in paths] == [0x0000] * len(paths)


def store_bytes(opened: Association, body: bytes, *, announced: str) -> Dataset:
    """Send any bytes as the data set of a CT slice with the `announced` SOP Instance UID."""
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID = UID(CT), UID(announced)
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    with tempfile.NamedTemporaryFile(suffix=".dcm") as file:
        file.writelines(part10(body, meta))
        file.flush()
        return opened.send_c_store(file.name)


class Pacs:
    """Takes the SOP classes given, or all; answers by the script, whose last status stays."""

    def __init__(
        self, port: int = 0, statuses: Sequence[int] = (0x0000,), classes: Sequence[str] = ()
    ) -> None:
        self.offered = 0
        self.kept: list[Dataset] = []
        self._statuses = list(statuses)
        self._lock = threading.Lock()
        handlers = [(evt.EVT_C_STORE, self._answer)]
        self._ae = AE("PACS")
        for sop_class_uid in classes:  # else every storage class
            self._ae.add_supported_context(sop_class_uid)
        server = self._ae.start_server(("127.0.0.1", port), block=False, evt_handlers=handlers)
        self.port = int(server.server_address[1])

    def _answer(self, event: evt.Event) -> int:
        with self._lock:
            self.offered += 1
            status = self._statuses.pop(0) if len(self._statuses) > 1 else self._statuses[0]
            if status == 0x0000:
                # Read from the bytes at once: `event.dataset` is lazy, its message is not kept.
                self.kept.append(dcmread(BytesIO(event.encoded_dataset())))
            return status

    def stop(self) -> None:
        """Close the listener."""
        self._ae.shutdown()


def destination(port: int, **wanted: object) -> dict[str, object]:
    """Return the configuration of a node that sends reports to this port, and what is `wanted`."""
    pacs = {"ae_title": "PACS", "host": "127.0.0.1", "port": port, "contact_sheet": False}
    return {"pacs": pacs | wanted}


def c_find(
    port: int, identifier: Dataset, *, called: str = "SIMILIS_FIND"
) -> tuple[list[Dataset], list[Dataset]]:
    """Ask by C-FIND; return the statuses, the final one last, and the answers."""
    contexts = [build_context(STUDY_ROOT_FIND, ExplicitVRLittleEndian)]
    with association(port, contexts, called=called) as opened:
        said = list(opened.send_c_find(identifier, STUDY_ROOT_FIND))
    return [status for status, _ in said], [answer for _, answer in said if answer is not None]


def identifier(level: str = "STUDY", **keys: object) -> Dataset:
    """Return an identifier with these keys."""
    asked = Dataset()
    asked.QueryRetrieveLevel = level
    for keyword, value in keys.items():
        setattr(asked, keyword, value)
    return asked
