"""The body of a request: received into a folder of its own, split into DICOM files, removed.

The folder lies in the data folder; what a killed node leaves there is removed at the next start.
"""

import mmap
import shutil
import tempfile
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from email.message import Message
from pathlib import Path
from typing import Any

from fastapi import HTTPException, Request

from dicom_node.errors import NotUnderstood
from dicom_node.web.service import WebService

DICOM = "application/dicom"
_RELATED = "multipart/related"
_BINARY = {"schema": {"type": "string", "format": "binary"}}
# For the OpenAPI document: what a body may be.
BODIES = {"requestBody": {"required": True, "content": {_RELATED: _BINARY, DICOM: _BINARY}}}

_HEAD_BYTES = 16 << 10  # of a part
_MAXIMUM_PARTS = 100_000
_MAXIMUM_BOUNDARY = 70  # RFC 2046 5.1.1


@dataclass(frozen=True, slots=True)
class Upload:
    """A body on disk; `boundary` is empty where it is one DICOM file."""

    folder: Path
    boundary: bytes
    maximum_object_bytes: int

    @property
    def body(self) -> Path:
        """The file that holds it all."""
        return self.folder / "body"

    def parts(self) -> Iterator[bytes]:
        """Yield the DICOM files one after the other; raise `NotUnderstood`."""
        if not self.body.stat().st_size:
            raise NotUnderstood("the body is empty")
        with (
            self.body.open("rb") as file,
            mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as body,
        ):
            for start, end in _places(body, self.boundary):
                if end - start > self.maximum_object_bytes:
                    raise NotUnderstood("a part is larger than an object may be")
                yield body[start:end]

    def files(self) -> list[Path]:
        """Write each part to a file beside the body; the names are ours. Raises `NotUnderstood`."""
        paths = []
        for number, part in enumerate(self.parts(), start=1):
            path = self.folder / f"{number}.dcm"
            path.write_bytes(part)
            paths.append(path)
        return paths


@asynccontextmanager
async def received(request: Request, service: WebService) -> AsyncIterator[Upload]:
    """Receive a body and lend it; raises `HTTPException` 413 and 415, `NotUnderstood`."""
    boundary = _boundary(request.headers.get("content-type", ""))
    limit = service.maximum_upload_bytes
    too_large = HTTPException(413, f"the body is larger than {limit >> 20} MiB")
    announced = request.headers.get("content-length", "0")
    if announced.isdecimal() and int(announced) > limit:
        raise too_large
    folder = Path(tempfile.mkdtemp(dir=service.uploads))
    try:
        upload = Upload(folder, boundary, service.maximum_object_bytes)
        size = 0
        with upload.body.open("wb") as file:
            async for chunk in request.stream():
                size += len(chunk)
                if size > limit:
                    raise too_large
                file.write(chunk)
        yield upload
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def empty(uploads: Path) -> None:
    """Remove what a killed node has left."""
    for folder in uploads.iterdir():
        shutil.rmtree(folder, ignore_errors=True)


def _boundary(content_type: str) -> bytes:
    """Return the boundary of a multipart body of DICOM files, nothing for a single one."""
    header = Message()
    header["Content-Type"] = content_type.encode("ascii", "replace").decode()
    media_type = header.get_content_type()
    if media_type == DICOM:
        return b""
    parts_type = _parameter(header, "type") or DICOM
    if media_type != _RELATED or parts_type.lower() != DICOM:
        raise HTTPException(415, f'send {_RELATED}; type="{DICOM}", or {DICOM}')
    boundary = _parameter(header, "boundary")
    if not 0 < len(boundary) <= _MAXIMUM_BOUNDARY:
        raise NotUnderstood("the multipart body names no boundary")
    return boundary.encode()


def _parameter(header: Message, name: str) -> str:
    value: Any = header.get_param(name)
    return value if isinstance(value, str) else ""  # else in the form of RFC 2231


def _places(body: mmap.mmap, boundary: bytes) -> Iterator[tuple[int, int]]:
    """Yield where each part begins and ends (RFC 2046 5.1.1); raise `NotUnderstood`."""
    if not boundary:
        yield 0, len(body)
        return
    delimiter = b"\r\n--" + boundary
    at = 0 if body[: len(delimiter) - 2] == delimiter[2:] else body.find(delimiter) + 2
    if at == 1:
        raise NotUnderstood("the boundary is not in the body")
    for _ in range(_MAXIMUM_PARTS):
        head = at + len(delimiter) - 2
        if body[head : head + 2] == b"--":
            return
        start = body.find(b"\r\n\r\n", head, head + _HEAD_BYTES)
        end = body.find(delimiter, start + 2)
        if start < 0 or end < 0:
            raise NotUnderstood("the multipart body is cut off")
        yield start + 4, end
        at = end + 2
    raise NotUnderstood(f"more than {_MAXIMUM_PARTS} parts")
