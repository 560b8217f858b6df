"""From the bytes of the pixel data element to stored values, one decoder a transfer syntax.

Owns: which decoder reads which syntax, the decoding of still frames, unused bits.
Does not own: video streams (`video`), what stored values mean (`photometry`).
"""

import os
import struct
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import SimpleITK
from numpy.typing import NDArray
from pydicom import Dataset, uid
from pydicom.dataset import FileMetaDataset
from pydicom.encaps import (
    encapsulate,
    encapsulate_extended,
    generate_frames,
    get_frame,
    parse_basic_offsets,
)
from pydicom.pixels.utils import iter_pixels

from encoder.headers import frame_count

sitk: Any = SimpleITK  # typed, but with most of its calls left untyped

SIMPLEITK, PYAV = "simpleitk", "pyav"

# One decoder a transfer syntax, so that a vector does not depend on what else is installed.
# "" is pydicom itself, for pixels that are not compressed. RLE is pydicom's too: pylibjpeg's is
# faster, but a damaged frame makes it panic, which no except clause for errors catches. The other
# names are pydicom's plugins but two: SimpleITK carries GDCM, the one free decoder of JPEG Lossless
# and 12 bit JPEG, and for JPEG 2000 a faster one than pylibjpeg, since it lets other threads run;
# PyAV reads video.
DECODERS: dict[str, str] = {
    uid.ImplicitVRLittleEndian: "",
    uid.ExplicitVRLittleEndian: "",
    uid.ExplicitVRBigEndian: "",
    uid.DeflatedExplicitVRLittleEndian: "",
    uid.JPEGBaseline8Bit: "pillow",
    uid.JPEGExtended12Bit: SIMPLEITK,
    uid.JPEGLossless: SIMPLEITK,
    uid.JPEGLosslessSV1: SIMPLEITK,
    uid.JPEGLSLossless: "pyjpegls",
    uid.JPEGLSNearLossless: "pyjpegls",
    uid.JPEG2000Lossless: SIMPLEITK,
    uid.JPEG2000: SIMPLEITK,
    uid.HTJ2KLossless: "pylibjpeg",
    uid.HTJ2KLosslessRPCL: "pylibjpeg",
    uid.HTJ2K: "pylibjpeg",
    uid.RLELossless: "pydicom",
    **dict.fromkeys(uid.MPEGTransferSyntaxes, PYAV),
}


def decoder_name(transfer_syntax_uid: str) -> str:
    """Name what decodes a transfer syntax, as provenance; pydicom also where nothing is coded."""
    return DECODERS[transfer_syntax_uid] or "pydicom"


_COLOURS = frozenset({"RGB", "YBR_FULL", "YBR_FULL_422", "YBR_RCT", "YBR_ICT"})
# ITU-T T.81 B.1.1.3: C0..CF start a frame, but for C4 (DHT), C8 (JPG) and CC (DAC). T.87 C.1.1
# adds F7 for JPEG-LS.
_START_OF_FRAME = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC} | {0xF7}
_START_OF_SCAN = 0xDA
_J2K_SIZE = b"\xff\x4f\xff\x51"  # a codestream starts with SOC and SIZ (ITU-T T.800 A.4, A.5.1)


def decode(dataset: Dataset, indices: Sequence[int]) -> Iterator[NDArray[np.generic]]:
    """Decode still frames in the order asked for: (H, W), or (H, W, 3) as RGB.

    Where the dataset was read without its pixels, only the frames asked for are read from its file.
    Bits that do not belong to the sample, such as overlays, are cleared or follow its sign.
    Raises one of `headers.READ_ERRORS` where the data are damaged.
    """
    plugin = DECODERS[dataset.file_meta.TransferSyntaxUID]
    if plugin == SIMPLEITK:
        frames: Iterator[NDArray[Any]] = (_by_gdcm(dataset, index) for index in indices)
    else:
        source = dataset if "PixelData" in dataset else dataset.filename
        if image_of := _IMAGES.get(plugin):
            _refuse_other_sizes(dataset, indices, image_of)
        frames = iter_pixels(
            source, indices=list(indices), decoding_plugin=plugin, correct_unused_bits=False
        )
    for frame in frames:
        yield frame if frame.ndim == 3 else _sample_bits(dataset, frame)


