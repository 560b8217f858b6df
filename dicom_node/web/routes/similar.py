"""`GET …/similar`: the kept cases that look like a kept study or series, as C-FIND answers them."""

from collections.abc import Mapping
from typing import Annotated

from fastapi import APIRouter, Query
from pydantic import BaseModel, ConfigDict, Field

from dicom_node.answer import private
from dicom_node.answer.element import dataset_of
from dicom_node.answer.find import case_answers, find_cases
from dicom_node.answer.identifier import Identifier
from dicom_node.config import Scope
from dicom_node.web.dicom_json import DATA_SETS, DicomJson, as_json
from dicom_node.web.failures import responses
from dicom_node.web.keys import check_text, identifier_of, keywords_of
from dicom_node.web.service import Service, Uid, WebService
from index.attributes import Level
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
    identifier = asked(level, wanted, example)
    found = find_cases(identifier, service.find, is_listening=lambda: True)
    answers = case_answers(identifier, found, service.find)
    return DicomJson([as_json(dataset_of(answer)) for _, answer in answers])


def asked(
    level: Level, wanted: WantedFields, example: Mapping[private.PrivateElement, str]
) -> Identifier:
    """Return the identifier of a C-FIND that asks the same."""
    told = [*_FIELDS[level], *keywords_of(wanted.includefield)]
    keys = dict.fromkeys(told, "") | wanted.keys()
    return identifier_of(level, keys, wanted.own_keys() | dict(example))
