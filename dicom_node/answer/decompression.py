"""A kept image for a peer that does not take its transfer syntax: decompressed, else as it is.

The pixels are decoded by the embedding process, never in the node itself. What was lossy stays
said to be lossy.
"""

from pathlib import Path
from typing import Protocol

import structlog
from pydicom import dcmread, uid
from pydicom.dataset import Dataset

from dicom_node.errors import WorkerBusy, WorkerFailed, WorkerStopped, WorkerUnavailable
from dicom_node.log import fault_of
from dicom_node.receive.header import PARSE_ERRORS
from dicom_node.receive.turns import Caller
from dicom_node.receive.worker import Frames

log = structlog.get_logger()

_TURN = Caller(wait_s=20.0, limit_s=30.0)
_AT_ONCE_BYTES = 64 << 20  # decoded by one question, so that others have their turn
_MAXIMUM_BYTES = 1 << 30  # of one object, which is held in memory
_COMPRESSED = frozenset(
    {
        *uid.JPEGTransferSyntaxes,
        *uid.JPEGLSTransferSyntaxes,
        *uid.JPEG2000TransferSyntaxes,
        uid.HTJ2KLossless,
        uid.HTJ2KLosslessRPCL,
        uid.HTJ2K,
        uid.RLELossless,
    }
)
_ALWAYS_LOSSY = (uid.JPEGBaseline8Bit, uid.JPEGExtended12Bit, uid.JPEGLSNearLossless)


class FrameDecoder(Protocol):
    """Who decodes frames: the embedding process."""

    def frames(
        self, path: Path, numbers: list[int], *, decoded: bool, caller: Caller | None = None
    ) -> Frames:
        """Return the bytes of some frames, counted from 1, or a reason why there are none."""


def is_decompressible(transfer_syntax_uid: str) -> bool:
    """Tell whether images of a transfer syntax can be decompressed; videos cannot."""
    return transfer_syntax_uid in _COMPRESSED


def decompressed(path: Path, decoder: FrameDecoder) -> Dataset | None:
    """Return a kept object in Explicit VR Little Endian, None where it cannot be decoded now."""
    dataset = Dataset()
    try:
        dataset = dcmread(path)
        if "PixelData" in dataset:
            _put_pixels(dataset, _decoded(dataset, path, decoder))
        dataset.file_meta.TransferSyntaxUID = uid.ExplicitVRLittleEndian
    except (WorkerBusy, WorkerFailed, WorkerStopped, WorkerUnavailable) as error:
        reason = str(error)
    except PARSE_ERRORS as error:
        reason = fault_of(error)
    else:
        return dataset
    instance = str(dataset.get("SOPInstanceUID", ""))
    log.warning("not_decompressed", sop_instance_uid=instance, reason=reason)
    return None


def _decoded(dataset: Dataset, path: Path, decoder: FrameDecoder) -> bytes:
    """Return all frames, one behind the other; raises ValueError and what a worker raises."""
    pixels = dataset.Rows * dataset.Columns * dataset.SamplesPerPixel
    frame_bytes = pixels * dataset.BitsAllocated // 8
    count = int(dataset.get("NumberOfFrames") or 1)
    if not 0 < frame_bytes * count <= _MAXIMUM_BYTES:
        raise ValueError(f"{frame_bytes * count} bytes of pixels")
    step = max(1, _AT_ONCE_BYTES // frame_bytes)
    frames: list[bytes] = []
    for first in range(1, count + 1, step):
        numbers = list(range(first, min(first + step, count + 1)))
        found = decoder.frames(path, numbers, decoded=True, caller=_TURN)
        if found.reason:
            raise WorkerFailed(found.reason)
        frames += found.frames
    if [len(frame) for frame in frames] != [frame_bytes] * count:
        raise ValueError("frames of another size")
    padding = b"\0" * (frame_bytes * count % 2)
    return b"".join([*frames, padding])


def _put_pixels(dataset: Dataset, pixels: bytes) -> None:
    """Replace the pixel data, and what no longer holds of them (PS3.5 8.2, PS3.3 C.7.6.3)."""
    dataset.PixelData = pixels
    dataset["PixelData"].VR = "OW" if dataset.BitsAllocated > 8 else "OB"
    dataset["PixelData"].is_undefined_length = False
    dataset.HighBit = dataset.BitsStored - 1
    if dataset.SamplesPerPixel > 1:
        dataset.PhotometricInterpretation, dataset.PlanarConfiguration = "RGB", 0
    if dataset.file_meta.TransferSyntaxUID in _ALWAYS_LOSSY:
        dataset.LossyImageCompression = "01"
    # An icon may be compressed as well; viewers draw their own.
    for keyword in ("ExtendedOffsetTable", "ExtendedOffsetTableLengths", "IconImageSequence"):
        if keyword in dataset:
            del dataset[keyword]
