"""Storage Commitment SCP (PS3.4 Annex J): a peer asks whether the node keeps what it pushed.

The question is a row before it is acknowledged, so that an answer is owed even after a crash. What
is promised was read: row, file, and every byte of it.
"""

import threading
import time
from typing import cast
from weakref import WeakKeyDictionary, WeakValueDictionary

import structlog
from pydicom.dataset import Dataset
from pynetdicom import evt
from pynetdicom.association import Association
from pynetdicom.dimse_primitives import N_ACTION

from dicom_node.answer.commitment import (
    ALL_KEPT,
    CONTEXT,
    INSTANCE,
    INVALID_ARGUMENT,
    REQUEST,
    SOME_LACKING,
    SUCCESS,
    references,
    verdict,
    with_reply,
)
from dicom_node.answer.issue import Issuer
from dicom_node.answer.requestor import Requestor, ended_after
from dicom_node.answer.send import reference_of
from dicom_node.config import Config, Destination
from dicom_node.contexts import STORAGE_COMMITMENT
from dicom_node.errors import NotKnown, SendFailed
from dicom_node.listener import PROCESSING_FAILURE, peer
from dicom_node.receive.store import Store
from dicom_node.runner import Patience
from dicom_node.text import is_uid
from index.catalogue import Catalogue
from index.commitments import PeerRequest, Reference
from index.jobs import Job, JobKind

log = structlog.get_logger()

# PS3.7 Annex C, PS3.3 C.14.1.1.
NO_SUCH_INSTANCE, CLASS_CONFLICT = 0x0112, 0x0119
NO_SUCH_ACTION = 0x0123
# A peer that wants the answer on its own association stays silent for it; one that releases, or
# goes on to push, gets it on a new one, for what it sends would be taken for its reply.
_SILENCE_S = 1.0
_DELAY_S = _SILENCE_S + 0.1
_LEASE_S = 600.0  # a long study is read byte by byte


class Questions:
    """Takes in what peers ask (N-ACTION), and remembers on which association they wait."""

    def __init__(self, catalogue: Catalogue) -> None:
        self._catalogue = catalogue
        self._lock = threading.Lock()
        self._asked_on: WeakValueDictionary[int, Association] = WeakValueDictionary()
        self._heard_at: WeakKeyDictionary[Association, float] = WeakKeyDictionary()
        self.handlers = (
            (evt.EVT_N_ACTION, with_reply(self.on_action)),
            (evt.EVT_PDU_RECV, self.on_pdu),
        )

    def on_action(self, event: evt.Event) -> int:
        """Acknowledge a question once it is on disk (PS3.4 J.3.2)."""
        if event.action_type != REQUEST:
            return NO_SUCH_ACTION
        if cast(N_ACTION, event.request).RequestedSOPInstanceUID != INSTANCE:
            return NO_SUCH_INSTANCE
        asked = event.action_information
        transaction_uid = str(asked.get("TransactionUID", ""))
        named = references(asked, "ReferencedSOPSequence")
        if not is_uid(transaction_uid) or len(named) != len(asked.get("ReferencedSOPSequence", ())):
            return INVALID_ARGUMENT
        ae_title = event.assoc.requestor.ae_title.strip()
        request = PeerRequest(transaction_uid, ae_title, named)
        key = self._catalogue.save_request(request, delay_s=_DELAY_S)
        with self._lock:
            self._asked_on[key] = event.assoc
            self._heard_at[event.assoc] = time.monotonic()
        log.info("commitment_asked", instances=len(named), source=peer(event))
        return SUCCESS

    def on_pdu(self, event: evt.Event) -> None:
        """Note that a peer goes on to use an association that it asked on."""
        with self._lock:
            if event.assoc in self._heard_at:
                self._heard_at[event.assoc] = time.monotonic()

    def association(self, key: int) -> Association | None:
        """Return the association that a question came on, once, if it is open and silent."""
        with self._lock:
            asked_on = self._asked_on.get(key)
            if asked_on is None or not asked_on.is_established:
                return None
            if time.monotonic() - self._heard_at[asked_on] < _SILENCE_S:
                return None
            return self._asked_on.pop(key)

    def waits(self, key: int) -> bool:
        """Tell whether the association that a question came on is still open."""
        with self._lock:
            asked_on = self._asked_on.get(key)
        return asked_on is not None and asked_on.is_established