def decodes_beside_others(dataset: Dataset) -> bool:
    """Say whether the decoder lets other threads run, so that two of them are worth their start.

    Measured by `make bench-read`: the others were slower by two threads than by one.
    """
    return DECODERS.get(dataset.file_meta.get("TransferSyntaxUID")) in (SIMPLEITK, "pillow")


def is_read_by_frame(transfer_syntax_uid: str) -> bool:
    """Say whether `decode` can take single frames from a file that is not in memory."""
    is_deflated = transfer_syntax_uid == uid.DeflatedExplicitVRLittleEndian
    return DECODERS.get(transfer_syntax_uid) in ("", "pydicom") and not is_deflated


def _refuse_other_sizes(
    dataset: Dataset, indices: Sequence[int], image_of: "Callable[[bytes], _Image]"
) -> None:
    """Raise ValueError where a frame says another size than the header, before it is decoded.

    Else a frame of a few kilobytes could take gigabytes, whatever the header was allowed.
    """
    for index in indices:
        _refuse_other_size(dataset, image_of(coded_frame(dataset, index)))


def _refuse_other_size(dataset: Dataset, image: "_Image") -> None:
    if image.size != (dataset.Rows, dataset.Columns, dataset.SamplesPerPixel):
        raise ValueError("a compressed frame has another size than its header says")


def index_frames(dataset: Dataset) -> None:
    """Give still frames that have no table of offsets one: else each look walks over them all.

    Raises ValueError where the frames cannot be told apart.
    """
    is_coded = DECODERS.get(dataset.file_meta.TransferSyntaxUID) not in (None, "", PYAV)
    count, code = frame_count(dataset), dataset.get("PixelData")
    if not is_coded or count == 1 or not code:
        return
    if not extended_offsets(dataset) and not parse_basic_offsets(code):
        frames = list(generate_frames(code, number_of_frames=count))
        dataset.PixelData, offsets, lengths = encapsulate_extended(frames)
        dataset.ExtendedOffsetTable, dataset.ExtendedOffsetTableLengths = offsets, lengths


def coded_frame(dataset: Dataset, index: int) -> bytes:
    """Return the code of one still frame, which need not be of a syntax that can be decoded."""
    return get_frame(
        dataset.PixelData,
        index,
        number_of_frames=frame_count(dataset),
        extended_offsets=extended_offsets(dataset),
    )


def extended_offsets(dataset: Dataset) -> tuple[bytes, bytes] | None:
    """Return the Extended Offset Table and its lengths, None unless both are there."""
    offsets = dataset.get("ExtendedOffsetTable"), dataset.get("ExtendedOffsetTableLengths")
    return offsets if all(offsets) else None


def _sample_bits(dataset: Dataset, frame: NDArray[Any]) -> NDArray[np.generic]:
    """Keep Bits Stored bits below High Bit (PS3.5 8.1.1), with their sign.

    A codec has put the sample at the lowest bits, whatever High Bit says.
    """
    width = frame.dtype.itemsize * 8
    moved = DECODERS[dataset.file_meta.TransferSyntaxUID] not in ("", "pydicom")
    high = dataset.BitsStored - 1 if moved else dataset.get("HighBit", dataset.BitsStored - 1)
    if not dataset.BitsStored <= high + 1 <= width:
        raise ValueError(f"{dataset.BitsStored} bits below bit {high} of {width}")
    if dataset.BitsStored == width:
        return frame
    placed: NDArray[Any] = frame << (width - 1 - high)
    placed >>= width - dataset.BitsStored
    return placed


