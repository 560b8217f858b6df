"""Where the tiles of a whole slide image lie, and one tile out of a file of any size.

Owns: the frames of one instance with their places in the total pixel matrix; reading a frame
without the rest of the file. Does not own: which tiles are worth reading (`slide`).
"""

from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np
from numpy.typing import NDArray
from pydicom import Dataset, dcmread, uid
from pydicom.encaps import encapsulate, get_frame

from encoder.codecs import DECODERS, PYAV, decode, extended_offsets
from encoder.headers import floats
from encoder.origin import Box
from encoder.photometry import Picture, picture
from encoder.slices import TileFile, pixel_spacing_mm

MAX_TILES = 2_000_000  # of one instance: a slide of 10 x 10 cm at 0.25 µm has 1.6 of 256 x 256
MAX_TILE_PIXELS = 4096 * 4096
MAX_SPACING_MM = 0.5  # more is no microscopy but an unknown spacing

_PIXEL_KEYWORDS = (
    "SOPClassUID",
    "SamplesPerPixel",
    "PhotometricInterpretation",
    "PlanarConfiguration",
    "NumberOfFrames",
    "Rows",
    "Columns",
    "BitsAllocated",
    "BitsStored",
    "HighBit",
    "PixelRepresentation",
    "RedPaletteColorLookupTableDescriptor",
    "GreenPaletteColorLookupTableDescriptor",
    "BluePaletteColorLookupTableDescriptor",
    "RedPaletteColorLookupTableData",
    "GreenPaletteColorLookupTableData",
    "BluePaletteColorLookupTableData",
    "ExtendedOffsetTable",
    "ExtendedOffsetTableLengths",
)
_HEADER_KEYWORDS = (
    *_PIXEL_KEYWORDS,
    "SOPInstanceUID",
    "ImageType",
    "SpecimenLabelInImage",
    "ImagedVolumeWidth",
    "ImagedVolumeHeight",
    "TotalPixelMatrixRows",
    "TotalPixelMatrixColumns",
    "DimensionOrganizationType",
    "ConcatenationUID",
    "ConcatenationFrameOffsetNumber",
    "PyramidUID",
    "SharedFunctionalGroupsSequence",
    "PerFrameFunctionalGroupsSequence",
)
_OF_ALL_FRAMES = ("NumberOfFrames", "ExtendedOffsetTable", "ExtendedOffsetTableLengths")
_LITTLE_ENDIAN = (uid.ImplicitVRLittleEndian, uid.ExplicitVRLittleEndian)


@dataclass(frozen=True, slots=True)
class Tiles:
    """The frames of one instance: frame `index[n]` has its corner at `top[n]`, `left[n]`.

    `size` is that of the total pixel matrix, `tile` that of a frame, rows before columns; frames
    at the edge may reach beyond the matrix. Instances with one `level` belong to one image.
    """

    file: TileFile
    sop_instance_uid: str
    flavour: str  # VOLUME, THUMBNAIL, LABEL or OVERVIEW (PS3.3 C.8.12.4.1.1)
    shows_label: bool
    pyramid: str
    level: str
    spacing_mm: tuple[float, float]
    size: tuple[int, int]
    tile: tuple[int, int]
    index: NDArray[np.int64]
    top: NDArray[np.int64]
    left: NDArray[np.int64]


def read_tiles(path: Path) -> Tiles:
    """Read where the frames of an instance lie, of several planes and optical paths the first.

    Raises ValueError where the header claims what no slide has, or one of `headers.READ_ERRORS`.
    """
    with path.open("rb") as file:
        header = dcmread(file, stop_before_pixels=True, specific_tags=list(_HEADER_KEYWORDS))
        # What is in front of the value: tag and length, and a VR with two bytes where explicit.
        pixels_at = file.tell() + (8 if header.file_meta.TransferSyntaxUID.is_implicit_VR else 12)
    size = (int(header.TotalPixelMatrixRows), int(header.TotalPixelMatrixColumns))
    tile = (int(header.Rows), int(header.Columns))
    if min(*size, *tile) < 1 or tile[0] * tile[1] > MAX_TILE_PIXELS:
        raise ValueError(f"tiles of {tile[0]} x {tile[1]} pixels cannot be read")
    index, top, left = _places(header, size, tile)
    image_type = [*np.atleast_1d(header.get("ImageType") or []), "", "", ""]
    return Tiles(
        file=TileFile(path, _pixel_header(header), pixels_at),
        sop_instance_uid=str(header.SOPInstanceUID),
        flavour=str(image_type[2]),
        shows_label=header.get("SpecimenLabelInImage") == "YES",
        pyramid=str(header.get("PyramidUID") or ""),
        level=str(header.get("ConcatenationUID") or header.SOPInstanceUID),
        spacing_mm=_spacing_mm(header, size),
        size=size,
        tile=tile,
        index=index,
        top=top,
        left=left,
    )


