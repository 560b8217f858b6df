"""How a grey picture is looked at: the window, or the table, that brings values to 0..1.

Owns: VOI transformations (PS3.3 C.11.2), and which one a file asks for. Does not own what values
mean (`photometry`). What is embedded is never windowed as its file says.
"""

from dataclasses import dataclass
from enum import StrEnum

import numpy as np
from numpy.typing import NDArray
from pydicom import Dataset
from pydicom.pixels.processing import apply_voi

from encoder.headers import floats, macro


class Function(StrEnum):
    """VOI LUT functions (PS3.3 C.11.2.1.2), as a URL writes them (PS3.18 8.3.5.1.4)."""

    LINEAR = "linear"
    LINEAR_EXACT = "linear-exact"
    SIGMOID = "sigmoid"


@dataclass(frozen=True, slots=True)
class Window:
    """A range of values, in what the modality transformation gives."""

    center: float
    width: float
    function: Function = Function.LINEAR

    @property
    def is_valid(self) -> bool:
        """Whether PS3.3 C.11.2.1.2 allows this width."""
        return self.width >= 1 if self.function is Function.LINEAR else self.width > 0

    def apply(self, values: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return values in 0..1."""
        center, width = self.center, self.width
        if self.function is Function.SIGMOID:
            exponent = np.clip(-4 * (values - center) / width, -80, 80)
            return np.asarray(1 / (1 + np.exp(exponent)), dtype=np.float32)
        if self.function is Function.LINEAR:
            center, width = center - 0.5, max(width - 1, 1e-6)
        return ((values - center) / width + 0.5).clip(0, 1).astype(np.float32)


@dataclass(frozen=True, slots=True, kw_only=True)
class Look:
    """How pictures are wanted: Pillow's name of the format, the box to fit, the window of greys."""

    format: str
    viewport: tuple[int, int] | None = None  # width and height; None for the size of the image
    window: Window | None = None  # None for that of the file


def declared(dataset: Dataset, index: int | None) -> Window | None:
    """Return the first window that the file gives a frame, None where it gives none of use."""
    lut = macro(dataset, "FrameVOILUTSequence", index)
    center, width = (np.atleast_1d(lut.get(f"Window{x}") or 0) for x in ("Center", "Width"))
    numbers = floats([center[0], width[0]], 2)
    name = str(lut.get("VOILUTFunction") or "LINEAR").lower().replace("_", "-")
    if numbers is None or name not in set(Function):
        return None
    window = Window(numbers[0], numbers[1], Function(name))
    return window if window.is_valid else None


def shown(
    dataset: Dataset, index: int, values: NDArray[np.float32], valid: NDArray[np.bool_] | None
) -> NDArray[np.float32]:
    """Bring values to 0..1 as the file asks: by window, by table, else from lowest to highest."""
    if window := declared(dataset, index):
        return window.apply(values)
    if dataset.get("VOILUTSequence"):
        count, first, bits = dataset.VOILUTSequence[0].LUTDescriptor
        entries = values.clip(first, first + (count or 2**16) - 1).astype(np.int32)
        looked_up = apply_voi(entries, dataset).astype(np.float32)
        return np.asarray(looked_up / (2**bits - 1), dtype=np.float32).clip(0, 1)
    real = values[valid] if valid is not None and valid.any() else values
    low, high = float(real.min()), float(real.max())
    return Window((low + high) / 2, (high - low) or 1.0, Function.LINEAR_EXACT).apply(values)
