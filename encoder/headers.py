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
from pydicom.tag import Tag

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


# From the fastest ultrasound (20,000 frames a second) to the slowest uptake study.
MIN_FRAME_S, MAX_FRAME_S = 5e-5, 3600.0
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


def macros(dataset: Dataset, sequence: str, index: int | None) -> list[Dataset]:
    """Find the functional group macro of one frame: its own, else shared, else of the dataset."""
    per_frame = dataset.get("PerFrameFunctionalGroupsSequence") or []
    own = [per_frame[index]] if index is not None and index < len(per_frame) else []
    for group in [*own, *(dataset.get("SharedFunctionalGroupsSequence") or []), dataset]:
        if items := group.get(sequence):
            return list(items)
    return []


def macro(dataset: Dataset, sequence: str, index: int | None) -> Dataset:
    """Return the first item of the macro of one frame, else the dataset itself.

    So one question serves classic and enhanced objects (PS3.3 C.7.6.16).
    """
    return next(iter(macros(dataset, sequence, index)), dataset)


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

    Order of belief: Frame Time and Frame Time Vector in ms, the one that Frame Increment Pointer
    names before the other (PS3.3 C.7.6.5), then Cine Rate and Recommended Display Frame Rate in
    frames a second. What no camera could do is passed over. `count` stands in for Number of Frames.
    """
    if count is None:
        count = frame_count(dataset)
    clocks = dict(_CLOCKS)
    if dataset.get("FrameIncrementPointer") == Tag("FrameTimeVector"):
        clocks = {"FrameTimeVector": _by_steps_ms, **clocks}
    for keyword, clock in clocks.items():
        times = clock(dataset.get(keyword), count)
        if times is not None:
            return times
    return None


def _by_step_ms(value: Any, count: int) -> NDArray[np.float64] | None:
    step_ms = floats(value, 1)
    if step_ms is None or not MIN_FRAME_S <= step_ms[0] / 1000 <= MAX_FRAME_S:
        return None
    return np.arange(count, dtype=np.float64) * (step_ms[0] / 1000)


def _by_steps_ms(value: Any, count: int) -> NDArray[np.float64] | None:
    """Add up the steps before each frame; that before the first has no meaning."""
    steps_ms = floats(value, count)
    if steps_ms is None:
        return None
    times = np.cumsum((0.0, *steps_ms[1:]), dtype=np.float64) / 1000
    steps = np.diff(times)
    possible = count > 1 and steps.min() >= 0 and steps.max() <= MAX_FRAME_S
    return times if possible and times[-1] >= (count - 1) * MIN_FRAME_S else None


def _by_rate_hz(value: Any, count: int) -> NDArray[np.float64] | None:
    rate_hz = floats(value, 1)
    return None if rate_hz is None or rate_hz[0] <= 0 else _by_step_ms(1000 / rate_hz[0], count)


_CLOCKS = {
    "FrameTime": _by_step_ms,
    "FrameTimeVector": _by_steps_ms,
    "CineRate": _by_rate_hz,
    "RecommendedDisplayFrameRate": _by_rate_hz,
}


def evenly(times: NDArray[np.float64], most: int) -> list[int]:
    """Name at most `most` frames, those nearest to instants spread evenly from first to last."""
    targets = np.linspace(times[0], times[-1], min(len(times), most))
    return [int(np.abs(times - target).argmin()) for target in targets]
