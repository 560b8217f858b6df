"""A DICOM listener on pynetdicom: socket options, accepted peers, and the guard around handlers."""

import select
import socket
import threading
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any, cast
from weakref import WeakKeyDictionary

import pydicom.config
import structlog
from pydicom.datadict import tag_for_keyword
from pydicom.dataset import Dataset
from pydicom.uid import UID
from pynetdicom import AE, _config, build_role, evt, sop_class
from pynetdicom.association import Association
from pynetdicom.transport import ThreadedAssociationServer

from dicom_node.config import Dicom
from dicom_node.contexts import PLAIN, VIDEO_STORAGE, Service
from dicom_node.errors import ConfigError
from dicom_node.log import fault_of

log = structlog.get_logger()

_COMMENT_LENGTH = 64  # ErrorComment is LO (PS3.7 Annex C)
PROCESSING_FAILURE = 0x0110  # PS3.7 Annex C.5.10
UNABLE_TO_PROCESS = 0xC002  # PS3.4 Table C.4-1 leaves Cxxx to the implementation
_NEGOTIATION_S = 10.0  # PS3.8 9.1.5: the ARTIM timer
MESSAGES_AHEAD = 32  # P-DATA that wait in memory for their peer, one or more an answer
_REACTOR_S = 0.001


def prepare_dicom() -> None:
    """Set the process-wide options of pydicom and pynetdicom; called once, before anything else.

    Values are passed on as archives hold them: pydicom does not judge them, nor quote them in
    warnings. Unrestricted storage takes any storage SOP class, private ones included, in whatever
    transfer syntax the sender prefers: senders give up whole jobs over one rejected context.
    """
    warnings.filterwarnings("ignore", category=UserWarning, module="pydicom")
    pydicom.config.settings.reading_validation_mode = pydicom.config.IGNORE
    pydicom.config.settings.writing_validation_mode = pydicom.config.IGNORE
    _config.UNRESTRICTED_STORAGE_SERVICE = True
    _name_services()
    _config.STORE_SEND_CHUNKED_DATASET = True  # a file goes out as it is, not decoded
    _config.LOG_HANDLER_LEVEL = "none"
    _config.LOG_REQUEST_IDENTIFIERS = False  # identifiers hold patient names
    _config.LOG_RESPONSE_IDENTIFIERS = False


def _name_services() -> None:
    """Let pynetdicom find its SOP classes under the names of PS3.6 too.

    It takes for storage whatever it does not find so: a worklist, and the queries for palettes.
    """
    names = vars(sop_class)
    for uid in [value for value in names.values() if isinstance(value, UID)]:
        names.setdefault(uid.keyword, uid)


