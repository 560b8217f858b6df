"""Storage Commitment Push Model (PS3.4 Annex J): the identifiers of both sides, and the SCU.

The node asks a destination whether it keeps a report. The answer comes on the same association, or
on a later one that the destination opens to the storage listener; `Promises` takes in both.
"""

import threading
import time
from collections.abc import Callable, Iterable
from typing import Any

import structlog
from pydicom.dataset import Dataset
from pynetdicom import build_context, evt
from pynetdicom.dimse_messages import N_EVENT_REPORT_RSP

from dicom_node.answer.requestor import Requestor
from dicom_node.config import Destination
from dicom_node.contexts import PLAIN, STORAGE_COMMITMENT
from dicom_node.errors import SendFailed
from dicom_node.listener import guarded, peer
from dicom_node.runner import Patience
from dicom_node.text import is_uid
from index.catalogue import Catalogue
from index.commitments import Reference, Settlement

log = structlog.get_logger()

INSTANCE = "1.2.840.10008.1.20.1.1"  # the well-known SOP Instance, PS3.4 J.3.5
REQUEST = 1  # Action Type ID, PS3.4 Table J.3.2-1
ALL_KEPT, SOME_LACKING = 1, 2  # Event Type ID, PS3.4 Table J.3.3-1
CONTEXT = build_context(STORAGE_COMMITMENT, list(PLAIN))
SUCCESS, INVALID_ARGUMENT = 0x0000, 0x0115  # PS3.7 Annex C

_SAME_ASSOCIATION_S = 2.0  # how long the answer is waited for before the association is released


def ask(
    requestor: Requestor,
    question: Dataset,
    *,
    name: str,
    destination: Destination,
    promises: "Promises",
) -> None:
    """Ask a destination for commitment, and stay a moment for its answer.

    Raises `NotOffered` when it does not know the service, `SendFailed` when it did not take the
    question.
    """
    answered = threading.Event()

    def sent(event: evt.Event) -> None:
        if isinstance(event.message, N_EVENT_REPORT_RSP):
            answered.set()

    handlers = [promises.handler, (evt.EVT_DIMSE_SENT, sent)]
    with requestor.association(name, destination, [CONTEXT], handlers=handlers) as association:
        try:
            status, _ = association.send_n_action(question, REQUEST, STORAGE_COMMITMENT, INSTANCE)
        except RuntimeError as error:  # there is no association any more
            raise SendFailed(name, "ended the association") from error
        if "Status" not in status:
            raise SendFailed(name, "the association ended before an answer came")
        if status.Status != SUCCESS:
            raise SendFailed(name, f"commitment refused with status {status.Status:04X}")
        deadline = time.monotonic() + _SAME_ASSOCIATION_S
        while association.is_established and time.monotonic() < deadline:
            if answered.wait(0.05):
                break


class Promises:
    """Takes in what destinations answer (N-EVENT-REPORT), on whatever association."""

    def __init__(self, catalogue: Catalogue, patience: Patience) -> None:
        self._catalogue = catalogue
        self._patience = patience
        self.handler = (evt.EVT_N_EVENT_REPORT, with_reply(self.on_event_report))

    def on_event_report(self, event: evt.Event) -> int:
        """Settle the report that an answer is about; an unknown transaction is an error."""
        answer = event.event_information
        settlement = self._catalogue.settle_commitment(
            str(answer.get("TransactionUID", "")),
            committed=sop_instance_uids(answer, "ReferencedSOPSequence"),
            failed=sop_instance_uids(answer, "FailedSOPSequence"),
            attempts=self._patience.attempts,
            pause_s=self._patience.pause_s,
        )
        emit = log.info if settlement is Settlement.COMMITTED else log.warning
        emit("commitment_answered", settlement=settlement, source=peer(event))
        return INVALID_ARGUMENT if settlement is Settlement.UNKNOWN else SUCCESS


def with_reply(handler: Callable[..., Dataset | int]) -> Callable[..., tuple[Any, None]]:
    """Guard a handler of a normalised service, whose answers carry no data set."""
    guard = guarded(handler)
    return lambda event, *arguments: (guard(event, *arguments), None)


def question(transaction_uid: str, references: Iterable[Reference]) -> Dataset:
    """Return the Action Information of a request (PS3.4 Table J.3.2-1)."""
    asked = Dataset()
    asked.TransactionUID = transaction_uid
    asked.ReferencedSOPSequence = [_item(reference) for reference in references]
    return asked


def verdict(
    transaction_uid: str, kept: Iterable[Reference], lacking: Iterable[tuple[Reference, int]]
) -> Dataset:
    """Return the Event Information of an answer; `lacking` with reasons (PS3.3 C.14.1.1)."""
    answer = Dataset()
    answer.TransactionUID = transaction_uid
    answer.ReferencedSOPSequence = [_item(reference) for reference in kept]
    failed = []
    for reference, reason in lacking:
        item = _item(reference)
        item.FailureReason = reason
        failed.append(item)
    if failed:
        answer.FailedSOPSequence = failed
    return answer


def references(identifier: Dataset, keyword: str) -> tuple[Reference, ...]:
    """Return the instances that a sequence names; items without a UID name none."""
    pairs = (
        (str(item.get("ReferencedSOPClassUID", "")), str(item.get("ReferencedSOPInstanceUID", "")))
        for item in identifier.get(keyword) or ()
    )
    return tuple(Reference(*pair) for pair in pairs if all(map(is_uid, pair)))


def sop_instance_uids(identifier: Dataset, keyword: str) -> frozenset[str]:
    """Return the SOP Instance UIDs that a sequence names."""
    return frozenset(each.sop_instance_uid for each in references(identifier, keyword))


def _item(reference: Reference) -> Dataset:
    item = Dataset()
    item.ReferencedSOPClassUID = reference.sop_class_uid
    item.ReferencedSOPInstanceUID = reference.sop_instance_uid
    return item
