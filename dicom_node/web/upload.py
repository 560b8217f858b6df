"""The body of a request: received into a folder of its own, split into DICOM files, removed.

The folder lies in the data folder; what a killed node leaves there is removed at the next start.
Bodies are split here, since `email` holds them in memory several times over and python-multipart,
made for multipart/form-data, refuses the preamble and the padding that RFC 2046 5.1.1 allows.
"""

import mmap
import shutil
import tempfile
from collections.abc import AsyncIterator, Iterator
from contextlib import AbstractContextManager, asynccontextmanager, contextmanager
from dataclasses import dataclass
from email.message import Message
from pathlib import Path
from typing import Any

from fastapi import HTTPException, Request
from starlette.concurrency import run_in_threadpool

from dicom_node.errors import NotUnderstood, OutOfResources
from dicom_node.receive.store import check_room
from dicom_node.web.service import WebService

DICOM = "application/dicom"
_RELATED = "multipart/related"
_BINARY = {"schema": {"type": "string", "format": "binary"}}
# For the OpenAPI document: what a body may be.
CONTENT = {_RELATED: _BINARY, DICOM: _BINARY}
BODIES = {"requestBody": {"required": True, "content": CONTENT}}

_HEAD_BYTES = 16 << 10  # of a part
_MAXIMUM_PARTS = 100_000
_MAXIMUM_BOUNDARY = 70  # RFC 2046 5.1.1

Place = tuple[int, int]  # start and end of a part within the body


@dataclass(frozen=True, slots=True)
class Upload:
    """A body on disk; `boundary` is empty where it is one DICOM file."""

    folder: Path
    boundary: bytes
    maximum_object_bytes: int
    minimum_free_bytes: int

    @property
    def body(self) -> Path:
        """The file that holds it all."""
        return self.folder / "body"

    def places(self) -> Iterator[Place]:
        """Yield where the DICOM files lie, one after the other; raise `NotUnderstood`."""
        if not self.body.stat().st_size:
            raise NotUnderstood("the body is empty")
        with (
            self.body.open("rb") as file,
            mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as body,
        ):
            yield from _places(body, self.boundary)

    def read(self, place: Place) -> bytes:
        """Return one of the files; raise `NotUnderstood` where it is too large."""
        start, end = place
        if end - start > self.maximum_object_bytes:
            raise NotUnderstood("a part is larger than an object may be")
        with self.body.open("rb") as file:
            file.seek(start)
            return file.read(end - start)

    def append(self, chunk: bytes) -> None:
        """Write on; raise `OutOfResources`."""
        with self._writing(len(chunk)), self.body.open("ab") as file:
            file.write(chunk)

    def files(self) -> list[Path]:
        """Write each part to a file beside the body; the names are ours.

        Raises `NotUnderstood`, `OutOfResources`.
        """
        paths = []
        for number, place in enumerate(self.places(), start=1):
            path, part = self.folder / f"{number}.dcm", self.read(place)
            with self._writing(len(part)):
                path.write_bytes(part)
            paths.append(path)
        return paths

    def _writing(self, size_bytes: int) -> AbstractContextManager[None]:
        return _writing(self.folder, size_bytes, self.minimum_free_bytes)


@asynccontextmanager
async def received(request: Request, service: WebService) -> AsyncIterator[Upload]:
    """Receive a body and lend it; the disk is never waited for by others.

    Raises `HTTPException` 413 and 415, `NotUnderstood`, `OutOfResources`.
    """
    boundary = _boundary(request.headers.get("content-type", ""))
    limit = service.maximum_upload_bytes
    too_large = HTTPException(413, f"the body is larger than {limit >> 20} MiB")
    announced = request.headers.get("content-length", "")
    announced_bytes = int(announced) if announced.isdecimal() else 0
    if announced_bytes > limit:
        raise too_large
    upload = await run_in_threadpool(_begun, service, boundary, announced_bytes)
    try:
        size = 0
        async for chunk in request.stream():
            size += len(chunk)
            if size > limit:
                raise too_large
            # The last chunk is always an empty one: an empty body is a file too.
            await run_in_threadpool(upload.append, chunk)
        yield upload
    finally:
        await run_in_threadpool(shutil.rmtree, upload.folder, ignore_errors=True)


def _begun(service: WebService, boundary: bytes, announced_bytes: int) -> Upload:
    with _writing(service.uploads, announced_bytes, service.minimum_free_bytes):
        folder = Path(tempfile.mkdtemp(dir=service.uploads))
    return Upload(folder, boundary, service.maximum_object_bytes, service.minimum_free_bytes)


@contextmanager
def _writing(folder: Path, size_bytes: int, minimum_free_bytes: int) -> Iterator[None]:
    """Translate what the disk says where so much is to be written; raise `OutOfResources`."""
    try:
        check_room(folder, size_bytes, minimum_free_bytes)
        yield
    except OSError as error:
        raise OutOfResources(f"the upload cannot be written: {error.strerror}") from error


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
        raise HTTPException(415, f'send {_RELATED}; type="{DICOM}", or {DICOM}, or words as JSON')
    boundary = _parameter(header, "boundary")
    if not 0 < len(boundary) <= _MAXIMUM_BOUNDARY:
        raise NotUnderstood("the multipart body names no boundary")
    return boundary.encode()


def _parameter(header: Message, name: str) -> str:
    value: Any = header.get_param(name)
    return value if isinstance(value, str) else ""  # else in the form of RFC 2231


def _places(body: mmap.mmap, boundary: bytes) -> Iterator[Place]:
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