class AnswerStep:
    """Answers one question of a peer: what is kept and what is not, and why (PS3.4 J.3.3)."""

    kind = JobKind.ANSWER
    lease_s = _LEASE_S

    def __init__(
        self,
        config: Config,
        catalogue: Catalogue,
        store: Store,
        issuer: Issuer,
        requestor: Requestor,
        questions: Questions,
    ) -> None:
        answer = config.answer
        self._destinations = {each.ae_title: each for each in config.destinations.values()}
        self._answer_s = answer.timeout_s
        self._catalogue = catalogue
        self._store = store
        self._issuer = issuer
        self._requestor = requestor
        self._questions = questions
        self.patience = Patience(answer.attempts, answer.first_retry_s, answer.longest_retry_s)

    def run(self, job: Job) -> None:
        """Look at every instance and send the answer; on a new association where need be."""
        request = self._catalogue.peer_request(job.subject_id)
        if request is None:
            return
        if not self._questions.waits(job.subject_id):
            self._destination(request.ae_title)  # before every byte is read for nothing
        reasons = [(each, self._reason(each)) for each in request.references]
        lacking = [(each, reason) for each, reason in reasons if reason]
        kept = [each for each, reason in reasons if not reason]
        answer = verdict(request.transaction_uid, kept, lacking)
        event_type = SOME_LACKING if lacking else ALL_KEPT
        self._tell(job.subject_id, request.ae_title, answer, event_type)
        self._catalogue.drop_request(job.subject_id)
        log.info("commitment_given", to=request.ae_title, kept=len(kept), lacking=len(lacking))

    def give_up(self, job: Job, reason: str) -> None:
        """Forget the question: the peer will ask again, or keep its copy."""
        self._catalogue.drop_request(job.subject_id)

    def _reason(self, reference: Reference) -> int:
        """Return why an instance cannot be promised, 0 when it can."""
        version = self._catalogue.kept_version(reference.sop_instance_uid)
        if version is None:
            return SUCCESS if self._is_own(reference) else NO_SUCH_INSTANCE
        if version.sop_class_uid != reference.sop_class_uid:
            return CLASS_CONFLICT
        if self._store.digest_of(version.relative_path) != version.sha256:
            log.error("kept_file_damaged", sop_instance_uid=reference.sop_instance_uid)
            return PROCESSING_FAILURE
        return SUCCESS

    def _is_own(self, reference: Reference) -> bool:
        """Tell whether it is a report of the node itself, which it keeps elsewhere."""
        report = self._catalogue.report_of(reference.sop_instance_uid)
        paths = () if report is None else self._issuer.paths(report)
        return any(path.exists() and reference_of(path) == reference for path in paths)

    def _tell(self, key: int, ae_title: str, answer: Dataset, event_type: int) -> None:
        asked_on = self._questions.association(key)
        if asked_on is not None:
            with ended_after(asked_on, self._answer_s):
                _report(asked_on, ae_title, answer, event_type)
            return
        destination = self._destination(ae_title)
        with self._requestor.association(
            ae_title, destination, [CONTEXT], scp_of=STORAGE_COMMITMENT
        ) as association:
            _report(association, ae_title, answer, event_type)

    def _destination(self, ae_title: str) -> Destination:
        destination = self._destinations.get(ae_title)
        if destination is None:
            raise NotKnown("the address of", ae_title, "name it under [destinations]")
        return destination


def _report(association: Association, name: str, answer: Dataset, event_type: int) -> None:
    try:
        status, _ = association.send_n_event_report(
            answer, event_type, STORAGE_COMMITMENT, INSTANCE
        )
    except RuntimeError as error:  # there is no association any more
        raise SendFailed(name, "ended the association") from error
    if status.get("Status") != SUCCESS:
        raise SendFailed(name, "did not take the answer about commitment")
