"""The query listener: three AE titles on one port, told apart by the one that was called.

| called | C-FIND | C-MOVE, C-GET | C-STORE |
|---|---|---|---|
| `SIMILIS_FIND` | by example; below STUDY level without one, ordinary | as below | a guest |
| `SIMILIS_TEXT` | by words in StudyDescription; below STUDY level as above | as below | refused |
| `SIMILIS_QR` | ordinary | what is kept | refused |

A guest is a study that is sent to be asked about: the answer is a report to the sender, which must
be a destination.
"""

from collections.abc import Mapping

import structlog
from pydicom.dataset import Dataset
from pynetdicom import evt

from dicom_node.answer import private
from dicom_node.answer.find import FindService, find_similar
from dicom_node.answer.identifier import Identifier
from dicom_node.answer.query_retrieve import find_matches
from dicom_node.answer.question import asks_for_similar
from dicom_node.answer.response import Answers
from dicom_node.answer.retrieve import RetrieveService, on_get, on_move
from dicom_node.config import Config, Dicom
from dicom_node.contexts import Role, services
from dicom_node.errors import (
    NoTextSpace,
    NowhereToAnswer,
    QueryRefused,
    WorkerBusy,
    WorkerFailed,
    WorkerStopped,
    WorkerUnavailable,
)
from dicom_node.listener import Listener, failure, guarded, guarded_iterator, peer
from dicom_node.receive.intake import Intake
from dicom_node.receive.scp import on_store, refused
from encoder.errors import BadText
from index.attributes import Level
from index.errors import BadQuery, DatabaseUnavailable

log = structlog.get_logger()

_SENTENCE = "StudyDescription"  # of the keys every client has, the one for free text
OUT_OF_RESOURCES = 0xA700  # PS3.4 Table C.4-1
# PS3.7 Annex C.5.6: what a C-STORE is told where no studies are taken as queries.
SOP_CLASS_NOT_SUPPORTED = 0x0122


def query_listener(
    config: Config, find: FindService, retrieve: RetrieveService, intake: Intake
) -> Listener:
    """Open the query listener."""
    private.register()
    dicom = config.dicom
    senders = {each.ae_title: name for name, each in config.destinations.items()}
    return Listener(
        dicom,
        ae_titles=(dicom.find_ae_title, dicom.text_ae_title, dicom.qr_ae_title),
        port=dicom.query_port,
        services=services(Role.QUERY),
        handlers=[
            (evt.EVT_C_FIND, guarded_iterator(on_find), [find, dicom]),
            (evt.EVT_C_MOVE, guarded_iterator(on_move), [retrieve]),
            (evt.EVT_C_GET, guarded_iterator(on_get), [retrieve]),
            (evt.EVT_C_STORE, guarded(on_guest), [intake, dicom.find_ae_title, senders]),
        ],
        maximum_bytes=config.storage.maximum_object_mb << 20,
    )


def on_guest(
    event: evt.Event, intake: Intake, find_ae_title: str, senders: Mapping[str, str]
) -> Dataset | int:
    """Answer one C-STORE of a study to be asked about; `senders`: destinations by AE title."""
    if event.assoc.acceptor.ae_title != find_ae_title:
        return SOP_CLASS_NOT_SUPPORTED
    title = event.assoc.requestor.ae_title.strip()
    if title not in senders:
        reason = f"no destination has AE title {title}, nowhere to answer"
        return refused(event, NowhereToAnswer(reason))
    return on_store(event, intake, asked_by=senders[title])


def on_find(event: evt.Event, service: FindService, dicom: Dicom) -> Answers:
    """Answer one C-FIND (PS3.4 C.4.1)."""
    try:
        yield from _answers(event, Identifier.read(event), service, dicom)
    except QueryRefused as refusal:
        log.warning("query_refused", reason=refusal.reason, source=peer(event))
        yield failure(refusal.status, refusal.reason, refusal.keyword), None
    except BadQuery as bad:
        log.warning("query_refused", reason=str(bad), source=peer(event))
        yield failure(QueryRefused.status, f"{bad.field}: {bad.reason}", bad.field), None
    except BadText as bad:
        log.warning("query_refused", reason=bad.reason, source=peer(event))
        yield failure(QueryRefused.status, bad.reason), None
    except NoTextSpace as error:
        log.warning("query_refused", reason=str(error), source=peer(event))
        yield failure(QueryRefused.status, error.comment), None
    except (WorkerBusy, WorkerFailed, WorkerStopped, WorkerUnavailable) as error:
        log.error("query_failed", reason=str(error))
        yield failure(OUT_OF_RESOURCES, "words cannot be read now, ask again"), None
    except DatabaseUnavailable as error:
        log.error("query_failed", reason=str(error))
        yield failure(OUT_OF_RESOURCES, "the catalogue cannot be read, ask again"), None


def _answers(
    event: evt.Event, identifier: Identifier, service: FindService, dicom: Dicom
) -> Answers:
    called, sentence = event.assoc.acceptor.ae_title, ""
    if called == dicom.text_ae_title and identifier.level is Level.STUDY:
        # No wildcards are in a sentence, but viewers put some around what is typed.
        text, identifier = identifier.take(_SENTENCE)
        sentence = text.strip("* ")
        if not sentence and not identifier.private(private.QUERY_TEXT):
            raise QueryRefused("no sentence to search by", keyword=_SENTENCE)
        if "\\" in sentence:
            raise QueryRefused("one sentence is asked for, not several", keyword=_SENTENCE)
    if called != dicom.qr_ae_title and asks_for_similar(identifier):
        return find_similar(event, identifier, service, sentence)
    return find_matches(
        event, identifier, service.catalogue, retrieve_ae_title=service.retrieve_ae_title
    )
