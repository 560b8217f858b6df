"""Frames as bytes for whoever asks: as the file holds them, or decoded.

Owns: where a frame lies in a file, and the form of decoded values. Does not own decoding
(`codecs`); nothing is windowed, cut or mirrored here.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from pydicom import Dataset, dcmread, uid
from pydicom.pixels.utils import get_expected_length

from encoder.codecs import DECODERS, PYAV, coded_frame, decode, index_frames
from encoder.errors import UnreadableImage
from encoder.headers import READ_ERRORS, frame_count, quiet, raise_if_missing

MAX_BYTES = 128 << 20  # of one answer


def stored_frames(path: Path, numbers: Sequence[int], *, decoded: bool) -> list[bytes]:
    """Return frames, counted from 1, as the file holds them or, `decoded`, in little endian.

    Decoded colour is RGB by pixel. Raises UnreadableImage for a frame that is not there, more than
    `MAX_BYTES`, and what is damaged or not supported; OSError where the file cannot be opened.
    """
    with frames_of(path, numbers, decoded=decoded) as (file, indices):
        return _frames(file, indices, decoded)


@contextmanager
def frames_of(
    path: Path, numbers: Sequence[int], *, decoded: bool = True
) -> Iterator[tuple[Dataset, list[int]]]:
    """Lend a file for its frames `numbers`, with their indices; raises as `stored_frames` does."""
    instance = ""
    with quiet():
        try:
            file = dcmread(path)
            instance = str(file.get("SOPInstanceUID", ""))
            yield file, _indices(file, numbers, decoded)
        except READ_ERRORS as error:
            raise_if_missing(error)
            raise UnreadableImage(instance, f"damaged pixels ({type(error).__name__})") from error


def _indices(file: Dataset, numbers: Sequence[int], decoded: bool) -> list[int]:
    instance, syntax = str(file.SOPInstanceUID), file.file_meta.TransferSyntaxUID
    if "PixelData" not in file:
        raise UnreadableImage(instance, "it has no pixels")
    if not all(1 <= number <= frame_count(file) for number in numbers):
        raise UnreadableImage(instance, f"it has the frames 1 to {frame_count(file)}")
    decoder = DECODERS.get(syntax)
    if decoder == PYAV or (decoder is None and decoded):
        raise UnreadableImage(instance, f"no frames can be taken out of transfer syntax {syntax}")
    return [number - 1 for number in numbers]


def _frames(file: Dataset, indices: list[int], decoded: bool) -> list[bytes]:
    instance, syntax = str(file.SOPInstanceUID), file.file_meta.TransferSyntaxUID
    coded = syntax not in uid.UncompressedTransferSyntaxes
    if coded and not decoded:
        index_frames(file)
        frames = [coded_frame(file, index) for index in indices]
    elif decoded and (coded or syntax == uid.ExplicitVRBigEndian):
        frames = _decoded(file, indices)
    else:
        frames = _native(file, indices)
    if sum(map(len, frames)) > MAX_BYTES:
        raise UnreadableImage(instance, f"more than {MAX_BYTES >> 20} MiB; ask for fewer frames")
    return frames


def _native(file: Dataset, indices: list[int]) -> list[bytes]:
    """Cut frames out of pixels that are not compressed; raises UnreadableImage for half bytes."""
    count = frame_count(file)
    if file.BitsAllocated == 1 and count > 1 and file.Rows * file.Columns % 8:
        raise UnreadableImage(str(file.SOPInstanceUID), "its frames do not begin at whole bytes")
    size = get_expected_length(file, unit="bytes") // count
    frames = [file.PixelData[index * size : (index + 1) * size] for index in indices]
    if any(len(frame) != size for frame in frames):
        raise ValueError("the pixels are cut off")
    return frames


def _decoded(file: Dataset, indices: list[int]) -> list[bytes]:
    pixels = file.Rows * file.Columns * file.SamplesPerPixel
    if pixels * file.BitsAllocated // 8 * len(indices) > MAX_BYTES:
        limit = f"more than {MAX_BYTES >> 20} MiB; ask for fewer frames"
        raise UnreadableImage(str(file.SOPInstanceUID), limit)
    little = (frame.astype(frame.dtype.newbyteorder("<")) for frame in decode(file, indices))
    return [np.ascontiguousarray(frame).tobytes() for frame in little]
