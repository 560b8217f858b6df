"""`…/similar`: the kept cases that look like a kept study or series, or like what is posted.

The kept ones are answered as C-FIND by example answers them. What is posted is embedded and
forgotten.
"""

from dataclasses import dataclass, fields, replace
from typing import Annotated, Any

from fastapi import APIRouter, HTTPException, Query, Request
from pydantic import BaseModel, ConfigDict, Field
from starlette.concurrency import run_in_threadpool

from dicom_node.answer import private
from dicom_node.answer.element import dataset_of
from dicom_node.answer.find import case_answers, similar_answers
from dicom_node.answer.identifier import Identifier
from dicom_node.answer.query import similar_to_vectors
from dicom_node.answer.question import Question, read_filters, read_scope
from dicom_node.answer.response import Asked
from dicom_node.config import Scope
from dicom_node.errors import NotUnderstood, ObjectRefused, QueryRefused
from dicom_node.operate.example import embed_example
from dicom_node.receive.header import read_file_header
from dicom_node.web.accept import Accepted, Range
from dicom_node.web.dicom_json import DATA_SETS, MEDIA_TYPE, DicomJson, as_json
from dicom_node.web.failures import responses
from dicom_node.web.keys import check_text, identifier_of, keywords_of
from dicom_node.web.service import EXAMPLE, Service, Uid, WebService
from dicom_node.web.upload import BODIES, Upload, received
from index.attributes import Level
from index.parts import PartPlace
from index.records import Ranking
from index.vectors import Effort

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
_JSON = "application/json"
_FIELDS = {Level.STUDY: _OF_STUDY, Level.SERIES: _OF_STUDY + _OF_SERIES}


class Wanted(BaseModel):
    """Which cases may be answered."""

    model_config = ConfigDict(extra="forbid")

    k: int | None = Field(None, ge=1, le=65535, description="cases at most")
    modality: str = Field("", max_length=16, description="as CT")
    body_part: str = Field("", max_length=16, description="as CHEST")
    sex: str = Field("", max_length=16, description="PatientSex, as F")
    date: str = Field("", max_length=32, description="StudyDate or a range: 20240101-20241231")
    age: str = Field("", max_length=16, description="years at the study: 45, 0-12, 65- or -12")
    institution: str = Field("", max_length=64, description="InstitutionName")
    description: str = Field(
        "", max_length=64, description="words of the description of study or series"
    )
    min_score: float | None = Field(None, ge=-1, le=1, description="lowest cosine")
    scope: Scope = Field(
        Scope.OTHER_PATIENTS, description=f"{', '.join(Scope)}; ALL lets the patient's own in"
    )
    effort: Effort = Field(Effort.NORMAL, description=f"{', '.join(Effort)}: how hard to look")

    def keys(self) -> dict[str, str]:
        """Return the standard matching keys that say the same."""
        keys = {
            "Modality": self.modality, "BodyPartExamined": self.body_part, "PatientSex": self.sex,
            "StudyDate": self.date, "InstitutionName": self.institution,
            "StudyDescription": self.description,
        }  # fmt: skip
        return {keyword: check_text(text) for keyword, text in keys.items() if text}

    def own_keys(self) -> dict[private.PrivateElement, object]:
        """Return the private ones."""
        keys: dict[private.PrivateElement, object] = {
            private.SCOPE: self.scope.value,
            private.EFFORT: self.effort.upper(),
        }
        if self.age:
            keys[private.AGE_RANGE] = check_text(self.age)
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


def _similar(
    service: WebService,
    wanted: WantedFields,
    level: Level,
    example: dict[private.PrivateElement, str],
) -> DicomJson:
    identifier = query_of(level, wanted, example)
    answers = similar_answers(identifier, service.find, is_listening=lambda: True)
    return DicomJson([as_json(dataset_of(answer)) for _, answer in answers])


