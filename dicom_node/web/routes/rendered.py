"""Pictures for people (PS3.18 10.4.1.1.3 and 10.4.1.1.5): rendered objects and thumbnails.

An object is shown by its middle frame, cut and windowed as in the contact sheet, on a square.
"""

from dataclasses import dataclass
from io import BytesIO
from typing import Annotated, Any

from fastapi import APIRouter, Depends, HTTPException, Query
from fastapi.responses import Response
from PIL import Image

from dicom_node.answer.retrieve import KeptFile
from dicom_node.web.accept import Accepted
from dicom_node.web.failures import responses
from dicom_node.web.kept import kept_files
from dicom_node.web.service import PICTURE, Service, Uid, WebService

router = APIRouter(tags=["WADO-RS"])

_FORMATS = {"image/jpeg": "JPEG", "image/png": "PNG"}  # PS3.18 8.7.4: JPEG is the default
_PICTURE = {"schema": {"type": "string", "format": "binary"}}
_PICTURES: dict[int | str, dict[str, Any]] = {
    200: {"content": dict.fromkeys(_FORMATS, _PICTURE)},
    **responses(404, 406, 422),
}
_INSTANCE = "/studies/{study}/series/{series}/instances/{instance}"


@dataclass(frozen=True, slots=True)
class Look:
    """How a picture is wanted: a square, and its media type."""

    side_px: int
    media_type: str


@dataclass(frozen=True, slots=True)
class Looks:
    """The dependency that reads a `Look` from a request; `side_px` where no viewport is given."""

    side_px: int

    def __call__(
        self,
        accepted: Accepted,
        viewport: Annotated[
            str,
            Query(
                pattern=r"^(\d{1,4},\d{1,4})?$",
                description="width,height in pixels, at most 2048: the largest square that fits",
            ),
        ] = "",
    ) -> Look:
        """Raise `HTTPException` 400 and 406."""
        side_px = min(map(int, viewport.split(","))) if viewport else self.side_px
        if not 16 <= side_px <= 2048:
            raise HTTPException(400, "viewport: a width and a height from 16 to 2048")
        for each in accepted:
            for media_type in filter(each.takes, _FORMATS):
                return Look(side_px, media_type)
        raise HTTPException(406, f"pictures are {' or '.join(_FORMATS)}")


Rendered = Annotated[Look, Depends(Looks(512))]
Thumbnail = Annotated[Look, Depends(Looks(128))]


@router.get(f"{_INSTANCE}/rendered", response_class=Response, responses=_PICTURES)
def rendered_instance(
    service: Service, look: Rendered, study: Uid, series: Uid, instance: Uid
) -> Response:
    """Return an object as a picture."""
    return _picture(service, kept_files(service, study, series, instance), look)


@router.get(f"{_INSTANCE}/thumbnail", response_class=Response, responses=_PICTURES)
def instance_thumbnail(
    service: Service, look: Thumbnail, study: Uid, series: Uid, instance: Uid
) -> Response:
    """Return an object as a small picture."""
    return _picture(service, kept_files(service, study, series, instance), look)


@router.get(
    "/studies/{study}/series/{series}/thumbnail", response_class=Response, responses=_PICTURES
)
def series_thumbnail(service: Service, look: Thumbnail, study: Uid, series: Uid) -> Response:
    """Return the middle object of a series as a small picture."""
    return _picture(service, kept_files(service, study, series, own=False), look)


@router.get("/studies/{study}/thumbnail", response_class=Response, responses=_PICTURES)
def study_thumbnail(service: Service, look: Thumbnail, study: Uid) -> Response:
    """Return the middle object of a study as a small picture."""
    return _picture(service, kept_files(service, study, own=False), look)


def _picture(service: WebService, files: list[KeptFile], look: Look) -> Response:
    path = files[len(files) // 2].path
    shown = service.worker.thumbnail(path, look.side_px, of_another=False, caller=PICTURE)
    if not shown.pixels:
        raise HTTPException(422, f"no picture: {shown.reason}")
    written = BytesIO()
    image = Image.frombytes("RGB", (look.side_px, look.side_px), shown.pixels)
    image.save(written, _FORMATS[look.media_type])
    return Response(written.getvalue(), media_type=look.media_type)
