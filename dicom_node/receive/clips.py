"""What a worker is asked for and says of clips: regions, vectors, parts, faults.

Owns these values and how they are read from JSON and raw float32. Does not own the process
(`worker`).
"""

import re
from dataclasses import dataclass
from itertools import accumulate, pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from index.parts import ClipParts, PartPlace
from index.records import ClipRecord

Box = tuple[int, int, int, int]  # x, y, width, height in pixels
_BOX = re.compile(r"\s*([0-9]{1,9})\s*" + r",\s*([0-9]{1,9})\s*" * 3)


@dataclass(frozen=True, slots=True)
class Region:
    """A frame of an instance, counted from 1, and a box in it.

    None for all frames, and for all of a frame.
    """

    frame: int | None
    box: Box | None


def read_box(text: str) -> Box:
    """Read a box as users write it; ValueError for what is none."""
    if (sides := _BOX.fullmatch(text)) is None:
        raise ValueError("it is not x,y,width,height in pixels")
    x, y, width, height = map(int, sides.groups())
    return x, y, width, height


@dataclass(frozen=True, slots=True)
class Fault:
    """An instance that gave no clip, and why: skipped by its SOP class, or unreadable."""

    sop_instance_uid: str
    reason: str


@dataclass(frozen=True, slots=True)
class Embedded:
    """What became of the files of a series, and by which model."""

    model_id: str
    clips: tuple[ClipRecord, ...]
    skipped: tuple[Fault, ...]
    unreadable: tuple[Fault, ...]


def read_embedded(reply: dict[str, Any], data: bytes, *, model_id: str, dim: int) -> Embedded:
    """Understand what a worker says of clips; ValueError and the like where it makes no sense."""
    clips = reply["clips"]
    values, count = np.frombuffer(data, np.float32), len(clips) * dim
    rows = values[:count].reshape(len(clips), dim)
    ends = list(accumulate((len(clip["places"]) for clip in clips), initial=0))
    parts = values[count:].reshape(ends[-1], -1 if ends[-1] else 0)
    return Embedded(
        model_id=model_id,
        clips=tuple(
            _clip(clip, row, parts[start:stop])
            for clip, row, (start, stop) in zip(clips, rows, pairwise(ends), strict=True)
        ),
        skipped=tuple(Fault(**fault) for fault in reply["skipped"]),
        unreadable=tuple(Fault(**fault) for fault in reply["unreadable"]),
    )


def _clip(
    clip: dict[str, Any], vector: NDArray[np.float32], parts: NDArray[np.float32]
) -> ClipRecord:
    return ClipRecord(
        kind=clip["kind"],
        frames=clip["frames"],
        sources=tuple(clip["sources"]),
        vector=vector,
        decoder=clip["decoder"],
        parts=ClipParts(parts, tuple(map(_place, clip["places"]))),
    )


def _place(place: dict[str, Any] | None) -> PartPlace | None:
    if place is None:
        return None
    box = place["box"]
    top, left = box["top"], box["left"]
    x_y_width_height = (left, top, box["right"] - left, box["bottom"] - top)
    return PartPlace(place["sop_instance_uid"], place["frame"], x_y_width_height)
