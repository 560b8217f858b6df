"""STOW-RS (PS3.18 10.5): objects taken in by the same door as those of a C-STORE."""

from collections.abc import Callable
from functools import partial
from io import BytesIO
from typing import Any

from fastapi import APIRouter, Request
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence
from starlette.concurrency import run_in_threadpool

from dicom_node.errors import BadIdentity, NotUnderstood, ObjectRefused, OutOfResources
from dicom_node.receive.header import split_file
from dicom_node.receive.intake import Intake
from dicom_node.web.dicom_json import MEDIA_TYPE, DicomJson, as_json
from dicom_node.web.failures import LATER, responses
from dicom_node.web.service import Service, Uid, WebService
from dicom_node.web.upload import BODIES, Upload, received
from index.records import Header

router = APIRouter(tags=["STOW-RS"])

_RESULT = {"content": {MEDIA_TYPE: {"schema": {"type": "object"}}}}
_RESULTS: dict[int | str, dict[str, Any]] = {
    **responses(408, 413, 415, 507),
    200: _RESULT | {"description": "all objects are kept"},
    202: _RESULT | {"description": "some are, the others are named with a reason"},
    409: _RESULT | {"description": "none is"},
    503: _RESULT | {"description": "none is, for want of room; try again"},
}


@router.post("/studies", response_class=DicomJson, responses=_RESULTS, openapi_extra=BODIES)
async def store_objects(service: Service, request: Request) -> DicomJson:
    """Take objects in; they are on disk when this is answered."""
    return await _store(service, request, "")


@router.post("/studies/{study}", response_class=DicomJson, responses=_RESULTS, openapi_extra=BODIES)
async def store_objects_of_a_study(service: Service, request: Request, study: Uid) -> DicomJson:
    """Take objects of one study in, and refuse others."""
    return await _store(service, request, study)


async def _store(service: WebService, request: Request, study: str) -> DicomJson:
    source = f"http@{request.client.host if request.client else ''}"
    async with received(request, service) as upload:
        results = await run_in_threadpool(_take, service.intake, upload, study, source)
    return _answer(results, str(request.base_url))


class _Results:
    """What became of the objects of one request."""

    def __init__(self) -> None:
        self.kept: list[Header] = []
        self.left_out: list[Header] = []  # taken, but not kept: documents of a node itself
        self.refused: list[tuple[Header | None, ObjectRefused]] = []

    def __bool__(self) -> bool:
        return bool(self.kept or self.left_out or self.refused)


def _take(intake: Intake, upload: Upload, study: str, source: str) -> _Results:
    """Take in what can be split off; a body of which nothing can is refused as a whole."""
    results = _Results()
    try:
        for place in upload.places():
            _take_part(intake, partial(upload.read, place), study, source, results)
    except NotUnderstood as refusal:  # what follows cannot be told apart any more
        if not results:
            raise
        results.refused.append((None, refusal))
    if not results:
        raise NotUnderstood("the body holds no objects")
    return results


def _take_part(
    intake: Intake, read: Callable[[], bytes], study: str, source: str, results: _Results
) -> None:
    seen: list[Header] = []

    def check(header: Header) -> None:
        seen.append(header)
        if study and header.study_instance_uid != study:
            raise BadIdentity("of another study", keyword="StudyInstanceUID")

    try:
        meta, dataset = split_file(BytesIO(read()))
        receipt = intake.take(dataset, meta, source=source, check=check)
        (results.kept if receipt else results.left_out).extend(seen)
    except ObjectRefused as refusal:
        results.refused.append((seen[0] if seen else None, refusal))


def _answer(results: _Results, base_url: str) -> DicomJson:
    """Write the Store Instances Response (PS3.18 Annex I.2); reasons are C-STORE statuses.

    Only what is kept has a URL; elsewhere it is empty (type 2).
    """
    answer = Dataset()
    studies = {header.study_instance_uid for header in results.kept}
    answer.RetrieveURL = f"{base_url}studies/{studies.pop()}" if len(studies) == 1 else ""
    taken = [_taken(each, _url(each, base_url)) for each in results.kept]
    taken += [_taken(each, "") for each in results.left_out]
    if taken:
        answer.ReferencedSOPSequence = Sequence(taken)
    if results.refused:
        answer.FailedSOPSequence = Sequence(_refused(*each) for each in results.refused)
    return DicomJson(as_json(answer), **_status(results))


def _url(header: Header, base_url: str) -> str:
    series = f"studies/{header.study_instance_uid}/series/{header.series_instance_uid}"
    return f"{base_url}{series}/instances/{header.sop_instance_uid}"


def _taken(header: Header, url: str) -> Dataset:
    item = _reference(header)
    item.RetrieveURL = url
    return item


def _refused(header: Header | None, refusal: ObjectRefused) -> Dataset:
    item = _reference(header) if header is not None else Dataset()
    item.FailureReason = refusal.status
    return item


def _reference(header: Header) -> Dataset:
    item = Dataset()
    item.ReferencedSOPClassUID = header.sop_class_uid
    item.ReferencedSOPInstanceUID = header.sop_instance_uid
    return item


def _status(results: _Results) -> dict[str, Any]:
    if not results.refused:
        return {"status_code": 200}
    if results.kept or results.left_out:
        return {"status_code": 202}
    if all(isinstance(refusal, OutOfResources) for _, refusal in results.refused):
        return {"status_code": 503, "headers": LATER}
    return {"status_code": 409}
