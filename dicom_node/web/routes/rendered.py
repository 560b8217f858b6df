"""Rendered objects and frames (PS3.18 10.4.1.1.3): the whole image, in its own size and window.

One frame is a picture, several are parts: no single picture stands for a loop or a stack.
"""

from typing import Annotated, Any

from fastapi import APIRouter, HTTPException, Query, Request
from fastapi.responses import Response

from dicom_node.answer.retrieve import KeptFile
from dicom_node.errors import NotUnderstood
from dicom_node.receive.header import PARSE_ERRORS, read_metadata
from dicom_node.web.accept import Accepted, Range
from dicom_node.web.failures import responses
from dicom_node.web.kept import kept_file
from dicom_node.web.multipart import Part, multipart
from dicom_node.web.pictures import (
    BINARY,
    FORMATS,
    Rendering,
    media_type_of,
    viewport_of,
    window_of,
)
from dicom_node.web.routes.frames import MAXIMUM_FRAMES, Numbers
from dicom_node.web.service import PICTURE, Service, Uid
from encoder.voi import Look

router = APIRouter(tags=["WADO-RS"])

_PICTURES: dict[int | str, dict[str, Any]] = {
    200: {"content": dict.fromkeys([*FORMATS, "multipart/related"], BINARY)},
    **responses(404, 406, 422),
}
_INSTANCE = "/studies/{study}/series/{series}/instances/{instance}"
_GREY = ("MONOCHROME1", "MONOCHROME2")

Wanted = Annotated[Rendering, Query()]


@router.get(f"{_INSTANCE}/rendered", response_class=Response, responses=_PICTURES)
def rendered_instance(
    request: Request,
    service: Service,
    accepted: Accepted,
    wanted: Wanted,
    study: Uid,
    series: Uid,
    instance: Uid,
) -> Response:
    """Return an object as a picture; one of several frames as parts, a picture each."""
    file = kept_file(service, study, series, instance)
    numbers = list(range(1, _frame_count(file, wanted) + 1))
    return _pictures(request, service, file, numbers, accepted, wanted)


@router.get(f"{_INSTANCE}/frames/{{frames}}/rendered", response_class=Response, responses=_PICTURES)
def rendered_frames(
    request: Request,
    service: Service,
    accepted: Accepted,
    wanted: Wanted,
    study: Uid,
    series: Uid,
    instance: Uid,
    frames: Numbers,
) -> Response:
    """Return frames, counted from 1, as pictures: `2,5`."""
    file = kept_file(service, study, series, instance)
    numbers = [int(number) for number in frames.split(",")]
    if max(numbers) > (count := _frame_count(file, wanted)):
        raise HTTPException(404, f"it has the frames 1 to {count}")
    return _pictures(request, service, file, numbers, accepted, wanted)


def _frame_count(file: KeptFile, wanted: Rendering) -> int:
    """Count the frames by the header; raises `HTTPException` 422, 400 for a window of colour."""
    try:
        header = read_metadata(file.path)
        count = int(header.get("NumberOfFrames") or 1)
        interpretation, rows = header.get("PhotometricInterpretation"), header.get("Rows")
    except (NotUnderstood, *PARSE_ERRORS) as error:
        raise HTTPException(422, "no picture: the header cannot be read") from error
    if not rows:
        raise HTTPException(422, "no picture: it has no pixels")
    if wanted.window and interpretation not in _GREY:
        raise HTTPException(400, "window: the image is in colour and has none")
    return count


def _pictures(
    request: Request,
    service: Service,
    file: KeptFile,
    numbers: list[int],
    accepted: tuple[Range, ...],
    wanted: Rendering,
) -> Response:
    media_type, in_parts = media_type_of(accepted, wanted, several=len(numbers) > 1)
    if len(numbers) > MAXIMUM_FRAMES:
        raise HTTPException(422, f"no pictures: more than {MAXIMUM_FRAMES} frames, ask for some")
    look = Look(
        format=FORMATS[media_type],
        viewport=viewport_of(wanted.viewport),
        window=window_of(wanted.window),
    )
    made = service.worker.render(file.path, numbers, look, caller=PICTURE)
    if not made.frames:
        raise HTTPException(422, f"no picture: {made.reason}")
    if not in_parts:
        return Response(made.frames[0], media_type=media_type)
    instance = str(request.url.path).partition("/frames")[0].removesuffix("/rendered")
    base = f"{str(request.base_url).rstrip('/')}{instance}/frames"
    parts = (
        Part(media_type, picture, f"{base}/{number}/rendered")
        for number, picture in zip(numbers, made.frames, strict=True)
    )
    return multipart(parts, media_type=media_type)
