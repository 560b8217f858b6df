"""QIDO-RS (PS3.18 10.6): what of the catalogue matches, by the matcher of C-FIND."""

from itertools import islice
from typing import Annotated, Any

from fastapi import APIRouter, Query, Request
from pydantic import BaseModel, Field
from pydicom.dataset import Dataset

from dicom_node.answer.element import dataset_of
from dicom_node.answer.identifier import LEVELS, UNIQUE_KEYS
from dicom_node.answer.query_retrieve import matches
from dicom_node.answer.response import PENDING, Responder
from dicom_node.errors import QueryRefused
from dicom_node.text import is_uid
from dicom_node.web.dicom_json import DATA_SETS, DicomJson, as_json
from dicom_node.web.keys import check_text, identifier_of, keyword_of, keywords_of
from dicom_node.web.service import Service, Uid, WebService
from index.attributes import ATTRIBUTES, Level
from index.matches import Match

router = APIRouter(tags=["QIDO-RS"])

MAXIMUM_RESULTS = 1000
# PS3.18 Tables 10.6.3-3 to 10.6.3-5, what the catalogue holds of them.
_STUDY_FIELDS = (
    "StudyDate", "StudyTime", "AccessionNumber", "InstanceAvailability", "ModalitiesInStudy",
    "ReferringPhysicianName", "PatientName", "PatientID", "PatientBirthDate", "PatientSex",
    "StudyInstanceUID", "StudyID", "NumberOfStudyRelatedSeries", "NumberOfStudyRelatedInstances",
)  # fmt: skip
_SERIES_FIELDS = (
    "StudyInstanceUID", "Modality", "SeriesDescription", "SeriesInstanceUID", "SeriesNumber",
    "NumberOfSeriesRelatedInstances",
)  # fmt: skip
_FIELDS = {
    Level.STUDY: _STUDY_FIELDS,
    Level.SERIES: _SERIES_FIELDS,
    Level.IMAGE: (
        "StudyInstanceUID", "SeriesInstanceUID", "SOPClassUID", "SOPInstanceUID",
        "InstanceAvailability", "InstanceNumber",
    ),
}  # fmt: skip

# Warnings of PS3.18 8.3.4, and one for what C-FIND answers with FF01.
_NOT_FUZZY = "The fuzzymatching parameter is not supported. Only literal matching was performed."
_LAST_OFFSET = 1 << 31
_MORE = "There are additional results that can be requested."
_NOT_SUPPORTED = "Some attributes are not supported: they were neither matched nor returned."


class Paging(BaseModel):
    """The parameters of a search that are no attributes; any other parameter is one."""

    limit: int = Field(MAXIMUM_RESULTS, ge=0, description=f"results, {MAXIMUM_RESULTS} at most")
    offset: int = Field(0, ge=0, le=_LAST_OFFSET, description="results left out")
    includefield: list[str] = Field([], description="further attributes; all: those kept")
    fuzzymatching: bool = Field(False, description="not supported: values match literally")


Page = Annotated[Paging, Query()]


@router.get("/studies", response_class=DicomJson, responses=DATA_SETS)
def search_studies(request: Request, service: Service, page: Page) -> DicomJson:
    """Search for studies."""
    return _search(request, service, Level.STUDY, page)


@router.get("/series", response_class=DicomJson, responses=DATA_SETS)
def search_series(request: Request, service: Service, page: Page) -> DicomJson:
    """Search for series of all studies."""
    return _search(request, service, Level.SERIES, page)


@router.get("/instances", response_class=DicomJson, responses=DATA_SETS)
def search_instances(request: Request, service: Service, page: Page) -> DicomJson:
    """Search for instances of all studies."""
    return _search(request, service, Level.IMAGE, page)


@router.get("/studies/{study}/series", response_class=DicomJson, responses=DATA_SETS)
def search_series_of_a_study(
    request: Request, service: Service, page: Page, study: Uid
) -> DicomJson:
    """Search for series of a study."""
    return _search(request, service, Level.SERIES, page, study)


