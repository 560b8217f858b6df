"""The C-STORE SCU: one report to one destination."""

from pathlib import Path

from pydicom import dcmread
from pydicom.dataset import Dataset
from pydicom.uid import ExplicitVRLittleEndian, ImplicitVRLittleEndian
from pynetdicom import AE, evt

from dicom_node.config import Destination
from dicom_node.errors import SendFailed
from dicom_node.listener import answer_at_once

# PS3.4 Table B.2-1: warnings mean that the object was stored, perhaps with changed elements.
_STORED = frozenset({0x0000, 0xB000, 0xB006, 0xB007})
_TIMEOUT_S = 30.0


def send(path: Path, *, name: str, destination: Destination, calling_ae_title: str) -> None:
    """Send the object at `path`; return when the destination says it is stored.

    Raises `SendFailed` with the reason: no connection, rejection, no accepted context, abort, or
    a failure status.
    """
    dataset = dcmread(path)
    ae = AE(calling_ae_title)
    ae.acse_timeout = ae.dimse_timeout = ae.network_timeout = ae.connection_timeout = _TIMEOUT_S
    ae.add_requested_context(dataset.SOPClassUID, [ExplicitVRLittleEndian, ImplicitVRLittleEndian])
    association = ae.associate(
        destination.host,
        destination.port,
        ae_title=destination.ae_title,
        evt_handlers=[(evt.EVT_CONN_OPEN, answer_at_once)],
    )
    if not association.is_established:
        reason = "rejected the association" if association.is_rejected else "does not answer"
        raise SendFailed(name, reason)
    try:
        status = association.send_c_store(dataset)
    except ValueError as error:  # no accepted presentation context
        raise SendFailed(name, str(error)) from error
    finally:
        if association.is_established:
            association.release()
    _check(status, name)


def _check(status: Dataset, name: str) -> None:
    if "Status" not in status:
        raise SendFailed(name, "the association ended before an answer came")
    if status.Status not in _STORED:
        comment = status.get("ErrorComment", "")
        raise SendFailed(name, f"status {status.Status:04X} {comment}".rstrip())
