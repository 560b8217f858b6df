"""A DICOM listener on pynetdicom: socket options, accepted peers, and the guard around handlers."""

import socket
import warnings
from collections.abc import Callable, Iterator
from typing import Any, cast

import pydicom.config
import structlog
from pydicom.datadict import tag_for_keyword
from pydicom.dataset import Dataset
from pynetdicom import AE, _config, evt
from pynetdicom.transport import ThreadedAssociationServer

from dicom_node.config import Dicom
from dicom_node.contexts import Service

log = structlog.get_logger()

_COMMENT_LENGTH = 64  # ErrorComment is LO (PS3.7 Annex C)
PROCESSING_FAILURE = 0x0110  # PS3.7 Annex C.5.10


def prepare_dicom() -> None:
    """Set the process-wide options of pydicom and pynetdicom; called once, before anything else.

    Values are passed on as archives hold them: pydicom does not judge them, nor quote them in
    warnings. Unrestricted
    storage takes any storage SOP class, private ones included, in whatever transfer syntax the
    sender prefers: senders give up whole jobs over one rejected context.
    """
    warnings.filterwarnings("ignore", category=UserWarning, module="pydicom")
    pydicom.config.settings.reading_validation_mode = pydicom.config.IGNORE
    pydicom.config.settings.writing_validation_mode = pydicom.config.IGNORE
    _config.UNRESTRICTED_STORAGE_SERVICE = True
    _config.LOG_HANDLER_LEVEL = "none"
    _config.LOG_REQUEST_IDENTIFIERS = False  # identifiers hold patient names
    _config.LOG_RESPONSE_IDENTIFIERS = False


class Listener:
    """One AE title on one port."""

    def __init__(
        self,
        dicom: Dicom,
        *,
        ae_title: str,
        port: int,
        services: tuple[Service, ...],
        handlers: list[Any],
    ) -> None:
        ae = AE(ae_title)
        ae.maximum_pdu_size = dicom.maximum_pdu_bytes
        ae.maximum_associations = dicom.maximum_associations
        ae.network_timeout = dicom.network_timeout_s
        ae.require_called_aet = True
        ae.require_calling_aet = list(dicom.calling_ae_titles)
        for service in services:
            ae.add_supported_context(service.sop_class_uid, list(service.transfer_syntaxes))
        self.ae_title = ae_title
        server = cast(
            ThreadedAssociationServer,
            ae.start_server(
                (dicom.host, port),
                block=False,
                evt_handlers=[
                    (evt.EVT_CONN_OPEN, answer_at_once),
                    (evt.EVT_REJECTED, _log_rejection),
                    (evt.EVT_C_ECHO, lambda event: 0x0000),
                    *handlers,
                ],
            ),
        )
        self._ae = ae
        self.port = int(server.server_address[1])
        log.info("listening", ae_title=ae_title, host=dicom.host, port=self.port)

    def stop(self) -> None:
        """Take no more associations, abort those still open."""
        self._ae.shutdown()


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
            log.exception("handler_failed", handler=handler.__name__, error=str(error))
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
            log.exception("handler_failed", handler=handler.__name__, error=str(error))
            yield failure(0xC001, "internal error, see the log of the node"), None

    return guard


def peer(event: evt.Event) -> str:
    """Return `AE@address` of the sender, for the log."""
    requestor = event.assoc.requestor
    return f"{requestor.ae_title}@{requestor.address}"


def answer_at_once(event: evt.Event) -> None:
    """Switch Nagle's algorithm off: with it a stock DCMTK sender moves 22 instances a second."""
    wrapped = event.assoc.dul.socket
    if wrapped is not None and wrapped.socket is not None:
        wrapped.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)


def _log_rejection(event: evt.Event) -> None:
    request = event.assoc.requestor.primitive
    called = request.called_ae_title if request is not None else ""
    log.warning("association_rejected", source=peer(event), called=str(called))
