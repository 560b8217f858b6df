"""WADO-RS (PS3.18 10.4): kept objects, byte for byte, in the transfer syntax they came in."""

from typing import Annotated, Any

from fastapi import APIRouter, Header, HTTPException
from fastapi.responses import FileResponse, Response

from dicom_node.answer.retrieve import KeptFile
from dicom_node.web.accept import Range, ranges
from dicom_node.web.failures import responses
from dicom_node.web.kept import kept_file, kept_files
from dicom_node.web.multipart import Part, multipart
from dicom_node.web.service import Service, Uid
from dicom_node.web.upload import DICOM

router = APIRouter(tags=["WADO-RS"])

Accept = Annotated[str, Header(description="a transfer-syntax is the one it is kept in, or *")]

_BINARY = {"schema": {"type": "string", "format": "binary"}}
_OBJECTS: dict[int | str, dict[str, Any]] = {
    200: {"content": {"multipart/related": _BINARY}},
    **responses(404, 406),
}
_OBJECT = _OBJECTS | {200: {"content": {"multipart/related": _BINARY, DICOM: _BINARY}}}


@router.get("/studies/{study}", response_class=Response, responses=_OBJECTS)
def retrieve_study(service: Service, study: Uid, accept: Accept = "*/*") -> Response:
    """Retrieve the objects of a study, the reports of this node among them."""
    return _objects(kept_files(service, study), accept)


@router.get("/studies/{study}/series/{series}", response_class=Response, responses=_OBJECTS)
def retrieve_series(service: Service, study: Uid, series: Uid, accept: Accept = "*/*") -> Response:
    """Retrieve the objects of a series."""
    return _objects(kept_files(service, study, series), accept)


@router.get(
    "/studies/{study}/series/{series}/instances/{instance}",
    response_class=Response,
    responses=_OBJECT,
)
def retrieve_instance(
    service: Service, study: Uid, series: Uid, instance: Uid, accept: Accept = "*/*"
) -> Response:
    """Retrieve an object; alone, as a file, where `application/dicom` is preferred."""
    file = kept_file(service, study, series, instance)
    best = ranges(accept)[0]
    if best.media_type == DICOM and not best.is_multipart and _takes(best, file):
        return FileResponse(file.path, media_type=DICOM)
    return _objects([file], accept)


def _objects(files: list[KeptFile], accept: str) -> Response:
    taken = ranges(accept)
    if not all(any(_takes(each, file) for each in taken) for file in files):
        raise HTTPException(
            406, f'objects go out as they are kept: multipart/related; type="{DICOM}"; '
            "transfer-syntax=*"
        )  # fmt: skip
    parts = (
        Part(f"{DICOM}; transfer-syntax={file.transfer_syntax_uid}", file.path) for file in files
    )
    return multipart(parts, media_type=DICOM)


def _takes(accepted: Range, file: KeptFile) -> bool:
    syntaxes = ("", "*", str(file.transfer_syntax_uid))
    return accepted.takes(DICOM) and accepted.transfer_syntax in syntaxes