def _by_gdcm(dataset: Dataset, index: int) -> NDArray[np.generic]:
    """Decode one JPEG or JPEG 2000 frame by GDCM, given a file that says no more than the frame.

    So neither inversion nor rescale is applied, and no length of the hostile header is believed.
    The file is in memory only: nothing is left behind where the process is killed.
    """
    single = _single_frame(dataset, coded_frame(dataset, index))
    sitk.ProcessObject.GlobalWarningDisplayOff()
    descriptor = os.memfd_create("frame")
    with os.fdopen(descriptor, "wb") as file:
        single.save_as(file, enforce_file_format=True)
        file.flush()
        reader = sitk.ImageFileReader()
        reader.SetImageIO("GDCMImageIO")
        reader.SetFileName(f"/proc/self/fd/{descriptor}")
        try:
            frame: NDArray[Any] = sitk.GetArrayFromImage(reader.Execute())
        except RuntimeError as error:
            raise ValueError("the frame cannot be decoded") from error
    shape = (dataset.Rows, dataset.Columns, *([3] if dataset.SamplesPerPixel == 3 else []))
    width = dataset.BitsAllocated // 8
    frame = frame.reshape(shape).astype(f"u{width}", copy=False)
    return frame.view(f"i{width}") if dataset.PixelRepresentation else frame


@dataclass(frozen=True, slots=True)
class _Image:
    """What a coded image says of itself."""

    size: tuple[int, int, int]  # rows, columns, components
    precision: int
    signed: bool


def _single_frame(dataset: Dataset, code: bytes) -> Dataset:
    """Wrap one coded image in a DICOM file; ValueError if it is another size than the header's."""
    if dataset.file_meta.TransferSyntaxUID in uid.JPEG2000TransferSyntaxes:
        code = _codestream(code)
        image = _jpeg_2000(code)
    else:
        image = _jpeg(code)
    _refuse_other_size(dataset, image)
    if image.precision > dataset.BitsAllocated:
        raise ValueError(f"the coded frame has {image.precision} bits, more than are allocated")
    single = Dataset()
    single.file_meta = FileMetaDataset()
    single.file_meta.TransferSyntaxUID = dataset.file_meta.TransferSyntaxUID
    single.SOPClassUID = uid.SecondaryCaptureImageStorage
    single.SOPInstanceUID = uid.UID("1.2.3")
    single.Rows, single.Columns, single.SamplesPerPixel = image.size
    single.PhotometricInterpretation = "MONOCHROME2"
    if dataset.SamplesPerPixel == 3:
        if dataset.PhotometricInterpretation not in _COLOURS:
            raise ValueError("the photometric interpretation is none of a coded colour image")
        single.PhotometricInterpretation = dataset.PhotometricInterpretation
        single.PlanarConfiguration = 0
    single.BitsAllocated = 8 if image.precision <= 8 else 16
    single.BitsStored, single.HighBit = image.precision, image.precision - 1
    single.PixelRepresentation = int(image.signed)
    single.PixelData = encapsulate([code])
    single["PixelData"].is_undefined_length = True
    return single


def _jpeg(code: bytes) -> _Image:
    """Find the frame header of a JPEG image (ITU-T T.81 B.2.2); its samples have no sign."""
    position = 2  # after the marker that starts the image
    while True:
        marker, length = struct.unpack_from(">HH", code, position)
        kind = marker & 0xFF
        if marker >> 8 != 0xFF or kind == _START_OF_SCAN:
            raise ValueError("the JPEG frame has no header")
        if kind in _START_OF_FRAME:
            precision, lines, samples, components = struct.unpack_from(">BHHB", code, position + 4)
            return _Image((lines, samples, components), precision, signed=False)
        position += 1 if kind == 0xFF else 2 + length  # FF before a marker is fill


def _codestream(code: bytes) -> bytes:
    """Leave out the boxes of a JP2 file, which some writers put before the codestream."""
    start = code.find(_J2K_SIZE)
    if start < 0:
        raise ValueError("the JPEG 2000 frame has no header")
    return code[start:]


def _jpeg_2000(code: bytes) -> _Image:
    """Read the image and tile size of a JPEG 2000 codestream (ITU-T T.800 A.5.1)."""
    fields = struct.unpack_from(">8IHB", _codestream(code), 8)
    right, bottom, left, top, *_, components, depth = fields
    return _Image((bottom - top, right - left, components), (depth & 0x7F) + 1, depth > 0x7F)


# How the frames of a plugin say their size; the others cannot be larger than their header says.
_IMAGES: dict[str, Callable[[bytes], _Image]] = {
    "pillow": _jpeg,
    "pyjpegls": _jpeg,
    "pylibjpeg": _jpeg_2000,
}