class Listener:
    """One port, and the AE titles that may be called on it.

    A peer that is silent, trickles bytes or sends without end is cut off: it costs a limited time
    and `maximum_bytes` of memory, and never one of the places for other peers for good.
    """

    def __init__(
        self,
        dicom: Dicom,
        *,
        ae_titles: tuple[str, ...],
        port: int,
        services: tuple[Service, ...],
        handlers: list[Any],
        maximum_bytes: int,
    ) -> None:
        ae = AE(ae_titles[0])
        ae.maximum_pdu_size = dicom.maximum_pdu_bytes
        ae.maximum_associations = dicom.maximum_associations
        ae.network_timeout = dicom.network_timeout_s
        ae.acse_timeout = min(_NEGOTIATION_S, dicom.network_timeout_s)
        ae.require_called_aet = True
        ae.require_calling_aet = list(dicom.calling_ae_titles)
        for service in services:
            both = service.as_scu or None
            ae.add_supported_context(
                service.sop_class_uid,
                list(service.transfer_syntaxes),
                scu_role=both,
                scp_role=both,
            )
        self._ae_titles = ae_titles
        self._ae = ae
        self._both_roles = {s.sop_class_uid for s in services if s.as_scu}
        self._timeout_s = dicom.network_timeout_s
        self._limit = MessageLimit(maximum_bytes)
        self.port = self._listen(dicom.host, port, handlers)
        log.info("listening", ae_titles=ae_titles, host=dicom.host, port=self.port)

    def _listen(self, host: str, port: int, handlers: list[Any]) -> int:
        """Open the port and return it; raise `ConfigError` when that cannot be done."""
        try:
            server = self._ae.start_server(
                (host, port),
                block=False,
                evt_handlers=[
                    (evt.EVT_CONN_OPEN, self._opened),
                    (evt.EVT_REQUESTED, self._confirm_roles),
                    (evt.EVT_REQUESTED, prefer_plain),
                    (evt.EVT_REQUESTED, self._called),
                    (evt.EVT_PDU_RECV, self._limit.count),
                    (evt.EVT_DIMSE_RECV, self._limit.reset),
                    (evt.EVT_REJECTED, _log_rejection),
                    (evt.EVT_C_ECHO, lambda event: 0x0000),
                    *handlers,
                ],
            )
        except OSError as error:
            reason = f"cannot listen for {self._ae_titles[0]} on {host}: {error.strerror}"
            raise ConfigError("dicom", f"port {port}", reason) from error
        return int(cast(ThreadedAssociationServer, server).server_address[1])

    def stop(self) -> None:
        """Take no more associations, cut those still open."""
        for association in self._ae.active_associations:
            cut(association)
        self._ae.shutdown()

    def _opened(self, event: evt.Event) -> None:
        prepare_connection(event)
        if connection := _connection(event.assoc):
            # pynetdicom's own timeout does not run while a PDU is half received.
            connection.settimeout(self._timeout_s)

    def _confirm_roles(self, event: evt.Event) -> None:
        """Accept the roles that a peer proposes where the node can have either (PS3.7 D.3.3.4).

        pynetdicom forgets to answer them when storage is unrestricted.
        """
        for uid, proposed in event.assoc.requestor.role_selection.items():
            if uid in self._both_roles:
                accepted = build_role(uid, proposed.scu_role or False, proposed.scp_role or False)
                event.assoc.acceptor.add_negotiation_item(accepted)

    def _called(self, event: evt.Event) -> None:
        """Answer by the AE title that was called, if it is one of ours; another is rejected."""
        request = event.assoc.requestor.primitive
        if request is not None and request.called_ae_title in self._ae_titles:
            event.assoc.acceptor.ae_title = request.called_ae_title


class MessageLimit:
    """Cuts an association off whose message grows beyond `maximum_bytes`.

    pynetdicom holds a message in memory until it is whole.
    """

    def __init__(self, maximum_bytes: int) -> None:
        self._maximum_bytes = maximum_bytes
        self._received: WeakKeyDictionary[Association, int] = WeakKeyDictionary()

    def count(self, event: evt.Event) -> None:
        """Add a PDU to the message under way."""
        received = self._received.get(event.assoc, 0) + len(event.pdu)
        self._received[event.assoc] = received
        if received > self._maximum_bytes:
            log.warning("message_too_large", limit_bytes=self._maximum_bytes, source=peer(event))
            cut(event.assoc)

    def reset(self, event: evt.Event) -> None:
        """Begin anew: the message is whole."""
        self._received[event.assoc] = 0


def prefer_plain(event: evt.Event) -> None:
    """Put what is not compressed first in the contexts of a peer that wants objects by C-GET.

    The first is taken, and everything can be sent uncompressed; a report never goes out as JPEG
    2000. A context that proposes one transfer syntax is as it was, and so are those of videos.
    """
    requestor = event.assoc.requestor
    wanted = {uid for uid, role in requestor.role_selection.items() if role.scp_role}
    proposed = (
        requestor.primitive.presentation_context_definition_list if requestor.primitive else ()
    )
    for context in proposed:
        if context.abstract_syntax in wanted.difference(VIDEO_STORAGE):
            context.transfer_syntax = sorted(
                context.transfer_syntax, key=lambda syntax: syntax not in PLAIN
            )


def cut(association: Association) -> None:
    """Shut an association's connection down, from any thread; its own threads then end."""
    if connection := _connection(association):
        with suppress(OSError):  # the peer was faster
            connection.shutdown(socket.SHUT_RDWR)


