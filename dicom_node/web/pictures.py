"""What is asked of a picture: media type, size, window (PS3.18 8.3.5, 8.7.4)."""

import re
from collections.abc import Iterable
from typing import Annotated, Any

from fastapi import HTTPException
from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from dicom_node.web.accept import ANYTHING, Range, ranges
from encoder.voi import Function, Window

FORMATS = {"image/jpeg": "JPEG", "image/png": "PNG", "image/gif": "GIF"}  # best first
SMALLEST_PX, LARGEST_PX = 16, 4096
BINARY: dict[str, Any] = {"schema": {"type": "string", "format": "binary"}}


def viewport_of(text: str) -> tuple[int, int] | None:
    """Return width and height, None where none are given; raises ValueError."""
    if not text:
        return None
    found = re.fullmatch(r"(\d{1,5}),(\d{1,5})", text, re.ASCII)
    size = (int(found[1]), int(found[2])) if found else (0, 0)
    if not all(SMALLEST_PX <= side <= LARGEST_PX for side in size):
        raise ValueError(f"width,height in pixels, each from {SMALLEST_PX} to {LARGEST_PX}")
    return size


def window_of(text: str) -> Window | None:
    """Return the window, None where none is given; raises ValueError."""
    if not text:
        return None
    number = r"[+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d{1,2})?"
    found = re.fullmatch(rf"({number}),({number}),([a-z-]+)", text[:80], re.ASCII)
    window = None
    if found and found[3] in set(Function):
        window = Window(float(found[1]), float(found[2]), Function(found[3]))
    if window is None or not window.is_valid:
        functions = ", ".join(Function)
        raise ValueError(f"center,width,function: two numbers, the width positive (linear: at "
                         f"least 1), and one of {functions}")  # fmt: skip
    return window


def _checked_viewport(text: str) -> str:
    viewport_of(text)
    return text


def _checked_window(text: str) -> str:
    window_of(text)
    return text


class Size(BaseModel):
    """The parameters of every picture; any other is refused, not ignored."""

    model_config = ConfigDict(extra="forbid")

    accept: str = Field("", description="media types, in place of those of the header Accept")
    viewport: Annotated[str, AfterValidator(_checked_viewport)] = Field(
        "",
        description=f"width,height: as large as fits into it; each {SMALLEST_PX} to {LARGEST_PX}",
    )


class Rendering(Size):
    """The parameters of rendered frames."""

    window: Annotated[str, AfterValidator(_checked_window)] = Field(
        "", description=f"center,width,function of a grey image: {', '.join(Function)}"
    )


def media_type_of(
    accepted: Iterable[Range], wanted: Size, *, several: bool = False
) -> tuple[str, bool]:
    """Return the media type of a picture and whether it comes in parts, as `several` must.

    Raises `HTTPException` 406.
    """
    for each in ranges(wanted.accept) if wanted.accept else accepted:
        in_parts = each.is_multipart or (several and each.media_type == ANYTHING)
        if in_parts or not several:
            for media_type in filter(each.takes, FORMATS):
                return media_type, in_parts
    known = " or ".join(FORMATS)
    raise HTTPException(
        406,
        f'several frames are multipart/related; type="image/jpeg"; one frame is {known}'
        if several
        else f"pictures are {known}",
    )
