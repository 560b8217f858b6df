"""`GET /similar?text=`: the kept cases that are what a sentence says, be it beside an example."""

from typing import Annotated

from fastapi import APIRouter, Query
from pydantic import Field

from dicom_node.answer import private
from dicom_node.answer.element import dataset_of
from dicom_node.answer.find import ask_in_words, case_answers
from dicom_node.errors import QueryRefused
from dicom_node.text import is_uid
from dicom_node.web.accept import Accepted
from dicom_node.web.dicom_json import MEDIA_TYPE, DicomJson, as_json
from dicom_node.web.failures import responses
from dicom_node.web.routes.cases import CASES, SimilarCases, cases_of, chosen, warning_of
from dicom_node.web.routes.similar import WantedFields, asked
from dicom_node.web.service import Service
from encoder.wordpiece import MAX_CHARACTERS
from index.attributes import Level

router = APIRouter(tags=["similar"])


class WantedInWords(WantedFields):
    """What the cases are to be, and which of them may be answered."""

    text: str = Field(
        max_length=MAX_CHARACTERS, description="a sentence in English that the cases are to be"
    )
    study: str = Field("", max_length=64, description="a kept study that they are to be like, too")


@router.get("/similar", responses=CASES | responses(404, 406, 501), response_model=SimilarCases)
def similar_to_words(
    service: Service, accepted: Accepted, wanted: Annotated[WantedInWords, Query()]
) -> SimilarCases | DicomJson:
    """Rank the kept studies by likeness to a sentence; nothing of it is kept or logged.

    The answer is `application/json` unless `application/dicom+json` is preferred. How far the words
    were understood stands in `words`, or in a Warning. 501 where the node has no text space, 503
    with Retry-After where words cannot be read now.
    """
    media_type = chosen(accepted, wanted)
    if not wanted.text.strip():
        raise QueryRefused("text: it has no word")
    if wanted.study and not is_uid(wanted.study):
        raise QueryRefused("study: it is not a UID")
    example = {private.QUERY_TEXT: wanted.text}
    if wanted.study:
        example[private.QUERY_STUDY] = wanted.study
    identifier = asked(Level.STUDY, wanted, example)
    found = ask_in_words(identifier, service.find)
    if media_type == MEDIA_TYPE:
        answers = case_answers(identifier, found, service.find)
        sets = [as_json(dataset_of(answer)) for _, answer in answers]
        return DicomJson(sets, headers=warning_of(found.comment))
    return cases_of(found.ranking, found.encoder, found.judged)
