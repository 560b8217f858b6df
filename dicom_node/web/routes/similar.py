"""`…/similar`: the kept cases that look like a kept study or series, or like what is posted.

The kept ones are answered as C-FIND by example answers them. What is posted is embedded and
forgotten.
"""

from dataclasses import dataclass, fields, replace
from typing import Annotated

from fastapi import APIRouter, Query, Request
from fastapi.responses import JSONResponse
from pydantic import BaseModel, ConfigDict, Field
from starlette.concurrency import run_in_threadpool

from dicom_node.answer import private
from dicom_node.answer.find import similar_answers
from dicom_node.answer.query import similar_to_vectors
from dicom_node.answer.question import Scope, read_filters, read_scope
from dicom_node.errors import NotUnderstood, ObjectRefused, QueryRefused
from dicom_node.operate.example import embed_example
from dicom_node.receive.header import read_file_header
from dicom_node.web.dicom_json import DATA_SETS, DicomJson, as_json
from dicom_node.web.failures import Problem, problem, responses
from dicom_node.web.keys import check_text, identifier_of, keywords_of
from dicom_node.web.service import EXAMPLE, Service, Uid, WebService
from dicom_node.web.upload import BODIES, Upload, received
from index.attributes import Level

router = APIRouter(tags=["similar"])

# What is told of a case unasked. Names and numbers of patients come on request (`includefield`).
_OF_STUDY = (
    "StudyInstanceUID", "StudyDate", "StudyTime", "StudyDescription", "ModalitiesInStudy",
    "Modality", "BodyPartExamined", "PatientSex", "PatientAge", "InstanceAvailability",
    "NumberOfStudyRelatedSeries", "NumberOfStudyRelatedInstances",
)  # fmt: skip
_OF_SERIES = (
    "SeriesInstanceUID", "SeriesNumber", "SeriesDescription", "NumberOfSeriesRelatedInstances",
)  # fmt: skip
_FIELDS = {Level.STUDY: _OF_STUDY, Level.SERIES: _OF_STUDY + _OF_SERIES}


class Wanted(BaseModel):
    """Which cases may be answered."""

    model_config = ConfigDict(extra="forbid")

    k: int | None = Field(None, ge=1, le=65535, description="cases at most")
    modality: str = Field("", max_length=16, description="as CT")
    body_part: str = Field("", max_length=16, description="as CHEST")
    date: str = Field("", max_length=32, description="StudyDate or a range: 20240101-20241231")
    min_score: float | None = Field(None, ge=-1, le=1, description="lowest cosine")
    scope: Scope = Field(Scope.OTHER_PATIENTS, description="ALL lets the patient's own studies in")

    def keys(self) -> dict[str, str]:
        """Return the standard matching keys that say the same."""
        keys = {
            "Modality": self.modality, "BodyPartExamined": self.body_part, "StudyDate": self.date
        }  # fmt: skip
        return {keyword: check_text(text) for keyword, text in keys.items() if text}

    def own_keys(self) -> dict[private.PrivateElement, object]:
        """Return the private ones."""
        keys: dict[private.PrivateElement, object] = {private.SCOPE: self.scope.value}
        if self.k is not None:
            keys[private.MAXIMUM_RESULTS] = self.k
        if self.min_score is not None:
            keys[private.SCORE] = self.min_score
        return keys


class WantedFields(Wanted):
    """Which cases may be answered, and what is told of them."""

    includefield: list[str] = Field([], description="further attributes, as PatientID")


@router.get(
    "/studies/{study}/similar", response_class=DicomJson, responses=DATA_SETS | responses(404)
)
def similar_to_a_study(
    service: Service, study: Uid, wanted: Annotated[WantedFields, Query()]
) -> DicomJson:
    """Rank the kept studies by likeness to this one.

    503 with Retry-After while its vectors are on their way, 404 where it has none.
    """
    return _similar(service, wanted, Level.STUDY, {private.QUERY_STUDY: study})


@router.get(
    "/studies/{study}/series/{series}/similar",
    response_class=DicomJson,
    responses=DATA_SETS | responses(404),
)
def similar_to_a_series(
    service: Service, study: Uid, series: Uid, wanted: Annotated[WantedFields, Query()]
) -> DicomJson:
    """Rank the kept studies by likeness to this series; each is told with its nearest series."""
    example = {private.QUERY_STUDY: study, private.QUERY_SERIES: series}
    return _similar(service, wanted, Level.SERIES, example)


@router.get("/similar", status_code=501, response_model=Problem)
def similar_to_words(text: str) -> JSONResponse:
    """Refuse: the encoder that is shipped knows no words."""
    return problem(501, "cases are not searched by text here; give an example study or image")


def _similar(
    service: WebService,
    wanted: WantedFields,
    level: Level,
    example: dict[private.PrivateElement, str],
) -> DicomJson:
    told = [*_FIELDS[level], *keywords_of(wanted.includefield)]
    keys = dict.fromkeys(told, "") | wanted.keys()
    identifier = identifier_of(level, keys, wanted.own_keys() | example)
    answers = similar_answers(identifier, service.find, is_listening=lambda: True)
    return DicomJson([as_json(answer) for _, answer in answers])


@dataclass(frozen=True, slots=True)
class SimilarCase:
    """A kept study, by the series and instance of it that match best, and who shows the same."""

    rank: int
    score: float
    study_instance_uid: str
    series_instance_uid: str
    sop_instance_uid: str
    kind: str
    modality: str
    body_part: str
    study_date: str
    study_description: str
    patient_sex: str
    patient_age: str
    near_duplicates: tuple[str, ...]


class SimilarCases(BaseModel):
    """The cases in rank order, and which encoder ranked them."""

    model_id: str
    encoder: str
    cases: list[SimilarCase]


@router.post("/similar", openapi_extra=BODIES, responses=responses(408, 413, 415, 422, 507))
async def similar_to_files(
    service: Service, request: Request, wanted: Annotated[Wanted, Query()]
) -> SimilarCases:
    """Rank the kept studies by likeness to the files of one study, of which nothing is kept."""
    async with received(request, service) as upload:
        return await run_in_threadpool(_like_files, service, upload, wanted)


def _like_files(service: WebService, upload: Upload, wanted: Wanted) -> SimilarCases:
    identifier = identifier_of(Level.STUDY, wanted.keys(), wanted.own_keys())
    answer = service.find.answer
    filters = replace(read_filters(identifier, answer), near_duplicate=answer.near_duplicate)
    if read_scope(identifier) not in (Scope.ALL, Scope.OTHER_PATIENTS):
        raise QueryRefused("the scope of posted files is ALL or OTHER_PATIENTS")
    paths = upload.files()
    for number, path in enumerate(paths, start=1):
        try:
            read_file_header(path)
        except ObjectRefused as error:
            raise NotUnderstood(f"part {number}: {error.reason}") from error
    example = embed_example(service.worker, paths, guest=EXAMPLE)
    ranking = similar_to_vectors(service.find.search, example, filters)
    names = [each.name for each in fields(SimilarCase)]
    cases = [SimilarCase(**{name: getattr(c, name) for name in names}) for c in ranking.cases]
    return SimilarCases(model_id=ranking.model_id, encoder=service.find.encoder, cases=cases)
