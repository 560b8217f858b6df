"""`GET /similar?text=`: the kept cases that are what a sentence says, be it beside an example.

The same is asked by POST with a body of JSON, since a URL is kept by proxies and browsers.
"""

from typing import Annotated

from fastapi import APIRouter, HTTPException, Query, Request
from fastapi.exceptions import RequestValidationError
from pydantic import Field, ValidationError

from dicom_node.answer import private
from dicom_node.answer.element import dataset_of
from dicom_node.answer.find import case_answers, find_cases
from dicom_node.answer.identifier import Identifier
from dicom_node.answer.response import Asked
from dicom_node.errors import QueryRefused
from dicom_node.text import is_uid
from dicom_node.web.accept import Accepted
from dicom_node.web.dicom_json import MEDIA_TYPE, DicomJson, as_json
from dicom_node.web.failures import responses
from dicom_node.web.routes.cases import CASES, SimilarCases, cases_of, chosen, warning_of
from dicom_node.web.routes.similar import WantedFields, asked
from dicom_node.web.service import Service, WebService
from encoder.wordpiece import MAX_CHARACTERS
from index.attributes import Level

router = APIRouter(tags=["similar"])

_BODY_BYTES = 128 << 10  # a sentence of which every character is escaped, and the rest
WEIGHT = "share of the words beside an example, 0..1; else as configured"


class WantedInWords(WantedFields):
    """What the cases are to be, and which of them may be answered."""

    text: str = Field(
        max_length=MAX_CHARACTERS, description="a sentence in English that the cases are to be"
    )
    text_weight: float | None = Field(None, ge=0, le=1, description=WEIGHT)
    study: str = Field("", max_length=64, description="a kept study that they are to be like, too")


@router.get(
    "/similar",
    responses=CASES | responses(404, 406, 501),
    response_model=SimilarCases,
    response_model_exclude_unset=True,
)
def similar_to_words(
    service: Service, accepted: Accepted, wanted: Annotated[WantedInWords, Query()]
) -> SimilarCases | DicomJson:
    """Rank the kept studies by likeness to a sentence; nothing of it is kept or logged.

    The answer is `application/json` unless `application/dicom+json` is preferred. How far the words
    were understood stands in `words`, or in a Warning. 501 where the node has no text space, 503
    with Retry-After where words cannot be read now. Proxies and browsers keep URLs: see POST.
    """
    return find_words(service, wanted, chosen(accepted, wanted))


async def words_in(request: Request) -> WantedInWords:
    """Read a body of JSON that holds the parameters of `GET /similar`.

    Raises `QueryRefused`, `RequestValidationError`, and `HTTPException` 413.
    """
    if request.query_params:
        raise QueryRefused("with a body of JSON all parameters are in the body")
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > _BODY_BYTES:
            raise HTTPException(413, f"the body is larger than {_BODY_BYTES >> 10} KiB")
    try:
        return WantedInWords.model_validate_json(bytes(body))
    except ValidationError as error:
        if not error.errors()[0]["loc"]:
            raise QueryRefused("the body is no JSON object") from None
        raise RequestValidationError(error.errors()) from None


def find_words(
    service: WebService, wanted: WantedInWords, media_type: str
) -> SimilarCases | DicomJson:
    """Rank the kept studies by likeness to a sentence, be it beside a kept study."""
    check_words(wanted.text)
    if wanted.study and not is_uid(wanted.study):
        raise QueryRefused("study: it is not a UID")
    if wanted.text_weight is not None and not wanted.study:
        raise QueryRefused("text_weight: it is of words beside an example, and there is none")
    example = {private.QUERY_TEXT: wanted.text}
    if wanted.study:
        example[private.QUERY_STUDY] = wanted.study
    identifier = asked(Level.STUDY, wanted, example)
    found = find_cases(
        identifier, service.find, weight=wanted.text_weight, is_listening=lambda: True
    )
    return tell(service, identifier, media_type, found)


def check_words(text: str) -> None:
    """Raise `QueryRefused` for a sentence that has nothing but blanks."""
    if not text.strip():
        raise QueryRefused("text: it has no word")


def tell(
    service: WebService, identifier: Identifier, media_type: str, found: Asked
) -> SimilarCases | DicomJson:
    """Return what is found by words as it is told."""
    if media_type == MEDIA_TYPE:
        answers = case_answers(identifier, found, service.find)
        told = [as_json(dataset_of(answer)) for _, answer in answers]
        return DicomJson(told, headers=warning_of(found.comment))
    return cases_of(found.ranking, found.encoder, found.judged)