def failure(status: int, comment: str, keyword: str = "") -> Dataset:
    """Return a status with ErrorComment and OffendingElement (PS3.7 Annex C)."""
    answer = Dataset()
    answer.Status = status
    answer.ErrorComment = comment[:_COMMENT_LENGTH]
    tag = tag_for_keyword(keyword) if keyword else None
    if tag is not None:
        answer.OffendingElement = [tag]
    return answer


def guarded(handler: Callable[..., Dataset | int]) -> Callable[..., Dataset | int]:
    """Wrap a handler: whatever goes wrong in it is one log line and one failure status."""

    def guard(event: evt.Event, *arguments: Any) -> Dataset | int:
        try:
            return handler(event, *arguments)
        except Exception as error:
            log.error("handler_failed", handler=handler.__name__, fault=fault_of(error))
            return failure(PROCESSING_FAILURE, "internal error, see the log of the node")

    return guard


def guarded_iterator(
    handler: Callable[..., Iterator[tuple[Dataset | int, Dataset | None]]],
) -> Callable[..., Iterator[tuple[Dataset | int, Dataset | None]]]:
    """Do the same for a handler that yields its answers."""

    def guard(event: evt.Event, *arguments: Any) -> Iterator[tuple[Dataset | int, Dataset | None]]:
        try:
            yield from handler(event, *arguments)
        except Exception as error:
            log.error("handler_failed", handler=handler.__name__, fault=fault_of(error))
            yield failure(UNABLE_TO_PROCESS, "internal error, see the log of the node"), None

    return guard


def peer(event: evt.Event) -> str:
    """Return `AE@address` of the sender, for the log."""
    requestor = event.assoc.requestor
    return f"{requestor.ae_title}@{requestor.address}"


def is_cancelled(event: evt.Event) -> bool:
    """Tell whether a peer wants no more answers; to be asked before each of them.

    pynetdicom reads nothing while it has something to send, so a C-CANCEL would be read after the
    last answer: where many are ready, this waits until they are sent and what came meanwhile is
    read. A peer that is gone wants no more.
    """
    dul = event.assoc.dul
    if dul.to_provider_queue.qsize() >= MESSAGES_AHEAD:
        while dul.is_alive() and (dul.to_provider_queue.qsize() or _is_unread(event.assoc)):
            time.sleep(_REACTOR_S)
    return event.is_cancelled or not dul.is_alive()


def _is_unread(association: Association) -> bool:
    """Tell whether a peer has sent something that pynetdicom has not read yet."""
    connection = _connection(association)
    if connection is None:
        return False
    try:
        return bool(select.select([connection], [], [], 0)[0])
    except (OSError, ValueError):  # closed meanwhile
        return False


def prepare_connection(event: evt.Event) -> None:
    """Make a new connection quick and its association sure to see every answer.

    With Nagle's algorithm on, a stock DCMTK sender moves 22 instances a second.
    """
    event.assoc._reactor_checkpoint = _Checkpoint(event.assoc)
    if connection := _connection(event.assoc):
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)


class _Checkpoint(threading.Event):
    """Where pynetdicom's reactor waits while a request of ours is under way.

    With a plain event the reactor says only some time after it has woken that it runs. If the next
    request goes out before, the reactor takes its answer for a request of the peer, and the asker
    waits until a time limit. Here to be let through and to say so are one.
    """

    def __init__(self, association: Association) -> None:
        super().__init__()
        self._association = association
        self._guard = threading.Lock()
        self.set()

    def clear(self) -> None:
        with self._guard:
            super().clear()

    def wait(self, timeout: float | None = None) -> bool:
        while super().wait(timeout):
            with self._guard:
                if self.is_set():  # else the next request has come between
                    self._association._is_paused = False
                    return True
        return False


def _connection(association: Association) -> socket.socket | None:
    """Return an association's socket; None when it is closed, or not open yet."""
    wrapped = association.dul.socket
    return wrapped.socket if wrapped is not None else None


def _log_rejection(event: evt.Event) -> None:
    request = event.assoc.requestor.primitive
    answer = event.assoc.acceptor.primitive
    log.warning(
        "association_rejected",
        source=peer(event),
        called=str(request.called_ae_title) if request is not None else "",
        reason=answer.reason_str if answer is not None else "",
    )
