"""C-MOVE and C-GET (PS3.4 C.4.2 and C.4.3): kept files and our own reports, sent byte for byte.

A peer that does not take the transfer syntax of a file gets it uncompressed; where that cannot be,
the sub-operation counts as failed.
A C-MOVE goes only to those whom the configuration names, whatever address the request comes from.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import structlog
from pydicom import dcmread
from pydicom.dataset import Dataset
from pydicom.filereader import read_file_meta_info
from pydicom.uid import UID
from pynetdicom import build_context, evt
from pynetdicom.association import Association
from pynetdicom.dimse_primitives import C_MOVE
from pynetdicom.presentation import PresentationContext

from dicom_node.answer.decompression import FrameDecoder, decompressed, is_decompressible
from dicom_node.answer.identifier import UNIQUE_KEYS, Identifier
from dicom_node.answer.response import CANCELLED, PENDING
from dicom_node.config import Destination
from dicom_node.contexts import PLAIN, VERIFICATION
from dicom_node.errors import QueryRefused
from dicom_node.listener import failure, is_cancelled, peer, prepare_connection
from dicom_node.log import fault_of
from dicom_node.receive.header import PARSE_ERRORS
from dicom_node.receive.store import Store
from index.attributes import Level
from index.catalogue import Catalogue
from index.errors import CatalogueError
from index.matching import Selection

log = structlog.get_logger()

DESTINATION_UNKNOWN = 0xA801  # Refused: move destination unknown
CANNOT_COUNT = 0xA701  # Refused: out of resources, unable to calculate number of matches
_MAXIMUM_CONTEXTS = 128  # PS3.8 9.3.2: odd numbers from 1 to 255
_MAXIMUM_UIDS = 500  # one statement takes so many

Results = Iterator[Any]  # what pynetdicom takes: an address, a number, then status and data set


@dataclass(frozen=True, slots=True)
class RetrieveService:
    """Where objects lie, and who may be sent some, by AE title."""

    catalogue: Catalogue
    store: Store
    reports: Path
    peers: Mapping[str, Destination]
    # Names of the destinations that may know other patients' studies now, and their AE titles.
    linked: Mapping[str, str]
    decoder: FrameDecoder | None = None  # without one nothing is decompressed

    def files(
        self, selection: Selection, *, receiver: str = "", lost: bool = False
    ) -> "list[KeptFile]":
        """Return the files of a selection, then the objects of our own; raises CatalogueError.

        A report that names other patients' studies is for its own destination alone: `receiver`
        is the AE title that gets the files, if it is one of the configuration. Nobody gets one
        whose destination is no longer configured for it. `lost`: objects of our own whose file is
        gone or damaged too, without SOP class; they cannot be sent.
        """
        receivers = [name for name, ae_title in self.linked.items() if ae_title == receiver]
        reports = self.catalogue.selected_reports(selection, linked_for=receivers)
        own = [_own_file(self.reports / own.relative_path, own.sop_instance_uid) for own in reports]
        return self.kept(selection) + [file for file in own if lost or file.SOPClassUID]

    def kept(self, selection: Selection) -> "list[KeptFile]":
        """Return the files of a selection that came from others."""
        return [
            KeptFile.at(
                self.store.path(file.relative_path),
                sop_class=file.sop_class_uid,
                sop_instance=file.sop_instance_uid,
                syntax=file.transfer_syntax_uid,
            )
            for file in self.catalogue.selected_files(selection)
        ]


class KeptFile(Dataset):
    """A file on its way: stands in for its data set, which is not read."""

    path: Path
    transfer_syntax_uid: UID

    @classmethod
    def at(cls, path: Path, *, sop_class: str, sop_instance: str, syntax: str) -> "KeptFile":
        """Return the stand-in of the file at `path`."""
        file = cls()
        file.SOPClassUID, file.SOPInstanceUID = UID(sop_class), UID(sop_instance)
        file.path, file.transfer_syntax_uid = path, UID(syntax)
        return file


def on_move(event: evt.Event, service: RetrieveService) -> Results:
    """Answer one C-MOVE: A801 for an unknown destination, and for one that cannot be reached.

    The objects come from the AE title that was called.
    """
    title = str(event.move_destination).strip()
    destination = service.peers.get(title)
    if destination is None:
        log.warning("move_refused", destination=title, source=peer(event))
        _explain(event.assoc, f"{title} is no destination or peer of the configuration")
        yield None, None
        return
    _explain(event.assoc, f"{title} is configured, but takes no association")
    files, refusal = _selected(event, service, receiver=title)
    # pynetdicom connects before it lets a handler refuse.
    contexts = contexts_of(files) or [build_context(VERIFICATION, list(PLAIN))]
    handlers = [
        (evt.EVT_CONN_OPEN, prepare_connection),
        (evt.EVT_CONN_OPEN, _sign, [event.assoc.acceptor.ae_title]),
        (evt.EVT_ESTABLISHED, lambda opened: send_files(opened.assoc, service.decoder)),
    ]
    options = {"contexts": contexts, "evt_handlers": handlers, "ae_title": destination.ae_title}
    yield destination.host, destination.port, options
    yield from _operations(event, files, refusal)


def _sign(opened: evt.Event, ae_title: str) -> None:
    """Give a new association its calling AE title; pynetdicom knows one for the whole listener.

    Its request is written, and goes out when this returns.
    """
    if request := opened.assoc.requestor.primitive:
        request.calling_ae_title = ae_title


def _explain(association: Association, comment: str) -> None:
    """Let the refusal of a destination, which pynetdicom writes itself, say why."""
    dimse = association.dimse

    def send(message: Any, context_id: int) -> None:
        if isinstance(message, C_MOVE) and message.Status == DESTINATION_UNKNOWN:
            message.ErrorComment = comment  # type: ignore[assignment]  # declared as None alone
        type(dimse).send_msg(dimse, message, context_id)

    dimse.send_msg = send  # type: ignore[method-assign, assignment]


def on_get(event: evt.Event, service: RetrieveService) -> Results:
    """Answer one C-GET, over its own association."""
    files, refusal = _selected(event, service)
    send_files(event.assoc, service.decoder)
    yield from _operations(event, files, refusal)


def _operations(event: evt.Event, files: list[KeptFile], refusal: Dataset | None) -> Results:
    """Yield how many sub-operations there are, then each; pynetdicom counts how they end."""
    if refusal is not None:
        log.warning("retrieve_refused", reason=refusal.ErrorComment, source=peer(event))
        yield 1
        yield refusal, None
        return
    log.info("retrieving", objects=len(files), source=peer(event))
    yield len(files)
    for file in files:
        if is_cancelled(event):
            yield CANCELLED, None
            return
        yield PENDING, file


def _selected(
    event: evt.Event, service: RetrieveService, receiver: str = ""
) -> tuple[list[KeptFile], Dataset | None]:
    """Return the files that a request names, or why it is refused."""
    try:
        selection = selection_of(Identifier.read(event))
        return service.files(selection, receiver=receiver, lost=True), None
    except QueryRefused as refused:
        return [], failure(refused.status, refused.reason, refused.keyword)
    except CatalogueError as error:
        log.error("retrieve_failed", reason=str(error))
        return [], failure(CANNOT_COUNT, "the catalogue cannot be read, ask again")


def selection_of(identifier: Identifier) -> Selection:
    """Return what a request names: UIDs down to its level, lists of them at most; `QueryRefused`.

    Keys below the level, and all that are not unique keys, have no part in a retrieval
    (PS3.4 C.4.2.1.4.1).
    """
    lowest = identifier.level
    named: dict[Level, tuple[str, ...]] = {}
    for level, keyword in UNIQUE_KEYS.items():
        named[level] = identifier.uids(keyword)
        if len(named[level]) > _MAXIMUM_UIDS:
            raise QueryRefused(f"more than {_MAXIMUM_UIDS} UIDs", keyword=keyword)
        if level is lowest:
            break
    return Selection(
        studies=named[Level.STUDY],
        series=named.get(Level.SERIES, ()),
        images=named.get(Level.IMAGE, ()),
    )


def _own_file(path: Path, sop_instance_uid: str) -> KeptFile:
    try:
        meta = read_file_meta_info(path)
        sop_class, syntax = meta.MediaStorageSOPClassUID, meta.TransferSyntaxUID
    except PARSE_ERRORS as error:
        log.error("report_file_lost", sop_instance_uid=sop_instance_uid, fault=fault_of(error))
        sop_class, syntax = UID(""), UID("")
    return KeptFile.at(path, sop_class=sop_class, sop_instance=sop_instance_uid, syntax=syntax)


def contexts_of(files: list[KeptFile]) -> list[PresentationContext]:
    """Return what to propose for these files: each as it is, and each SOP class uncompressed."""
    sendable = [file for file in files if file.SOPClassUID]
    kinds = dict.fromkeys((file.SOPClassUID, (file.transfer_syntax_uid,)) for file in sendable)
    plain = dict.fromkeys((file.SOPClassUID, PLAIN) for file in sendable)
    proposed = [build_context(uid, list(syntaxes)) for uid, syntaxes in [*kinds, *plain]]
    return proposed[:_MAXIMUM_CONTEXTS]


def send_files(association: Association, decoder: FrameDecoder | None) -> None:
    """Let an association send a `KeptFile` from disk: pynetdicom itself would parse it first."""
    if "send_c_store" in vars(association):  # since an earlier request on it
        return
    send = association.send_c_store

    def send_kept(dataset: Dataset | Path, *arguments: Any, **options: Any) -> Dataset:
        if isinstance(dataset, KeptFile):
            dataset = _as_taken(association, dataset, decoder)
        return send(dataset, *arguments, **options)

    # The SCP of pynetdicom has no hook for it.
    association.send_c_store = send_kept  # type: ignore[method-assign, assignment]


def _as_taken(
    association: Association, file: KeptFile, decoder: FrameDecoder | None
) -> Dataset | Path:
    """Return the file itself, or its data set where the peer takes another plain encoding only.

    pynetdicom refuses to send what the peer does not take.
    """
    taken = {
        context.transfer_syntax[0]
        for context in association.accepted_contexts
        if context.as_scu and context.abstract_syntax == file.SOPClassUID
    }
    kept = file.transfer_syntax_uid
    if kept in taken or taken.isdisjoint(PLAIN):
        return file.path
    if kept in PLAIN:
        return dcmread(file.path)
    found = decompressed(file.path, decoder) if decoder and is_decompressible(kept) else None
    return file.path if found is None else found
