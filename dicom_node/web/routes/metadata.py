"""Metadata of kept objects (PS3.18 10.4.1.1.2): their headers without pixels and long values."""

from collections.abc import Iterator
from typing import Any

from fastapi import APIRouter
from fastapi.responses import Response

from dicom_node.answer.retrieve import KeptFile
from dicom_node.errors import NotUnderstood
from dicom_node.receive.header import read_metadata
from dicom_node.web.dicom_json import DATA_SETS, as_json, streamed
from dicom_node.web.failures import responses
from dicom_node.web.kept import kept_file, kept_files
from dicom_node.web.service import Service, Uid

router = APIRouter(tags=["WADO-RS"])

_ANSWERS = DATA_SETS | responses(404)


@router.get("/studies/{study}/metadata", response_class=Response, responses=_ANSWERS)
def study_metadata(service: Service, study: Uid) -> Response:
    """Return the headers of a study's objects."""
    return streamed(_headers(kept_files(service, study)))


@router.get(
    "/studies/{study}/series/{series}/metadata", response_class=Response, responses=_ANSWERS
)
def series_metadata(service: Service, study: Uid, series: Uid) -> Response:
    """Return the headers of a series' objects."""
    return streamed(_headers(kept_files(service, study, series)))


@router.get(
    "/studies/{study}/series/{series}/instances/{instance}/metadata",
    response_class=Response,
    responses=_ANSWERS,
)
def instance_metadata(service: Service, study: Uid, series: Uid, instance: Uid) -> Response:
    """Return the header of an object, in an array of one."""
    return streamed(_headers([kept_file(service, study, series, instance)]))


def _headers(files: list[KeptFile]) -> Iterator[dict[str, Any]]:
    """Read one header after the other; of one that is damaged the UIDs are told."""
    for file in files:
        try:
            header = read_metadata(file.path)
        except NotUnderstood:
            header = file
        header.AvailableTransferSyntaxUID = file.transfer_syntax_uid
        yield as_json(header)
