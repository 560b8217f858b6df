"""`POST /similar`: the kept cases that look like what is posted, which is not kept itself.

Words go beside one example of files; words alone, or beside a kept study, are a body of JSON.
"""

from dataclasses import replace
from pathlib import Path
from typing import Annotated

from fastapi import APIRouter, Query, Request
from pydantic import Field, field_validator
from starlette.concurrency import run_in_threadpool

from dicom_node.answer.element import dataset_of
from dicom_node.answer.find import case_answers, find_by_words
from dicom_node.answer.query import Example, similar_to_examples
from dicom_node.answer.question import Question, read_filters, read_scope
from dicom_node.answer.response import Asked
from dicom_node.answer.words import Beside
from dicom_node.config import Scope
from dicom_node.errors import NotUnderstood, ObjectRefused, QueryRefused
from dicom_node.operate.example import embed_examples
from dicom_node.receive.clips import Region, read_box
from dicom_node.receive.header import read_file_header
from dicom_node.text import is_uid
from dicom_node.web.accept import Accepted
from dicom_node.web.dicom_json import MEDIA_TYPE, DicomJson, as_json
from dicom_node.web.failures import responses
from dicom_node.web.routes.cases import CASES, SimilarCases, cases_of, chosen
from dicom_node.web.routes.similar import WantedFields, asked
from dicom_node.web.routes.words import WEIGHT, check_words, find_words, tell, words_in
from dicom_node.web.service import EXAMPLE, Service, WebService
from dicom_node.web.upload import CONTENT, Upload, received
from encoder.wordpiece import MAX_CHARACTERS
from index.attributes import Level

router = APIRouter(tags=["similar"])

_JSON = "application/json"
_WORDS = {
    "type": "object",
    "description": "the parameters of `GET /similar`",
    "properties": {"text": {"type": "string"}},
    "required": ["text"],
}
_BODY = {"requestBody": {"required": True, "content": {**CONTENT, _JSON: {"schema": _WORDS}}}}


class Posted(WantedFields):
    """Which cases may be answered, what is told of them, and what the posted files are."""

    slice_number: int | None = Field(
        None, alias="slice", ge=1, description="only this slice or frame of the files, from 1"
    )
    box: str = Field("", description="only this box of the files, in pixels: x,y,width,height")
    unlike: list[str] = Field(
        [], description="Study Instance UIDs of posted files that cases are not to be like"
    )
    text: str = Field(
        "", max_length=MAX_CHARACTERS, description="a sentence in English that the cases are to be"
    )
    text_weight: float | None = Field(None, ge=0, le=1, description=WEIGHT)

    @field_validator("box")
    @classmethod
    def _is_box(cls, text: str) -> str:
        if text:
            read_box(text)
        return text

    @field_validator("unlike")
    @classmethod
    def _are_uids(cls, texts: list[str]) -> list[str]:
        uids = [uid.strip() for text in texts for uid in text.split(",")]
        if not all(map(is_uid, uids)):
            raise ValueError("it is no list of UIDs")
        return uids

    def region(self) -> Region | None:
        """Return what is asked for of the files, None for all of them."""
        if self.slice_number is None and not self.box:
            return None
        return Region(self.slice_number, read_box(self.box) if self.box else None)

    def check_words(self) -> None:
        """Raise `QueryRefused` for what does not go together."""
        if not self.text and self.text_weight is not None:
            raise QueryRefused("text_weight: it is of words beside an example, and there are none")
        if self.text:
            check_words(self.text)
        if self.text and self.unlike:
            raise QueryRefused("text: it goes without unlike")

    def share_of_words(self, configured: float) -> float:
        """Return the share of the words, 0 where there are none."""
        if not self.text:
            return 0.0
        return configured if self.text_weight is None else self.text_weight


