"""How the parts of a clip are packed: slabs, frames and regions, in 8 bits a value.

Owns the bytes of a row. Does not own the rows (`part_vectors`) or any score (`rerank`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from index.errors import BadVector
from index.vectors import Vectors, unit_rows

MAX_PARTS = 32  # of one clip
_STEPS = 127
_PLACE = np.dtype("<i4")
_PLACE_FIELDS = 6  # number among the clip's sources (-1: unknown), frame, x, y, width, height
_NOWHERE = (-1, 0, 0, 0, 0, 0)


@dataclass(frozen=True, slots=True)
class PartPlace:
    """Where a part of a clip lies: a box of a stored frame, which counts from 1.

    `box` is x, y, width, height in pixels from the upper left; right to about a patch.
    """

    sop_instance_uid: str
    frame: int
    box: tuple[int, int, int, int]


@dataclass(frozen=True, slots=True, eq=False)
class ClipParts:
    """Unit vectors (P, D') of the parts of a clip, and the place of each, None where unknown."""

    vectors: NDArray[np.float32]
    places: tuple[PartPlace | None, ...]


@dataclass(frozen=True, slots=True)
class Packed:
    """P parts as they are stored: `vectors` are int8 (P, D), `places` int32 (P, 6)."""

    vectors: bytes
    places: bytes


def pack(parts: ClipParts, sources: Sequence[str]) -> Packed:
    """Pack parts of a clip made of these instances; raises BadVector for what is no unit row."""
    vectors = unit_rows(parts.vectors)
    if not 1 <= len(vectors) <= MAX_PARTS or len(parts.places) != len(vectors):
        raise BadVector(f"{len(vectors)} parts with {len(parts.places)} places")
    places = np.array([_numbers(place, sources) for place in parts.places], dtype=_PLACE)
    return Packed(quantised(vectors).tobytes(), places.tobytes())


def quantised(vectors: Vectors) -> NDArray[np.int8]:
    """Round rows (N, D) to whole steps of a 127th of each one's largest value.

    The direction is kept to half a step a value; the length is not, and does not matter to it.
    """
    largest = np.abs(vectors).max(axis=1, keepdims=True)
    steps: NDArray[np.int8] = np.rint(vectors / largest * _STEPS).astype(np.int8)
    return steps


def restored(steps: NDArray[np.int8]) -> Vectors:
    """Turn rows of steps (N, D) back into unit rows."""
    rows = steps.astype(np.float32)
    rows /= np.sqrt(np.einsum("nd,nd->n", rows, rows))[:, None]
    return rows


def unpacked(packed: Packed, sources: Sequence[str]) -> ClipParts:
    """Return what was packed, as near as 8 bits come."""
    steps = steps_of(packed.vectors, packed.places)
    return ClipParts(restored(steps), places_of(packed.places, sources))


def places_of(places: bytes, sources: Sequence[str]) -> tuple[PartPlace | None, ...]:
    """Return the places of a packed clip that was made of these instances."""
    rows = np.frombuffer(places, _PLACE).reshape(-1, _PLACE_FIELDS).tolist()
    return tuple(_place(numbers, sources) for numbers in rows)


def steps_of(vectors: bytes, places: bytes) -> NDArray[np.int8]:
    """Return packed vectors as rows of steps (P, D)."""
    parts = len(places) // (_PLACE_FIELDS * _PLACE.itemsize)
    return np.frombuffer(vectors, np.int8).reshape(parts, -1)


def _numbers(place: PartPlace | None, sources: Sequence[str]) -> tuple[int, ...]:
    if place is None or place.sop_instance_uid not in sources:
        return _NOWHERE
    return (sources.index(place.sop_instance_uid), place.frame, *place.box)


def _place(numbers: list[int], sources: Sequence[str]) -> PartPlace | None:
    source, frame, x, y, width, height = numbers
    if not 0 <= source < len(sources):
        return None
    return PartPlace(sources[source], frame, (x, y, width, height))