@router.get("/studies/{study}/instances", response_class=DicomJson, responses=DATA_SETS)
def search_instances_of_a_study(
    request: Request, service: Service, page: Page, study: Uid
) -> DicomJson:
    """Search for instances of a study."""
    return _search(request, service, Level.IMAGE, page, study)


@router.get(
    "/studies/{study}/series/{series}/instances", response_class=DicomJson, responses=DATA_SETS
)
def search_instances_of_a_series(
    request: Request, service: Service, page: Page, study: Uid, series: Uid
) -> DicomJson:
    """Search for instances of a series."""
    return _search(request, service, Level.IMAGE, page, study, series)


def _search(
    request: Request, service: WebService, level: Level, page: Paging, *above: str
) -> DicomJson:
    """Answer a search below the study and series named `above`."""
    keys = dict(zip(UNIQUE_KEYS.values(), above, strict=False))
    told = _fields(level, page.includefield, named=len(above))
    for name, text in request.query_params.multi_items():
        if name in Paging.model_fields:
            continue
        keyword = keyword_of(name)
        if keyword in keys:
            raise QueryRefused(f"{keyword} is given twice", keyword=keyword)
        keys[keyword] = check_text(text)
    studies = _studies_of(service, level, keys)
    if studies is not None:
        keys["StudyInstanceUID"] = ",".join(studies)
    identifier = identifier_of(level, dict.fromkeys(told, "") | keys, {})
    limit = min(page.limit, MAXIMUM_RESULTS)
    stop = page.offset + limit + 1
    found = () if studies == () else matches(identifier, service.find.catalogue)
    responder = Responder(identifier, retrieve_ae_title=service.find.retrieve_ae_title)
    answers = [
        _told(dataset_of(responder.answer(match)), match, str(request.base_url))
        for match in islice(found, page.offset, stop)
    ]
    warnings = {
        _NOT_FUZZY: page.fuzzymatching,
        _NOT_SUPPORTED: responder.status != PENDING,
        _MORE: len(answers) > limit,
    }
    said = ", ".join(f'299 similis "{text}"' for text, holds in warnings.items() if holds)
    return DicomJson(answers[:limit], headers={"Warning": said} if said else None)


def _fields(level: Level, wanted: list[str], *, named: int) -> list[str]:
    """Return what is told: of the levels above too, unless the path names them."""
    if "all" in wanted:
        return [a.keyword for a in ATTRIBUTES if a.level in LEVELS[level]]
    levels = list(UNIQUE_KEYS)
    told = [keyword for each in levels[named : levels.index(level)] for keyword in _FIELDS[each]]
    return [*told, *_FIELDS[level], *keywords_of(wanted)]


def _studies_of(service: WebService, level: Level, keys: dict[str, str]) -> tuple[str, ...] | None:
    """Return the studies of the series or image that a search names; None where it names none.

    Without them it would go through all studies.
    """
    series = keys.get("SeriesInstanceUID", "")
    image = keys.get("SOPInstanceUID", "") if level is Level.IMAGE else ""
    named = {"series": series if is_uid(series) else "", "image": image if is_uid(image) else ""}
    if level is Level.STUDY or keys.get("StudyInstanceUID") or not any(named.values()):
        return None
    return service.find.catalogue.studies_with(**named)


def _told(answer: Dataset, match: Match, base_url: str) -> dict[str, Any]:
    """Return an answer of C-FIND as one of QIDO-RS: the URL in place of the level."""
    url = f"{base_url}studies/{match.study.study_instance_uid}"
    if match.series is not None:
        url += f"/series/{match.series.series_instance_uid}"
    if match.image is not None:
        url += f"/instances/{match.image.sop_instance_uid}"
    del answer.QueryRetrieveLevel
    answer.RetrieveURL = url
    return as_json(answer)
