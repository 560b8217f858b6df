"""The C-FIND SCP of `SIMILIS_FIND`: a study as the query, similar studies as the answer, by rank.

The study is named by the private key Query Study Instance UID or, for requestors that cannot send
private keys, by plain StudyInstanceUID. The other matching keys are filters on the neighbours.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass

import structlog
from pydicom.dataset import Dataset
from pynetdicom import evt

from dicom_node.answer import private
from dicom_node.answer.query import Answered, Filters, similar_to_study
from dicom_node.answer.response import Responder
from dicom_node.config import Answer, Dicom
from dicom_node.contexts import Role, services
from dicom_node.errors import BadIdentity, QueryRefused
from dicom_node.listener import Listener, failure, guarded, guarded_iterator, peer
from dicom_node.receive.header import check_uid
from index.catalogue import Catalogue
from index.search import Search
from index.states import State

log = structlog.get_logger()

# PS3.4 Table C.4-1.
CANCELLED = 0xFE00
PENDING = 0xFF00
PENDING_WITHOUT_SOME_KEYS = 0xFF01
NOT_INDEXED_YET = 0xC001
# PS3.7 Annex C.5.6: what the query listener says to a C-STORE.
SOP_CLASS_NOT_SUPPORTED = 0x0122

_IDENTIFIER_BYTES = 1 << 20
_UNSETTLED = frozenset({State.RECEIVING, State.DIRTY, State.QUIET, State.EMBEDDED})
_DATE_RANGE = re.compile(r"(\d{8})?(-)?(\d{8})?")

Answers = Iterator[tuple[Dataset | int, Dataset | None]]


@dataclass(frozen=True, slots=True)
class FindService:
    """What the handler needs: where cases come from and how answers are written."""

    catalogue: Catalogue
    search: Search
    answer: Answer
    encoder: str


def query_listener(dicom: Dicom, service: FindService) -> Listener:
    """Open the query listener."""
    private.register()
    return Listener(
        dicom,
        ae_title=dicom.find_ae_title,
        port=dicom.query_port,
        services=services(Role.QUERY),
        handlers=[
            (evt.EVT_C_FIND, guarded_iterator(on_find), [service]),
            (evt.EVT_C_STORE, guarded(lambda event: SOP_CLASS_NOT_SUPPORTED)),
        ],
        maximum_bytes=_IDENTIFIER_BYTES,
    )


def on_find(event: evt.Event, service: FindService) -> Answers:
    """Answer one C-FIND (PS3.4 C.4.1): the search runs first, the cases follow in rank order."""
    identifier: Dataset = event.identifier
    try:
        study_uid = example_study(identifier)
        filters = neighbour_filters(identifier, service.answer)
    except QueryRefused as refusal:
        log.warning("query_refused", reason=refusal.reason, source=peer(event))
        yield failure(refusal.status, refusal.reason, refusal.keyword), None
        return
    answered = similar_to_study(service.catalogue, service.search, study_uid, filters)
    if answered is not None:
        yield from _cases(event, service, identifier, answered)
        return
    known = service.catalogue.study_row(study_uid)
    state = known.state if known is not None else "unknown"
    log.info("query_without_vectors", study=study_uid, state=state, source=peer(event))
    if known is not None and known.state in _UNSETTLED:
        yield failure(NOT_INDEXED_YET, "the study is being indexed, ask again"), None


def _cases(
    event: evt.Event, service: FindService, identifier: Dataset, answered: Answered
) -> Answers:
    responder = Responder(
        identifier,
        query_study_uid=answered.query.study_instance_uid,
        encoder=service.encoder,
        retrieve_ae_title=service.answer.retrieve_ae_title,
    )
    status = PENDING if responder.complete else PENDING_WITHOUT_SOME_KEYS
    for case in answered.ranking.cases:
        if event.is_cancelled:
            yield CANCELLED, None
            return
        row = service.catalogue.study_row(case.study_instance_uid)
        if row is not None:
            yield status, responder.answer(case, row)
    log.info("query_answered", cases=len(answered.ranking.cases), source=peer(event))


def example_study(identifier: Dataset) -> str:
    """Return the study that the identifier names as the example; raise `QueryRefused`."""
    level = str(identifier.get("QueryRetrieveLevel", "")).strip()
    if level != "STUDY":
        raise QueryRefused("only level STUDY is answered here", keyword="QueryRetrieveLevel")
    block = private.Block.find(identifier)
    uid = block.text(identifier, private.QUERY_STUDY) if block else ""
    uid = uid or str(identifier.get("StudyInstanceUID") or "").strip()
    if not uid:
        raise QueryRefused("no study to compare with", keyword="StudyInstanceUID")
    try:
        check_uid(uid, "StudyInstanceUID")
    except BadIdentity as error:
        raise QueryRefused(f"one example study: {error.reason}", keyword=error.keyword) from error
    return uid


def neighbour_filters(identifier: Dataset, answer: Answer) -> Filters:
    """Return what the other keys ask of the neighbours; raise `QueryRefused`."""
    block = private.Block.find(identifier)
    date_from, date_to = _date_range(str(identifier.get("StudyDate") or ""))
    scope = block.text(identifier, private.SCOPE) if block else ""
    if scope not in ("", "ALL", "EXCLUDE_SAME_PATIENT"):
        raise QueryRefused("the scope is ALL or EXCLUDE_SAME_PATIENT")
    return Filters(
        k=min(_number(identifier, block, private.MAXIMUM_RESULTS, answer.k), answer.maximum_k),
        modality=_code(identifier, "ModalitiesInStudy") or _code(identifier, "Modality"),
        body_part=_code(identifier, "BodyPartExamined"),
        date_from=date_from,
        date_to=date_to,
        same_patient=scope == "ALL",
        minimum_score=_score(identifier, block, answer.minimum_score),
    )


def _code(identifier: Dataset, keyword: str) -> str | None:
    """Return the one code that a key asks for; None for universal matching."""
    value = identifier.get(keyword) or ""
    code = value.strip().upper() if isinstance(value, str) else "\\".join(map(str, value))
    if code in ("", "*"):
        return None
    if set(code) & set("*?\\"):
        raise QueryRefused(f"{keyword} takes one value without wildcards", keyword=keyword)
    return code


def _date_range(text: str) -> tuple[str | None, str | None]:
    """Read a DA range (PS3.4 C.2.2.2.5): `d`, `d-`, `-d`, `d-d`."""
    text = text.strip()
    if not text:
        return None, None
    match = _DATE_RANGE.fullmatch(text)
    if match is None or not any(match.group(1, 3)):
        raise QueryRefused("not a date or a range of dates", keyword="StudyDate")
    first, dash, last = match.groups()
    return first, last if dash else first


def _number(
    identifier: Dataset, block: private.Block | None, key: private.PrivateElement, default: int
) -> int:
    text = block.text(identifier, key) if block else ""
    if not text:
        return default
    if not text.isdecimal() or int(text) < 1:
        raise QueryRefused(f"{key.name} is not a positive number")
    return int(text)


def _score(identifier: Dataset, block: private.Block | None, default: float) -> float:
    text = block.text(identifier, private.SCORE) if block else ""
    try:
        score = float(text) if text else default
    except ValueError as error:
        raise QueryRefused("the minimum score is not a number") from error
    if not -1 <= score <= 1:
        raise QueryRefused("the minimum score is not between -1 and 1")
    return score
