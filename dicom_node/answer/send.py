"""The C-STORE SCU: one object to one destination, a report in the class that it takes."""

import threading
from pathlib import Path

from pydicom import dcmread
from pydicom.dataset import Dataset
from pydicom.uid import ExplicitVRLittleEndian, ImplicitVRLittleEndian
from pynetdicom import AE, evt
from pynetdicom.association import Association

from dicom_node.answer.sr_class import fitted, proposed_classes
from dicom_node.config import Destination
from dicom_node.errors import SendFailed
from dicom_node.listener import answer_at_once, cut

# PS3.4 Table B.2-1: warnings mean that the object was stored, perhaps with changed elements.
_STORED = frozenset({0x0000, 0xB000, 0xB006, 0xB007})
_CONNECT_S = 5.0
_ANSWER_S = 30.0


class Sender:
    """Sends reports, one at a time; `interrupt` ends a wait for a PACS that does not answer."""

    def __init__(self, calling_ae_title: str) -> None:
        self._calling_ae_title = calling_ae_title
        self._lock = threading.Lock()
        self._open: Association | None = None
        self._interrupted = False

    def send(self, path: Path, *, name: str, destination: Destination) -> None:
        """Send the object at `path`; return when the destination says it is stored.

        Raises `SendFailed` with the reason: no connection, rejection, no accepted context, abort,
        or a failure status.
        """
        dataset = dcmread(path)
        association = self._associate(dataset, name, destination)
        accepted = {context.abstract_syntax for context in association.accepted_contexts}
        try:
            status = association.send_c_store(fitted(path, dataset, accepted))
        except ValueError as error:  # no accepted presentation context
            raise SendFailed(name, str(error)) from error
        finally:
            if association.is_established:
                association.release()
        _check(status, name)

    def interrupt(self) -> None:
        """Cut the association that is open, and every one that is opened from now on."""
        with self._lock:
            self._interrupted = True
            if self._open is not None:
                cut(self._open)

    def _associate(self, dataset: Dataset, name: str, destination: Destination) -> Association:
        ae = AE(self._calling_ae_title)
        ae.connection_timeout = ae.acse_timeout = _CONNECT_S
        ae.dimse_timeout = ae.network_timeout = _ANSWER_S
        syntaxes = [ExplicitVRLittleEndian, ImplicitVRLittleEndian]
        for sop_class_uid in proposed_classes(dataset.SOPClassUID):
            ae.add_requested_context(sop_class_uid, syntaxes)
        try:
            association = ae.associate(
                destination.host,
                destination.port,
                ae_title=destination.ae_title,
                evt_handlers=[(evt.EVT_CONN_OPEN, self._opened)],
            )
        except OSError as error:  # a host name that nobody knows
            raise SendFailed(name, error.strerror or "cannot be reached") from error
        if not association.is_established:
            reason = "rejected the association" if association.is_rejected else "does not answer"
            raise SendFailed(name, reason)
        return association

    def _opened(self, event: evt.Event) -> None:
        answer_at_once(event)
        with self._lock:
            self._open = event.assoc
            if self._interrupted:
                cut(event.assoc)


def _check(status: Dataset, name: str) -> None:
    if "Status" not in status:
        raise SendFailed(name, "the association ended before an answer came")
    if status.Status not in _STORED:
        comment = status.get("ErrorComment", "")
        raise SendFailed(name, f"status {status.Status:04X} {comment}".rstrip())
