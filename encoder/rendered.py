"""Frames as pictures for people, whole and in their own size (PS3.18 8.3.5).

Owns: the pipeline from stored values to JPEG, PNG or GIF, and its limits. Does not own: decoding
(`codecs`), windows (`voi`), what the encoder sees of an image (`thumbnail`, `sheet`).
"""

from collections.abc import Iterator, Sequence
from io import BytesIO
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps
from pydicom import Dataset

from encoder.codecs import decode, index_frames
from encoder.errors import UnreadableImage
from encoder.headers import frame_count
from encoder.photometry import is_inverse, picture, rescaled, unpadded
from encoder.stored_frames import MAX_BYTES, frames_of
from encoder.voi import Look, Window, shown

MAX_PIXELS = 64 << 20  # of a frame
_JPEG_QUALITY = 90  # Pillow's 75 shows its blocks in smooth tissue


def rendered(path: Path, numbers: Sequence[int], look: Look) -> list[bytes]:
    """Return frames, counted from 1, as files of pictures; colour has no window.

    Raises UnreadableImage for a frame that is not there, one of more than `MAX_PIXELS`, more than
    `MAX_BYTES`, and what is damaged or not supported; OSError where the file cannot be opened.
    """
    files: list[bytes] = []
    with frames_of(path, numbers) as (dataset, indices):
        for image in _images(dataset, indices, look.window):
            files.append(_written(image, look))
            if sum(map(len, files)) > MAX_BYTES:
                limit = f"more than {MAX_BYTES >> 20} MiB; ask for fewer frames"
                raise UnreadableImage(str(dataset.SOPInstanceUID), limit)
    return files


def middle_image(path: Path) -> Image.Image:
    """Return the middle frame; raises as `rendered` does."""
    with frames_of(path, []) as (dataset, _):
        return next(_images(dataset, [frame_count(dataset) // 2], None))


def _images(
    dataset: Dataset, indices: Sequence[int], window: Window | None
) -> Iterator[Image.Image]:
    if dataset.Rows * dataset.Columns > MAX_PIXELS:
        limit = f"a frame of more than {MAX_PIXELS >> 20} million pixels"
        raise UnreadableImage(str(dataset.SOPInstanceUID), limit)
    index_frames(dataset)
    for index, stored in zip(indices, decode(dataset, indices), strict=True):
        yield Image.fromarray(_pixels(dataset, stored, index, window))


def _pixels(
    dataset: Dataset, stored: NDArray[np.generic], index: int, window: Window | None
) -> NDArray[np.uint8]:
    """Return (H, W), or (H, W, 3) as RGB."""
    if stored.ndim == 3 or dataset.PhotometricInterpretation == "PALETTE COLOR":
        colours = picture(dataset, stored, index).values
        return np.moveaxis(colours, 0, -1).round().astype(np.uint8)
    values = rescaled(dataset, stored, index)
    if window is not None:
        grey = window.apply(values)
    else:
        grey = shown(dataset, index, values, unpadded(dataset, stored))
    if is_inverse(dataset):
        grey = 1 - grey
    return (grey * 255).round().astype(np.uint8)


def _written(image: Image.Image, look: Look) -> bytes:
    """Write a picture, scaled to be as large as fits into the viewport (PS3.18 8.3.5.1.3)."""
    if look.viewport is not None:
        image = ImageOps.contain(image, look.viewport)
    file = BytesIO()
    image.save(file, look.format, quality=_JPEG_QUALITY)
    return file.getvalue()
