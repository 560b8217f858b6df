"""Which frames a digital subtraction angiogram subtracts from which.

Owns: the masks that the header asks for (PS3.3 C.7.6.10), moving a mask. Does not own: decoding and
subtracting (`pixels`), the logarithm that must come before (`photometry`).
Left aside: Contrast Frame Averaging, which only smooths noise; the shifts of single frames in
enhanced objects (PS3.3 C.7.6.16.2.14), which a viewer applies to follow a moving patient.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from pydicom import Dataset, uid

from encoder.headers import floats, frame_count

ANGIOGRAMS: frozenset[str] = frozenset(
    {
        uid.XRayAngiographicImageStorage,
        uid.XRayRadiofluoroscopicImageStorage,
        uid.EnhancedXAImageStorage,
        uid.EnhancedXRFImageStorage,
    }
)


@dataclass(frozen=True, slots=True)
class Mask:
    """The mean of `frames` (numbers from 0), moved by `shift_px` down and to the right."""

    frames: tuple[int, ...]
    shift_px: tuple[float, float]


def masks(dataset: Dataset) -> dict[int, Mask]:
    """Give the mask of each frame that has one; nothing where the loop is to be seen as it is.

    That is no angiogram, Recommended Viewing Mode NAT, or no usable item. Of several items that
    hold for one frame the first counts. A mask outside the loop is none.
    """
    count = frame_count(dataset)
    is_native = dataset.get("RecommendedViewingMode") == "NAT"
    found: dict[int, Mask] = {}
    if dataset.get("SOPClassUID") not in ANGIOGRAMS or is_native or count == 1:
        return found
    for item in dataset.get("MaskSubtractionSequence") or []:
        down, left = floats(item.get("MaskSubPixelShift"), 2) or (0.0, 0.0)
        for frame, numbers in _pairs(item, count):
            if numbers and numbers[0] >= 0 and numbers[-1] < count:
                found.setdefault(frame, Mask(numbers, (down, -left)))
    return found


def _pairs(item: Dataset, count: int) -> Iterator[tuple[int, tuple[int, ...]]]:
    """Yield frames and the frames of their masks, in ascending order, as the operation says."""
    frames = _applicable(item, count)
    offset = int(item.get("TIDOffset") or 1)
    operation = item.get("MaskOperation")
    if operation == "AVG_SUB":
        numbers = np.unique(np.atleast_1d(item.get("MaskFrameNumbers") or [])).astype(int) - 1
        mask = tuple(numbers.tolist())  # one for all: a hostile loop has a thousand million pairs
        yield from ((frame, mask) for frame in frames)
    elif operation == "TID":
        yield from ((frame, (frame - offset,)) for frame in frames)
    elif operation == "REV_TID":  # time runs backwards: the mask goes back as the frame goes on
        yield from ((frame, (frame - offset - 2 * turn,)) for turn, frame in enumerate(frames))


def _applicable(item: Dataset, count: int) -> list[int]:
    """List the frames of an item: first and last of each range, counted from 1; else all."""
    ends = np.atleast_1d(item.get("ApplicableFrameRange") or []).astype(int).tolist()
    if not ends:
        return list(range(count))
    ranges = zip(ends[::2], ends[1::2], strict=False)
    inside = {
        frame for first, last in ranges for frame in range(max(first, 1), min(last, count) + 1)
    }
    return [frame - 1 for frame in sorted(inside)]


def moved(values: NDArray[np.float32], shift_px: tuple[float, float]) -> NDArray[np.float32]:
    """Move a picture (C, H, W) down and to the right, linear between pixels; its edge repeats."""
    for axis, shift in ((1, shift_px[0]), (2, shift_px[1])):
        whole = int(np.floor(shift))
        share = np.float32(shift - whole)
        places = np.arange(values.shape[axis]) - whole
        near, far = (values.take(places - n, axis, mode="clip") for n in (0, 1))
        values = near * (1 - share) + far * share
    return values
