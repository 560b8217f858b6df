"""Finds by its pixels what a picture shows, where no header says so: a breast, what moves.

Owns: the breast in its air, the part of an ultrasound loop that moves. Does not own: regions that
the header names, cutting to them (`regions`).
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import SimpleITK
from numpy.typing import NDArray
from pydicom import Dataset, uid

from encoder.origin import Box
from encoder.photometry import Picture
from encoder.regions import Tissue

sitk: Any = SimpleITK  # typed, but with most of its calls left untyped

_MAMMOGRAMS = frozenset(
    {
        uid.DigitalMammographyXRayImageStorageForPresentation,
        uid.BreastProjectionXRayImageStorageForPresentation,
    }
)
_RETIRED_ULTRASOUND_LOOP = "1.2.840.10008.5.1.4.1.1.3"
_LOOPS = frozenset({uid.UltrasoundMultiFrameImageStorage, _RETIRED_ULTRASOUND_LOOP})

_BREAST_BLOCKS = 256  # along the longer side: fine enough for skin, coarse enough for noise
_MOVING_BLOCKS = 64  # coarser, so that moving speckle closes up
_LEAST_CONTRAST = 0.05  # of the range between the darkest and the brightest hundredth
_LEAST_AREA = 0.05  # of the picture; less is no breast and no sector


def tissue(dataset: Dataset, pictures: Sequence[Picture]) -> Tissue | None:
    """Find what the pictures of one file show, None where all of it is to be kept."""
    box = None
    if dataset.SOPClassUID in _MAMMOGRAMS and len(pictures) == 1:
        box = breast(pictures[0])
    elif dataset.SOPClassUID in _LOOPS and dataset.get("BurnedInAnnotation") != "NO":
        box = moving(pictures)
    return None if box is None else Tissue((box,), None)


def breast(whole: Picture) -> Box | None:
    """Return the box around the breast, which is the largest connected region brighter than air.

    Air ends a twentieth of the range above the darkest hundredth. Side markers lie apart from the
    breast and are left out with the air.
    """
    values = whole.values[0]
    if whole.valid is not None:
        values = np.where(whole.valid, values, values[whole.valid].min())
    means, block = _blocks(values, _BREAST_BLOCKS)
    low, high = np.percentile(means, (1, 99))
    return _largest(means > low + _LEAST_CONTRAST * (high - low), block, values.shape, margin=0)


def moving(pictures: Sequence[Picture]) -> Box | None:
    """Return the box around the largest connected region that changes in the course of a loop.

    Names, scales and grey bars stand still. None where nothing changes.
    """
    loop = [picture.values.mean(axis=0) for picture in pictures]
    change = np.max(loop, axis=0) - np.min(loop, axis=0)
    means, block = _blocks(change, _MOVING_BLOCKS)
    return _largest(means > _LEAST_CONTRAST * means.max(), block, change.shape, margin=1)


def _blocks(values: NDArray[np.float32], most: int) -> tuple[NDArray[np.float32], int]:
    """Average square blocks, at most `most` along either side; also their size in pixels."""
    block = -(-max(values.shape) // most)
    padded = np.pad(values, [(0, -size % block) for size in values.shape], mode="edge")
    rows, columns = (size // block for size in padded.shape)
    return padded.reshape(rows, block, columns, block).mean(axis=(1, 3)), block


def _largest(
    inside: NDArray[np.bool_], block: int, shape: tuple[int, ...], *, margin: int
) -> Box | None:
    """Return the box, in pixels, of the largest connected region of blocks."""
    labels = sitk.ConnectedComponent(sitk.GetImageFromArray(inside.astype(np.uint8)))
    numbers = sitk.GetArrayFromImage(sitk.RelabelComponent(labels, sortByObjectSize=True))
    region = numbers == 1
    if region.mean() < _LEAST_AREA:
        return None
    rows, columns = (np.flatnonzero(region.any(axis=axis)) for axis in (1, 0))
    ends = [
        (max(int(places[0]) - margin, 0) * block, min((int(places[-1]) + 1 + margin) * block, size))
        for places, size in zip((rows, columns), shape, strict=True)
    ]
    return Box(*ends[0], *ends[1])
