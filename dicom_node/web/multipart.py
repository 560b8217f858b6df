"""Answers of several parts (RFC 2387, PS3.18 8.6.1.2): multipart/related, streamed."""

import secrets
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from fastapi.responses import StreamingResponse

_CHUNK_BYTES = 1 << 20


@dataclass(frozen=True, slots=True)
class Part:
    """One part: a file, or bytes."""

    content_type: str
    content: Path | bytes
    location: str = ""


def multipart(parts: Iterable[Part], *, media_type: str) -> StreamingResponse:
    """Return parts of this type as one answer; a file is read while it is sent."""
    boundary = secrets.token_hex(16)

    def body() -> Iterator[bytes]:
        for part in parts:
            head = f"--{boundary}\r\nContent-Type: {part.content_type}\r\n"
            if part.location:
                head += f"Content-Location: {part.location}\r\n"
            yield f"{head}\r\n".encode()
            yield from _chunks(part.content)
            yield b"\r\n"
        yield f"--{boundary}--\r\n".encode()

    said = f'multipart/related; type="{media_type}"; boundary={boundary}'
    return StreamingResponse(body(), media_type=said)


def _chunks(content: Path | bytes) -> Iterator[bytes]:
    if isinstance(content, bytes):
        yield content
        return
    with content.open("rb") as file:
        while chunk := file.read(_CHUNK_BYTES):
            yield chunk