def _pixel_header(header: Dataset) -> Dataset:
    """Leave out the places of the tiles, which nobody asks for again."""
    pixels = _copied(header)
    for keyword in set(_HEADER_KEYWORDS).difference(_PIXEL_KEYWORDS):
        pixels.pop(keyword, None)
    return pixels


def _copied(header: Dataset) -> Dataset:
    """Take a header with the same elements: some may be added or left out, none may be changed."""
    elements = header[:]
    elements.file_meta = header.file_meta
    return elements


def _spacing_mm(header: Dataset, size: tuple[int, int]) -> tuple[float, float]:
    """Distance between rows and between columns, else what the imaged volume makes of it."""
    spacing_mm = pixel_spacing_mm(header, 0)
    if max(spacing_mm) > MAX_SPACING_MM:
        volume = [header.get("ImagedVolumeHeight"), header.get("ImagedVolumeWidth")]
        height_mm, width_mm = floats(volume, 2) or (0.0, 0.0)
        spacing_mm = height_mm / size[0], width_mm / size[1]
    if not 0 < min(spacing_mm) <= max(spacing_mm) <= MAX_SPACING_MM:
        raise ValueError("the distance between pixels is not known")
    return spacing_mm


def _places(
    header: Dataset, size: tuple[int, int], tile: tuple[int, int]
) -> tuple[NDArray[np.int64], ...]:
    """Give frame numbers from 0 and the rows and columns of their corners, from 0."""
    count = int(header.get("NumberOfFrames") or 1)
    if not 1 <= count <= MAX_TILES:
        raise ValueError(f"Number of Frames is {count}, the limit is {MAX_TILES}")
    groups = header.get("PerFrameFunctionalGroupsSequence") or []
    if header.get("DimensionOrganizationType") == "TILED_FULL" or not groups:
        # PS3.3 C.7.6.17.3: along a row, row by row; then planes in depth; then optical paths.
        across, down = -(-size[1] // tile[1]), -(-size[0] // tile[0])
        index = np.arange(count, dtype=np.int64)
        number = index + int(header.get("ConcatenationFrameOffsetNumber") or 0)
        index, number = index[number < down * across], number[number < down * across]
        return index, number // across * tile[0], number % across * tile[1]
    corners: dict[tuple[int, int], int] = {}
    for frame, group in enumerate(groups[:count]):
        place = group.PlanePositionSlideSequence[0]
        top = int(place.RowPositionInTotalImagePixelMatrix) - 1
        left = int(place.ColumnPositionInTotalImagePixelMatrix) - 1
        if 0 <= top < size[0] and 0 <= left < size[1]:
            corners.setdefault((top, left), frame)
    places = np.array(list(corners), dtype=np.int64).reshape(-1, 2)
    return np.array(list(corners.values()), dtype=np.int64), places[:, 0], places[:, 1]


def read_tile(source: TileFile, index: int, box: Box) -> Picture:
    """Decode one frame and cut it to `box`; of the file nothing else is read.

    Raises ValueError where the transfer syntax is none of a slide, or `headers.READ_ERRORS`.
    """
    dataset = _copied(source.header)
    syntax = dataset.file_meta.TransferSyntaxUID
    if DECODERS.get(syntax, PYAV) == PYAV or not (
        syntax.is_encapsulated or syntax in _LITTLE_ENDIAN
    ):
        raise ValueError(f"transfer syntax {syntax} is not supported for tiles")
    with source.path.open("rb") as file:
        file.seek(source.pixels_at)
        dataset.PixelData = _frame(file, dataset, index)
    for keyword in _OF_ALL_FRAMES:
        dataset.pop(keyword, None)
    dataset["PixelData"].is_undefined_length = syntax.is_encapsulated
    (stored,) = decode(dataset, [0])
    return picture(dataset, stored[box.top : box.bottom, box.left : box.right], 0)


def _frame(file: BinaryIO, dataset: Dataset, index: int) -> bytes:
    """Read the bytes of one frame, as the pixel data of an image that has no other."""
    if dataset.file_meta.TransferSyntaxUID.is_encapsulated:
        code = get_frame(
            file,
            index,
            number_of_frames=int(dataset.get("NumberOfFrames") or 1),
            extended_offsets=extended_offsets(dataset),
        )
        return encapsulate([code])
    bits = dataset.Rows * dataset.Columns * dataset.SamplesPerPixel * dataset.BitsAllocated
    file.seek(index * (bits // 8), 1)
    data = file.read(bits // 8)
    if len(data) < bits // 8:
        raise EOFError(f"the pixel data end before frame {index + 1}")
    return data + b"\0" * (len(data) % 2)
