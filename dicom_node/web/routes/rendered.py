"""Pictures for people (PS3.18 10.4.1.1.3 and 10.4.1.1.5): rendered objects and thumbnails.

An object is shown by its middle frame, cut and windowed as in the contact sheet, on a square.
"""

from io import BytesIO
from typing import Annotated, Any

from fastapi import APIRouter, HTTPException, Query
from fastapi.responses import Response
from PIL import Image

from dicom_node.answer.retrieve import KeptFile
from dicom_node.web.accept import ranges
from dicom_node.web.failures import responses
from dicom_node.web.kept import kept_files
from dicom_node.web.routes.retrieve import Accept
from dicom_node.web.service import Service, Uid, WebService

router = APIRouter(tags=["WADO-RS"])

_FORMATS = {"image/jpeg": "JPEG", "image/png": "PNG"}  # PS3.18 8.7.4: JPEG is the default
_RENDERED_PX, _THUMBNAIL_PX = 512, 128
_PICTURE = {"schema": {"type": "string", "format": "binary"}}
_PICTURES: dict[int | str, dict[str, Any]] = {
    200: {"content": dict.fromkeys(_FORMATS, _PICTURE)},
    **responses(404, 406, 422),
}
_INSTANCE = "/studies/{study}/series/{series}/instances/{instance}"

Viewport = Annotated[
    str, Query(pattern=r"^(\d{1,4},\d{1,4})?$", description="width,height in pixels, at most 2048")
]


@router.get(f"{_INSTANCE}/rendered", response_class=Response, responses=_PICTURES)
def rendered_instance(
    service: Service,
    study: Uid,
    series: Uid,
    instance: Uid,
    viewport: Viewport = "",
    accept: Accept = "*/*",
) -> Response:
    """Return an object as a picture."""
    side_px = _side_px(viewport, _RENDERED_PX)
    return _picture(service, kept_files(service, study, series, instance), side_px, accept)


@router.get(f"{_INSTANCE}/thumbnail", response_class=Response, responses=_PICTURES)
def instance_thumbnail(
    service: Service,
    study: Uid,
    series: Uid,
    instance: Uid,
    viewport: Viewport = "",
    accept: Accept = "*/*",
) -> Response:
    """Return an object as a small picture."""
    side_px = _side_px(viewport, _THUMBNAIL_PX)
    return _picture(service, kept_files(service, study, series, instance), side_px, accept)


@router.get(
    "/studies/{study}/series/{series}/thumbnail", response_class=Response, responses=_PICTURES
)
def series_thumbnail(
    service: Service, study: Uid, series: Uid, viewport: Viewport = "", accept: Accept = "*/*"
) -> Response:
    """Return the middle object of a series as a small picture."""
    side_px = _side_px(viewport, _THUMBNAIL_PX)
    return _picture(service, kept_files(service, study, series, own=False), side_px, accept)


@router.get("/studies/{study}/thumbnail", response_class=Response, responses=_PICTURES)
def study_thumbnail(
    service: Service, study: Uid, viewport: Viewport = "", accept: Accept = "*/*"
) -> Response:
    """Return the middle object of a study as a small picture."""
    side_px = _side_px(viewport, _THUMBNAIL_PX)
    return _picture(service, kept_files(service, study, own=False), side_px, accept)


def _side_px(viewport: str, default: int) -> int:
    """Return the side of the largest square that fits; raises `HTTPException` 400."""
    side_px = min(int(part) for part in viewport.split(",")) if viewport else default
    if not 16 <= side_px <= 2048:
        raise HTTPException(400, "viewport: a width and a height from 16 to 2048")
    return side_px


def _picture(service: WebService, files: list[KeptFile], side_px: int, accept: str) -> Response:
    taken = ranges(accept)
    wanted = next((m for each in taken for m in _FORMATS if each.takes(m)), None)
    if wanted is None:
        raise HTTPException(406, f"pictures are {' or '.join(_FORMATS)}")
    path = files[len(files) // 2].path
    shown = service.worker.thumbnail(path, side_px, of_another=False)
    if not shown.pixels:
        raise HTTPException(422, f"no picture: {shown.reason}")
    written = BytesIO()
    image = Image.frombytes("RGB", (side_px, side_px), shown.pixels)
    image.save(written, _FORMATS[wanted])
    return Response(written.getvalue(), media_type=wanted)