@router.post(
    "/similar",
    openapi_extra=_BODY,
    responses=CASES | responses(404, 406, 408, 413, 415, 422, 501, 507),
    response_model=SimilarCases,
    response_model_exclude_unset=True,
)
async def similar_to_files(
    service: Service,
    request: Request,
    accepted: Accepted,
    wanted: Annotated[Posted, Query()],
) -> SimilarCases | DicomJson:
    """Rank the kept studies by likeness to files, of which nothing is kept.

    Those of several studies are several examples; `unlike` says which ones are not wanted. A body
    of JSON has the parameters of `GET /similar` instead, so that no URL holds the sentence.
    The answer is `application/json` unless `application/dicom+json` is preferred.
    """
    if request.headers.get("content-type", "").partition(";")[0].strip().lower() == _JSON:
        told = await words_in(request)
        return await run_in_threadpool(find_words, service, told, chosen(accepted, told))
    media_type = chosen(accepted, wanted)
    wanted.check_words()
    async with received(request, service) as upload:
        return await run_in_threadpool(_like_files, service, upload, wanted, media_type)


def _like_files(
    service: WebService, upload: Upload, wanted: Posted, media_type: str
) -> SimilarCases | DicomJson:
    identifier = asked(Level.STUDY, wanted, {})
    answer = service.find.answer
    filters = replace(read_filters(identifier, answer), near_duplicate=answer.near_duplicate)
    scope = read_scope(identifier)
    if scope not in (Scope.ALL, Scope.OTHER_PATIENTS):
        raise QueryRefused("the scope of posted files is ALL or OTHER_PATIENTS")
    answering = service.find.current()
    model = answering.model
    weight = wanted.share_of_words(service.find.text.weight)
    space = service.find.space_of(answering) if weight else None
    like, unlike = _examples(service, upload, wanted, model.model_id)
    if space is not None:
        if len(like) > 1:
            raise QueryRefused("text: it goes with one example; send the files of one study")
        study = like[0].study_instance_uid
        question = Question(study=study, text=wanted.text, scope=scope, filters=filters)
        beside = Beside(like[0], answering.search, weight, model.version)
        found = find_by_words(space, question, beside)
        return tell(service, identifier, media_type, found)
    ranking = similar_to_examples(answering.search, like, unlike, filters)
    if media_type == MEDIA_TYPE:
        # The answer has room for one study that was compared with.
        study = like[0].study_instance_uid if len(like) + len(unlike) == 1 else ""
        question = Question(study=study, scope=scope, filters=filters)
        answers = case_answers(
            identifier, Asked(question, study, ranking, model.version), service.find
        )
        return DicomJson([as_json(dataset_of(answer)) for _, answer in answers])
    return cases_of(ranking, model.version)


def _examples(
    service: WebService, upload: Upload, wanted: Posted, model_id: str
) -> tuple[list[Example], list[Example]]:
    """Embed what is posted; return the examples of what is wanted, and of what is not."""
    region = wanted.region()
    if region is not None and wanted.unlike:
        raise QueryRefused("unlike: it goes without slice and box")
    like: list[Path] = []
    unlike: list[Path] = []
    left = set(wanted.unlike)
    for number, path in enumerate(upload.files(), start=1):
        study = _study(path, number)
        (unlike if study in wanted.unlike else like).append(path)
        left.discard(study)
    if left:
        raise QueryRefused("unlike: no posted file is of such a study")
    if not like and unlike:
        raise QueryRefused("unlike: nothing to compare with, all posted files are unwanted")
    embedded = embed_examples(
        service.worker, like, model_id=model_id, region=region, caller=EXAMPLE
    )
    if not unlike:
        return embedded, []
    return embedded, embed_examples(service.worker, unlike, model_id=model_id, caller=EXAMPLE)


def _study(path: Path, number: int) -> str:
    try:
        return read_file_header(path).study_instance_uid
    except ObjectRefused as error:
        raise NotUnderstood(f"part {number}: {error.reason}") from error
