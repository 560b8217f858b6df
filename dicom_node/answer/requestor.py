"""Associations that the node opens: to send reports, to ask for commitment, to give it.

Owns time limits, and that a stopping node waits for no peer. What is said is the caller's.
"""

import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from pydicom.uid import UID
from pynetdicom import AE, build_role, evt
from pynetdicom.association import Association
from pynetdicom.presentation import PresentationContext

from dicom_node.config import Destination
from dicom_node.errors import NotOffered, SendFailed
from dicom_node.listener import cut, prepare_connection

_CONNECT_S = 5.0
# Shorter than the lease of any job that opens associations: none is done twice at the same time.
LONGEST_S = 100.0


class Requestor:
    """Opens associations under one AE title.

    `answer_s` bounds the wait for every answer, `longest_s` an association as a whole: a peer that
    trickles, or a state machine that waits for itself, is ended from outside.
    """

    def __init__(
        self, calling_ae_title: str, *, answer_s: float, longest_s: float = LONGEST_S
    ) -> None:
        self._calling_ae_title = calling_ae_title
        self._answer_s = answer_s
        self._longest_s = longest_s
        self._lock = threading.Lock()
        self._open: set[Association] = set()
        self._interrupted = False

    @contextmanager
    def association(
        self,
        name: str,
        destination: Destination,
        contexts: Sequence[PresentationContext],
        *,
        handlers: Sequence[Any] = (),
        scp_of: str = "",
    ) -> Iterator[Association]:
        """Hold an association with a destination; it is released at the end.

        `scp_of` names the SOP class for which the node proposes to be SCP (PS3.7 D.3.3.4). Raises
        `SendFailed` when there is none, `NotOffered` when the destination accepts no context.
        """
        association = self._associate(name, destination, contexts, handlers, scp_of)
        with ended_after(association, self._longest_s):
            try:
                yield association
            finally:
                if association.is_established:
                    association.release()
                with self._lock:
                    self._open.discard(association)

    def interrupt(self) -> None:
        """Cut the associations that are open, and every one that is opened from now on."""
        with self._lock:
            self._interrupted = True
            for association in self._open:
                cut(association)

    def _associate(
        self,
        name: str,
        destination: Destination,
        contexts: Sequence[PresentationContext],
        handlers: Sequence[Any],
        scp_of: str,
    ) -> Association:
        ae = AE(self._calling_ae_title)
        ae.connection_timeout = ae.acse_timeout = min(_CONNECT_S, self._answer_s)
        ae.dimse_timeout = ae.network_timeout = self._answer_s
        try:
            association = ae.associate(
                destination.host,
                destination.port,
                contexts=list(contexts),
                ae_title=destination.ae_title,
                ext_neg=[build_role(UID(scp_of), scp_role=True)] if scp_of else [],
                evt_handlers=[(evt.EVT_CONN_OPEN, self._opened), *handlers],
            )
        except OSError as error:  # a host name that nobody knows
            raise SendFailed(name, error.strerror or "cannot be reached") from error
        if not association.is_established:
            with self._lock:
                self._open.discard(association)
            if association.rejected_contexts:
                refused = [
                    str(context.abstract_syntax) for context in association.rejected_contexts
                ]
                raise NotOffered(name, refused)
            reason = "rejected the association" if association.is_rejected else "does not answer"
            raise SendFailed(name, reason)
        return association

    def _opened(self, event: evt.Event) -> None:
        prepare_connection(event)
        with self._lock:
            self._open.add(event.assoc)
            if self._interrupted:
                cut(event.assoc)


@contextmanager
def ended_after(association: Association, seconds: float) -> Iterator[None]:
    """End an association that is still used after so many seconds."""
    watchdog = threading.Timer(seconds, _end, [association])
    watchdog.daemon = True
    watchdog.start()
    try:
        yield
    finally:
        watchdog.cancel()


def _end(association: Association) -> None:
    """Cut an association and wake whoever waits for it."""
    transport = association.dul.socket
    cut(association)
    association.kill()
    association.dimse.msg_queue.put((None, None))  # what pynetdicom itself tells a waiting user
    if transport is not None:
        transport.close()