def query_of(
    level: Level, wanted: WantedFields, example: dict[private.PrivateElement, str]
) -> Identifier:
    """Return the query that a C-FIND for these cases would hold."""
    told = [*_FIELDS[level], *keywords_of(wanted.includefield)]
    keys = dict.fromkeys(told, "") | wanted.keys()
    return identifier_of(level, keys, wanted.own_keys() | example)


@dataclass(frozen=True, slots=True)
class SimilarCase:
    """A kept study: its series, instance and part that match best, and who shows the same."""

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
    query_part: PartPlace | None
    case_part: PartPlace | None
    near_duplicates: tuple[str, ...]


class SimilarCases(BaseModel):
    """The cases in rank order, and which encoder or text space ranked them.

    `outside_space`: there are none, for words that are like nothing that is kept.
    """

    model_id: str
    encoder: str
    cases: list[SimilarCase]
    outside_space: bool = False


CASES: dict[int | str, dict[str, Any]] = {
    200: {
        "description": "the cases as JSON, or as `GET …/similar` answers them where that is asked",
        "content": DATA_SETS[200]["content"],
    },
}


@router.post(
    "/similar",
    openapi_extra=BODIES,
    responses=CASES | responses(406, 408, 413, 415, 422, 507),
    response_model=SimilarCases,
)
async def similar_to_files(
    service: Service,
    request: Request,
    accepted: Accepted,
    wanted: Annotated[WantedFields, Query()],
) -> SimilarCases | DicomJson:
    """Rank the kept studies by likeness to the files of one study, of which nothing is kept.

    The answer is `application/json` unless `application/dicom+json` is preferred.
    """
    media_type = chosen(accepted)
    if any(wanted.includefield) and media_type != MEDIA_TYPE:
        raise QueryRefused(f"includefield: it goes with Accept: {MEDIA_TYPE}")
    async with received(request, service) as upload:
        return await run_in_threadpool(_like_files, service, upload, wanted, media_type)


def chosen(accepted: tuple[Range, ...]) -> str:
    """Return in which of two forms the cases are told; 406 for neither."""
    for each in accepted:
        for media_type in filter(each.takes, (_JSON, MEDIA_TYPE)):
            if not each.is_multipart:
                return media_type
    raise HTTPException(406, f"cases are {_JSON} or {MEDIA_TYPE}")


def _like_files(
    service: WebService, upload: Upload, wanted: WantedFields, media_type: str
) -> SimilarCases | DicomJson:
    identifier = query_of(Level.STUDY, wanted, {})
    answer = service.find.answer
    filters = replace(read_filters(identifier, answer), near_duplicate=answer.near_duplicate)
    scope = read_scope(identifier)
    if scope not in (Scope.ALL, Scope.OTHER_PATIENTS):
        raise QueryRefused("the scope of posted files is ALL or OTHER_PATIENTS")
    paths = upload.files()
    for number, path in enumerate(paths, start=1):
        try:
            read_file_header(path)
        except ObjectRefused as error:
            raise NotUnderstood(f"part {number}: {error.reason}") from error
    answering = service.find.current()
    model = answering.model
    example = embed_example(service.worker, paths, model_id=model.model_id, caller=EXAMPLE)
    ranking = similar_to_vectors(answering.search, example, filters)
    if media_type == MEDIA_TYPE:
        question = Question(study=example.study_instance_uid, scope=scope, filters=filters)
        asked = Asked(question, example.study_instance_uid, ranking, model.version)
        answers = case_answers(identifier, asked, service.find)
        return DicomJson([as_json(dataset_of(answer)) for _, answer in answers])
    return cases_of(ranking, model.version)


def cases_of(ranking: Ranking, encoder: str) -> SimilarCases:
    """Return a ranking as it is told in JSON."""
    names = [each.name for each in fields(SimilarCase)]
    cases = [SimilarCase(**{name: getattr(c, name) for name in names}) for c in ranking.cases]
    return SimilarCases(model_id=ranking.model_id, encoder=encoder, cases=cases)
