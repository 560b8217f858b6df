"""Damaged DICOM by the thousand: real files and phantoms, and what can go wrong with their bytes.

Everything depends on the seed of the random source alone. No file is parsed: what is damaged is
found by its bytes, so that a mutant may be mutated again.
"""

import random
import re
import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any

import av
import data_store
import numpy as np
from pydicom import dcmread, uid
from pydicom.data import get_testdata_file
from pydicom.encaps import encapsulate

from encoder.codecs import DECODERS
from training import phantoms

Mutation = Callable[[random.Random, bytearray], None]

LARGEST_BYTES = 100_000
_WORDS = (0, 1, 2, 3, 7, 8, 12, 16, 32, 64, 255, 4096, 32767, 32768, 65535)
_CODESTREAMS = re.compile(
    rb"\xff\xd8\xff|\xff\x4f\xff\x51|\x00\x00\x01[\xb3\x67]|ftyp|\xfe\xff\x00\xe0"
)
_PIXEL_DATA = (b"\xe0\x7f\x10\x00", b"\x7f\xe0\x00\x10")  # little and big endian
_EXPLICIT_ELEMENTS = re.compile(
    rb"[\x02-\x5f]\x00..(?=UI|US|SH|LO|DS|IS|CS|OB|OW|SQ|UN|PN|AT|UT)", re.DOTALL
)
_PHOTOMETRIC = (
    b"MONOCHROME1", b"MONOCHROME2", b"PALETTE COLOR", b"RGB", b"YBR_FULL", b"YBR_FULL_422",
    b"YBR_PARTIAL_420", b"YBR_ICT", b"YBR_RCT", b"XYZ",
)  # fmt: skip
# (0028,xxxx) with a value of one US: samples, planar, rows, columns, bits, sign, palette numbers.
_US_ELEMENTS = (0x0002, 0x0006, 0x0010, 0x0011, 0x0100, 0x0101, 0x0102, 0x0103, 0x1101, 0x1201)
_SYNTAXES = (*DECODERS, "1.2.3.4", "", "1.2.840.10008.1.2.4.51.99")


@dataclass(frozen=True, slots=True)
class Seed:
    """The files of one series, undamaged."""

    name: str
    files: tuple[bytes, ...]


def seeds(folder: Path) -> list[Seed]:
    """Return what mutants are made of: bundled images up to `LARGEST_BYTES`, and every phantom.

    Of the bundled files that are no images, one in eight.
    """
    tests = Path(get_testdata_file("CT_small.dcm", download=False) or "").parent
    roots = (tests, *(Path(path) for path in data_store.__path__))
    bundled = sorted(path for root in roots for path in root.rglob("*") if path.is_file())
    found = [
        Seed(path.name, (path.read_bytes(),))
        for path in bundled
        if path.stat().st_size <= LARGEST_BYTES and path.suffix not in (".py", ".pyc", ".md")
    ]
    new_uid = phantoms.uid_source(1)
    ct = phantoms.ct_series(folder, new_uid=new_uid, slices=5, size=32)
    still = phantoms.still(folder, new_uid=new_uid, size=(64, 48))
    # libx265 writes past its buffers when the picture is smaller than its blocks.
    cine = phantoms.cine(folder, new_uid=new_uid, frames=6, size=(64, 96))
    videos = [_video(cine, *each) for each in _VIDEOS]
    made = {"phantom ct": ct, "phantom still": [still], "phantom cine": [cine]}
    images = [seed for seed in found if any(tag in seed.files[0] for tag in _PIXEL_DATA)]
    return [
        *images,
        *[seed for seed in found if seed not in images][::8],
        *(Seed(name, tuple(path.read_bytes() for path in paths)) for name, paths in made.items()),
        *(
            Seed(f"phantom {codec}", (data,))
            for (codec, *_), data in zip(_VIDEOS, videos, strict=True)
        ),
    ]


def mutants(source: random.Random, given: list[Seed]) -> Iterator[tuple[str, tuple[bytes, ...]]]:
    """Yield series of which at least one file is damaged, each with its name, without end."""
    while True:
        seed = source.choice(given)
        files = [bytearray(data) for data in seed.files]
        hit = source.sample(files, source.randint(1, len(files)))
        done = []
        for data in hit:
            for _ in range(source.choice((1, 1, 1, 2, 3))):
                mutate = source.choice(MUTATIONS)
                mutate(source, data)
                done.append(mutate.__name__)
        yield f"{seed.name}: {', '.join(done)}", tuple(map(bytes, files))


def flip_bits(source: random.Random, data: bytearray) -> None:
    for _ in range(source.choice((1, 1, 4, 32))):
        _flip(source, data, 0, len(data))


def flip_header_bits(source: random.Random, data: bytearray) -> None:
    for _ in range(source.choice((1, 4))):
        _flip(source, data, 128, 1200)


def flip_codestream_header_bits(source: random.Random, data: bytearray) -> None:
    starts = [match.start() for match in _CODESTREAMS.finditer(data)]
    if starts:
        start = source.choice(starts)
        for _ in range(source.choice((1, 2, 8))):
            _flip(source, data, start + 2, start + 80)


