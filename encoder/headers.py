"""Finds what describes one frame of a DICOM object, wherever the standard lets it stand.

Owns: silence and errors of damaged files, functional groups of enhanced objects, frame times.
Does not own: what the attributes mean for grouping (`series`) or for pixel values (`pixels`).
"""

import struct
import warnings
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL.Image import DecompressionBombError
from pydicom import Dataset
from pydicom.errors import BytesLengthException, InvalidDicomError

# What pydicom and its codecs raise on damaged or hostile files: bad lengths (struct, EOF, Index),
# missing or unparsable elements (Attribute, Key, Type, Value, Overflow), codec refusals (Runtime,
# NotImplemented, and OSError from Pillow), absurd sizes (Memory, Arithmetic, DecompressionBomb),
# a broken deflated stream (zlib). AssertionError and the two pydicom names are pydicom's own.
READ_ERRORS = (
    ArithmeticError,
    AssertionError,
    AttributeError,
    BytesLengthException,
    DecompressionBombError,
    EOFError,
    InvalidDicomError,
    LookupError,
    MemoryError,
    OSError,
    RuntimeError,
    TypeError,
    ValueError,
    struct.error,
    zlib.error,
)


def raise_if_missing(error: BaseException) -> None:
    """Raise an error of the file system again: it says nothing about what is in the file."""
    if isinstance(error, OSError) and error.errno is not None:
        raise error


MAX_FRAMES = 100_000  # an hour of video at 25 frames a second; a false number must not cost memory


@contextmanager
def quiet() -> Iterator[None]:
    """Silence what damaged files make pydicom (User) and NumPy (Runtime) warn of.

    pydicom quotes element values, and those may name a patient.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        warnings.simplefilter("ignore", RuntimeWarning)
        yield


def frame_count(dataset: Dataset) -> int:
    """Return Number of Frames, 1 where absent or empty (PS3.3 C.7.6.6); ValueError if absurd."""
    count = int(dataset.get("NumberOfFrames") or 1)
    if not 1 <= count <= MAX_FRAMES:
        raise ValueError(f"Number of Frames is {count}, the limit is {MAX_FRAMES}")
    return count


def macro(dataset: Dataset, sequence: str, index: int | None) -> Dataset:
    """Find the functional group macro of one frame: its own, else shared, else the dataset itself.

    So one question serves classic and enhanced objects (PS3.3 C.7.6.16).
    """
    per_frame = dataset.get("PerFrameFunctionalGroupsSequence") or []
    own = [per_frame[index]] if index is not None and index < len(per_frame) else []
    for group in [*own, *(dataset.get("SharedFunctionalGroupsSequence") or [])]:
        items = group.get(sequence)
        if items:
            first: Dataset = items[0]
            return first
    return dataset


def floats(value: Any, count: int) -> tuple[float, ...] | None:
    """Return exactly `count` finite numbers, or None where the attribute has none such."""
    if value is None or value == "":
        return None
    values = np.atleast_1d(np.asarray(value, dtype=np.float64))
    if values.shape != (count,) or not np.isfinite(values).all():
        return None
    return tuple(values.tolist())


def frame_times(dataset: Dataset, count: int | None = None) -> NDArray[np.float64] | None:
    """Give the time of each frame in seconds from the first, None where no rate is known.

    Order of belief: Frame Time and Frame Time Vector in ms (PS3.3 C.7.6.5), then Cine Rate and
    Recommended Display Frame Rate in frames a second. `count` stands in for Number of Frames.
    """
    if count is None:
        count = frame_count(dataset)
    numbers = np.arange(count, dtype=np.float64)
    if (step_ms := floats(dataset.get("FrameTime"), 1)) and step_ms[0] > 0:
        return numbers * (step_ms[0] / 1000)
    if steps_ms := floats(dataset.get("FrameTimeVector"), count):
        times = np.cumsum((0.0, *steps_ms[1:]), dtype=np.float64) / 1000
        if (np.diff(times) >= 0).all() and times[-1] > 0:
            return times
    for keyword in ("CineRate", "RecommendedDisplayFrameRate"):
        if (rate_hz := floats(dataset.get(keyword), 1)) and rate_hz[0] > 0:
            return numbers / rate_hz[0]
    return None


def evenly(times: NDArray[np.float64], most: int) -> list[int]:
    """Name at most `most` frames, those nearest to instants spread evenly from first to last."""
    targets = np.linspace(times[0], times[-1], min(len(times), most))
    return [int(np.abs(times - target).argmin()) for target in targets]
