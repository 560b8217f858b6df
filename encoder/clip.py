"""The one value that carries pixels: a still, a volume or a cine as one array.

Owns: `Clip` and the words for what it is (`Kind`) and what its numbers mean (`Unit`).
Does not own: how it is read (`pixels`) or brought to a fixed size (`normalise`).
"""

from dataclasses import dataclass
from enum import StrEnum

import numpy as np
from numpy.typing import NDArray

from encoder.origin import Origin


class Kind(StrEnum):
    """What the T axis means: nothing, space or time."""

    STILL = "still"
    VOLUME = "volume"
    CINE = "cine"


class Unit(StrEnum):
    """What a pixel value means."""

    HOUNSFIELD = "hu"
    SUV = "suv"
    STORED = "stored"
    COLOUR = "colour"


@dataclass(frozen=True, slots=True)
class Clip:
    """One still, volume or cine.

    `array` is (C, T, H, W) with C = 1 or 3; `SUV` is uptake by body weight in g/ml, `STORED` an
    arbitrary grey scale, `COLOUR` RGB 0..255. `spacing` is the distance between neighbours along
    T, H and W: mm for H and W (1.0 where unknown); along T mm for a volume, seconds for a cine, 0.0
    for a still or where unknown. `valid` is (T, H, W), False where the scanner padded or what is
    shown is no image. `sources` are SOP Instance UIDs in the order of T, a multi-frame instance
    once. `decoder` names what decoded the pixels, several in the order of their names. `origin`
    says where they lie in the stored images, None where that is not known.
    """

    array: NDArray[np.float32]
    spacing: tuple[float, float, float]
    kind: Kind
    unit: Unit
    valid: NDArray[np.bool_] | None
    sources: tuple[str, ...]
    decoder: str = ""
    origin: Origin | None = None
