"""Thumbnails (PS3.18 10.4.1.1.5): small pictures, each on a square.

An object is shown by its middle frame, cut and windowed as in the contact sheet.
"""

from io import BytesIO
from typing import Annotated, Any

from fastapi import APIRouter, HTTPException, Query
from fastapi.responses import Response
from PIL import Image

from dicom_node.answer.retrieve import KeptFile
from dicom_node.web.accept import Accepted, Range
from dicom_node.web.failures import responses
from dicom_node.web.kept import kept_files
from dicom_node.web.multipart import Part, multipart
from dicom_node.web.pictures import BINARY, FORMATS, Size, media_type_of, viewport_of
from dicom_node.web.service import PICTURE, Service, Uid, WebService

router = APIRouter(tags=["WADO-RS"])

_SIDE_PX = 128
_PICTURES: dict[int | str, dict[str, Any]] = {
    200: {"content": dict.fromkeys(FORMATS, BINARY)},
    **responses(404, 406, 422),
}
Wanted = Annotated[Size, Query()]


@router.get(
    "/studies/{study}/series/{series}/instances/{instance}/thumbnail",
    response_class=Response,
    responses=_PICTURES,
)
def instance_thumbnail(
    service: Service, accepted: Accepted, wanted: Wanted, study: Uid, series: Uid, instance: Uid
) -> Response:
    """Return an object as a small picture."""
    return _picture(service, kept_files(service, study, series, instance), accepted, wanted)


@router.get(
    "/studies/{study}/series/{series}/thumbnail", response_class=Response, responses=_PICTURES
)
def series_thumbnail(
    service: Service, accepted: Accepted, wanted: Wanted, study: Uid, series: Uid
) -> Response:
    """Return the middle object of a series as a small picture."""
    return _picture(service, kept_files(service, study, series, own=False), accepted, wanted)


@router.get("/studies/{study}/thumbnail", response_class=Response, responses=_PICTURES)
def study_thumbnail(service: Service, accepted: Accepted, wanted: Wanted, study: Uid) -> Response:
    """Return the middle object of a study as a small picture."""
    return _picture(service, kept_files(service, study, own=False), accepted, wanted)


def _picture(
    service: WebService, files: list[KeptFile], accepted: tuple[Range, ...], wanted: Size
) -> Response:
    media_type, in_parts = media_type_of(accepted, wanted)
    side_px = min(viewport_of(wanted.viewport) or (_SIDE_PX,))
    path = files[len(files) // 2].path
    shown = service.worker.thumbnail(path, side_px, of_another=False, caller=PICTURE)
    if not shown.pixels:
        raise HTTPException(422, f"no picture: {shown.reason}")
    written = BytesIO()
    Image.frombytes("RGB", (side_px, side_px), shown.pixels).save(written, FORMATS[media_type])
    if in_parts:
        return multipart([Part(media_type, written.getvalue())], media_type=media_type)
    return Response(written.getvalue(), media_type=media_type)