def cut(source: random.Random, data: bytearray) -> None:
    del data[source.choice((0, len(data) // 2)) + source.randrange(len(data) // 2 + 1) :]


def cut_out(source: random.Random, data: bytearray) -> None:
    start = source.randrange(len(data) or 1)
    del data[start : start + source.choice((1, 2, 8, 100, 5000))]


def repeat_bytes(source: random.Random, data: bytearray) -> None:
    start = source.randrange(len(data) or 1)
    data[start:start] = data[start : start + source.choice((1, 8, 100, 5000))]


def random_bytes(source: random.Random, data: bytearray) -> None:
    start = source.randrange(len(data) or 1)
    length = min(source.choice((2, 4, 16, 256)), len(data) - start)
    data[start : start + length] = source.randbytes(length)


def swap_lengths(source: random.Random, data: bytearray) -> None:
    """Exchange the lengths of two elements, or claim an absurd one."""
    places = [match.end() + 2 for match in _EXPLICIT_ELEMENTS.finditer(data)]
    places = [place for place in places if place + 2 <= len(data)]
    if len(places) < 2:
        return
    one, other = source.sample(places, 2)
    if source.random() < 0.3:
        data[one : one + 2] = source.choice((b"\xff\xff", b"\0\0", b"\xff\x7f", b"\1\0"))
    else:
        data[one : one + 2], data[other : other + 2] = (
            data[other : other + 2], data[one : one + 2],
        )  # fmt: skip


def pixel_attributes(source: random.Random, data: bytearray) -> None:
    """Put other values into the image pixel module (PS3.3 C.7.6.3), length unchanged."""
    for number in source.sample(_US_ELEMENTS, source.randint(1, 3)):
        at = data.find(struct.pack("<HH", 0x0028, number))
        if at >= 0 and at + 10 <= len(data):
            data[at + 8 : at + 10] = struct.pack("<H", source.choice(_WORDS))
    for number, values in ((0x0008, (b"9", b"0", b"-", b"99999999")), (0x0004, _PHOTOMETRIC)):
        at = data.find(struct.pack("<HH", 0x0028, number))
        if at >= 0 and at + 8 <= len(data) and source.random() < 0.5:
            length = min(struct.unpack_from("<H", data, at + 6)[0], 64, len(data) - at - 8)
            value = source.choice(values)[:length]
            data[at + 8 : at + 8 + length] = value.ljust(length)


def transfer_syntax(source: random.Random, data: bytearray) -> None:
    """Say another transfer syntax in the file meta information."""
    at = data.find(b"\x02\x00\x10\x00UI")
    if at < 0 or at + 8 > len(data):
        return
    old = struct.unpack_from("<H", data, at + 6)[0]
    value = source.choice(_SYNTAXES).encode()
    value += b"\0" * (len(value) % 2)
    data[at + 6 : at + 8 + old] = struct.pack("<H", len(value)) + value
    group = data.find(b"\x02\x00\x00\x00UL\x04\x00", 0, at)
    if group >= 0:
        length = struct.unpack_from("<I", data, group + 8)[0] + len(value) - old
        struct.pack_into("<I", data, group + 8, length & 0xFFFFFFFF)


MUTATIONS: tuple[Mutation, ...] = (
    flip_bits, flip_header_bits, flip_codestream_header_bits, cut, cut_out, repeat_bytes,
    random_bytes, swap_lengths, pixel_attributes, transfer_syntax,
)  # fmt: skip

_VIDEOS = (
    ("mpeg2video", "mpeg2video", uid.MPEG2MPML),
    ("libx264", "mp4", uid.MPEG4HP41),
    ("libx265", "mpegts", uid.HEVCMP51),
)


def _video(cine: Path, codec: str, container: str, syntax: str) -> bytes:
    """Encode the cine phantom as a video."""
    dataset = dcmread(cine)
    target, coded = BytesIO(), BytesIO()
    with av.open(target, "w", format=container) as output:
        track: Any = output.add_stream(codec, rate=25)
        track.height, track.width, track.pix_fmt = dataset.Rows, dataset.Columns, "yuv420p"
        if codec == "libx265":
            track.options = {"x265-params": "log-level=none"}
        for frame in dataset.pixel_array:
            rgb = np.repeat(frame[..., np.newaxis], 3, axis=-1)
            output.mux(track.encode(av.VideoFrame.from_ndarray(rgb, format="rgb24")))
        output.mux(track.encode())
    dataset.file_meta.TransferSyntaxUID = uid.UID(syntax)
    dataset.PhotometricInterpretation, dataset.SamplesPerPixel = "YBR_PARTIAL_420", 3
    dataset.PlanarConfiguration = 0
    dataset.PixelData = encapsulate([target.getvalue()])
    dataset["PixelData"].is_undefined_length = True
    dataset.save_as(coded)
    return coded.getvalue()


def _flip(source: random.Random, data: bytearray, start: int, end: int) -> None:
    end = min(end, len(data))
    if start < end:
        data[source.randrange(start, end)] ^= 1 << source.randrange(8)
