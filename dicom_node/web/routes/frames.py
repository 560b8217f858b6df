"""Frames (PS3.18 10.4.1.1.6): as they are kept, or uncompressed by the embedding process."""

from typing import Annotated, Any

from fastapi import APIRouter, HTTPException
from fastapi import Path as PathParameter
from fastapi.responses import Response
from pydicom import uid

from dicom_node.answer.retrieve import KeptFile
from dicom_node.web.accept import Accepted
from dicom_node.web.failures import responses
from dicom_node.web.kept import kept_file
from dicom_node.web.multipart import Part, multipart
from dicom_node.web.service import PICTURE, Service, Uid

router = APIRouter(tags=["WADO-RS"])

OCTETS = "application/octet-stream"
MAXIMUM_FRAMES = 1000  # of one request
# PS3.18 Table 8.7.3-5.
_MEDIA_TYPES: dict[str, str] = {
    uid.JPEGBaseline8Bit: "image/jpeg",
    uid.JPEGExtended12Bit: "image/jpeg",
    uid.JPEGLossless: "image/jpeg",
    uid.JPEGLosslessSV1: "image/jpeg",
    uid.RLELossless: "image/dicom-rle",
    uid.JPEGLSLossless: "image/jls",
    uid.JPEGLSNearLossless: "image/jls",
    uid.JPEG2000Lossless: "image/jp2",
    uid.JPEG2000: "image/jp2",
    uid.HTJ2KLossless: "image/jphc",
    uid.HTJ2KLosslessRPCL: "image/jphc",
    uid.HTJ2K: "image/jphc",
}
_FRAMES: dict[int | str, dict[str, Any]] = {
    200: {"content": {"multipart/related": {"schema": {"type": "string", "format": "binary"}}}},
    **responses(404, 406, 422),
}

Numbers = Annotated[str, PathParameter(pattern=r"^[1-9]\d{0,8}(,[1-9]\d{0,8})*$", max_length=8000)]


@router.get(
    "/studies/{study}/series/{series}/instances/{instance}/frames/{frames}",
    response_class=Response,
    responses=_FRAMES,
)
def retrieve_frames(
    service: Service,
    accepted: Accepted,
    study: Uid,
    series: Uid,
    instance: Uid,
    frames: Numbers,
) -> Response:
    """Retrieve frames, counted from 1: `2,5`.

    They come as they are kept where the client takes that, else uncompressed, little endian.
    """
    numbers = [int(number) for number in frames.split(",")]
    if len(numbers) > MAXIMUM_FRAMES:
        raise HTTPException(400, f"at most {MAXIMUM_FRAMES} frames at once")
    file = kept_file(service, study, series, instance)
    media_type, decoded = _chosen(file, accepted)
    found = service.worker.frames(file.path, numbers, decoded=decoded, caller=PICTURE)
    if not found.frames:
        raise HTTPException(422, f"these frames cannot be given: {found.reason}")
    syntax = uid.ExplicitVRLittleEndian if decoded else file.transfer_syntax_uid
    said = f"{media_type}; transfer-syntax={syntax}"
    return multipart((Part(said, frame) for frame in found.frames), media_type=media_type)


def _chosen(file: KeptFile, accepted: Accepted) -> tuple[str, bool]:
    """Return the media type of the answer, and whether it is decoded; `HTTPException` 406."""
    kept = str(file.transfer_syntax_uid)
    media_type = _MEDIA_TYPES.get(kept, OCTETS)
    plain = uid.ExplicitVRLittleEndian
    for each in accepted:
        if each.takes(media_type, kept) and each.transfer_syntax in _as_kept(media_type, kept):
            return media_type, False
        if each.takes(OCTETS, kept) and each.transfer_syntax in ("*", kept):
            return OCTETS, False
        if each.takes(OCTETS, plain) and each.transfer_syntax in ("", plain):
            return OCTETS, True
    raise HTTPException(406, f"frames are {media_type} as kept, or {OCTETS} uncompressed")


def _as_kept(media_type: str, kept: str) -> frozenset[str]:
    """Return what may be asked for to get frames as they are; octets alone mean uncompressed."""
    return frozenset({"*", kept} if media_type == OCTETS else {"", "*", kept})
