"""WADO-RS (PS3.18 10.4): kept objects, byte for byte, in the transfer syntax they came in."""

from typing import Any

from fastapi import APIRouter, HTTPException
from fastapi.responses import FileResponse, Response

from dicom_node.answer.retrieve import KeptFile
from dicom_node.web.accept import Accepted, Range
from dicom_node.web.failures import responses
from dicom_node.web.kept import kept_file, kept_files
from dicom_node.web.multipart import Part, multipart
from dicom_node.web.service import Service, Uid
from dicom_node.web.upload import DICOM

router = APIRouter(tags=["WADO-RS"])

_BINARY = {"schema": {"type": "string", "format": "binary"}}
_OBJECTS: dict[int | str, dict[str, Any]] = {
    200: {"content": {"multipart/related": _BINARY}},
    **responses(404, 406),
}
_OBJECT = _OBJECTS | {200: {"content": {"multipart/related": _BINARY, DICOM: _BINARY}}}


@router.get("/studies/{study}", response_class=Response, responses=_OBJECTS)
def retrieve_study(service: Service, accepted: Accepted, study: Uid) -> Response:
    """Retrieve the objects of a study, the reports of this node among them."""
    return _objects(kept_files(service, study), accepted)


@router.get("/studies/{study}/series/{series}", response_class=Response, responses=_OBJECTS)
def retrieve_series(service: Service, accepted: Accepted, study: Uid, series: Uid) -> Response:
    """Retrieve the objects of a series."""
    return _objects(kept_files(service, study, series), accepted)


@router.get(
    "/studies/{study}/series/{series}/instances/{instance}",
    response_class=Response,
    responses=_OBJECT,
)
def retrieve_instance(
    service: Service, accepted: Accepted, study: Uid, series: Uid, instance: Uid
) -> Response:
    """Retrieve an object; alone, as a file, where `application/dicom` is preferred."""
    file = kept_file(service, study, series, instance)
    for best in accepted[:1]:
        if best.media_type == DICOM and not best.is_multipart and _takes(best, file):
            return FileResponse(file.path, media_type=DICOM)
    return _objects([file], accepted)


def _objects(files: list[KeptFile], accepted: Accepted) -> Response:
    if not all(any(_takes(each, file) for each in accepted) for file in files):
        raise HTTPException(
            406, f'objects go out as they are kept: multipart/related; type="{DICOM}"; '
            "transfer-syntax=*"
        )  # fmt: skip
    parts = (
        Part(f"{DICOM}; transfer-syntax={file.transfer_syntax_uid}", file.path) for file in files
    )
    return multipart(parts, media_type=DICOM)


def _takes(accepted: Range, file: KeptFile) -> bool:
    kept = str(file.transfer_syntax_uid)
    return accepted.takes(DICOM, kept) and accepted.transfer_syntax in ("", "*", kept)
