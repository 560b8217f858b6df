"""Files made to exhaust or crash the worker: each costs one series, and the next one is embedded.

All go through the real worker process with its real limits.
"""

import os
import signal
import struct
import threading
import time
import zlib
from collections.abc import Callable, Iterator
from io import BytesIO
from pathlib import Path

import pytest
from mutations import seeds
from pydicom import Dataset, dcmread, uid
from pydicom.datadict import tag_for_keyword
from pydicom.encaps import encapsulate

from dicom_node.config import Config, Encoding
from dicom_node.errors import WorkerFailed
from dicom_node.operate.sources import sources
from dicom_node.operate.take_in import Tally, embed_waiting, take_in
from dicom_node.parts import open_parts
from dicom_node.receive.worker import Worker
from training import phantoms

Change = Callable[[Dataset], None]
MEMORY_MB, TIMEOUT_S = 1536, 20.0
BLOCK = 1 << 20


@pytest.fixture(scope="module")
def worker() -> Iterator[Worker]:
    encoding = Encoding(device="cpu", threads=1, memory_mb=MEMORY_MB, timeout_s=TIMEOUT_S)
    shared = Worker(encoding)
    yield shared
    shared.stop()


@pytest.fixture
def still(tmp_path: Path) -> Path:
    return phantoms.still(tmp_path, new_uid=phantoms.uid_source(1), size=(64, 48))


def huge_header(dataset: Dataset) -> None:
    """Claim 4 * 10^12 pixels."""
    dataset.Rows = dataset.Columns = 65535
    dataset.NumberOfFrames = 1000


def many_frames(dataset: Dataset) -> None:
    dataset.NumberOfFrames = 2_000_000_000


def compressed(code: bytes, syntax: str, *, bits: int = 8) -> Change:
    """Put one compressed frame under the header of the still."""

    def change(dataset: Dataset) -> None:
        dataset.file_meta.TransferSyntaxUID = uid.UID(syntax)
        dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit = bits, bits, bits - 1
        dataset.PixelData = encapsulate([code])
        dataset["PixelData"].is_undefined_length = True

    return change


def palette(dataset: Dataset) -> None:
    """Describe tables of 65536 entries of 16 bits, and give none."""
    dataset.PhotometricInterpretation = "PALETTE COLOR"
    for colour in ("Red", "Green", "Blue"):
        descriptor = tag_for_keyword(f"{colour}PaletteColorLookupTableDescriptor")
        dataset.add_new(descriptor, "US", [0, 0, 16])
        setattr(dataset, f"{colour}PaletteColorLookupTableData", b"\0\0")


def segmented_palette(dataset: Dataset) -> None:
    """Repeat an indirect segment of a lookup table for ever (PS3.3 C.7.9.2)."""
    palette(dataset)
    linear = struct.pack("<HHH", 1, 65535, 0)
    indirect = struct.pack("<HHHH", 2, 65535, 0, 0)
    for colour in ("Red", "Green", "Blue"):
        delattr(dataset, f"{colour}PaletteColorLookupTableData")
        segments = b"\0\0\1\0\0\0" + linear * 2000 + indirect * 2000
        setattr(dataset, f"Segmented{colour}PaletteColorLookupTableData", segments)


def jpeg_2000(width: int, height: int, *, tile: int, levels: int = 5) -> bytes:
    """Give the main header of a code stream, and nothing behind it (ITU-T T.800 annex A)."""
    size = struct.pack(">HH8IH3B", 41, 0, width, height, 0, 0, tile, tile, 0, 0, 1, 7, 1, 1)
    style = struct.pack(">HBBHB5B", 12, 0, 0, 65535, 0, levels, 4, 4, 0, 1)
    quantisation = struct.pack(">HB", 4 + 3 * levels, 0x40) + bytes([0x48] * (1 + 3 * levels))
    tile_part = b"\xff\x90" + struct.pack(">HHIBB", 10, 0, 0, 0, 1) + b"\xff\x93" + b"\0" * 64
    return b"\xff\x4f\xff\x51" + size + b"\xff\x52" + style + b"\xff\x5c" + quantisation + tile_part


def jpeg(rows: int, columns: int, marker: int) -> bytes:
    """Give a JPEG image that ends behind its frame header (ITU-T T.81 B.2.2)."""
    frame = struct.pack(">HBHHB3B", 11, 8, rows, columns, 1, 1, 0x11, 0)
    scan = struct.pack(">HB2B3B", 8, 1, 1, 0, 0, 63, 0)
    return b"\xff\xd8\xff" + bytes([marker]) + frame + b"\xff\xda" + scan + b"\0" * 64


def rle() -> bytes:
    """Repeat a byte 128 times, 400,000 times: 51 MB out of less than one (PS3.5 annex G)."""
    return struct.pack("<16I", 1, 64, *[0] * 14) + b"\x81\x00" * 400_000


BOMBS: dict[str, Change] = {
    "10^12 pixels in the header": huge_header,
    "a false number of frames": many_frames,
    "JPEG 2000 of 60000 by 60000": compressed(jpeg_2000(60000, 60000, tile=60000), uid.JPEG2000),
    "JPEG 2000 of 2^32 by 2^32": compressed(jpeg_2000(2**32 - 1, 2**32 - 1, tile=1), uid.JPEG2000),
    "HTJ2K of 60000 by 60000": compressed(jpeg_2000(60000, 60000, tile=60000), uid.HTJ2K),
    "JPEG of 65000 by 65000": compressed(jpeg(65000, 65000, 0xC0), uid.JPEGBaseline8Bit),
    "lossless JPEG of 65000": compressed(jpeg(65000, 65000, 0xC3), uid.JPEGLosslessSV1),
    "JPEG-LS of 65000 by 65000": compressed(jpeg(65000, 65000, 0xF7), uid.JPEGLSLossless),
    "a palette that is not there": palette,
    "a palette that repeats itself": segmented_palette,
}

# Their size is what the header says: what comes of them is the decoder's to say, not what it costs.
COSTLY: dict[str, Change] = {
    "JPEG 2000 of one-pixel tiles": compressed(jpeg_2000(48, 64, tile=1), uid.JPEG2000),
    "JPEG 2000 of 32 levels": compressed(jpeg_2000(48, 64, tile=64, levels=32), uid.JPEG2000),
    "RLE of 51 MB": compressed(rle(), uid.RLELossless),
}


def changed(still: Path, change: Change) -> Path:
    dataset = dcmread(still)
    change(dataset)
    dataset.save_as(still.with_name("changed.dcm"))
    return still.with_name("changed.dcm")


def assert_refused(worker: Worker, path: Path, still: Path) -> str:
    """Embed a hostile file, then a good one; return why the first was refused."""
    start = time.monotonic()
    try:
        embedded = worker.embed((path,))
        assert embedded.clips == ()
        reason = embedded.unreadable[0].reason
    except WorkerFailed as error:
        reason = error.reason
    assert time.monotonic() - start < TIMEOUT_S + 10
    assert len(worker.embed((still,)).clips) == 1, "the next series is embedded"
    return reason


@pytest.mark.parametrize("bomb", BOMBS)
def test_a_bomb_is_refused_and_the_worker_lives(worker: Worker, still: Path, bomb: str) -> None:
    process = worker._process

    assert assert_refused(worker, changed(still, BOMBS[bomb]), still)

    assert worker._process is process, "it was refused, not survived"


@pytest.mark.parametrize("name", COSTLY)
def test_a_frame_of_the_right_size_costs_little_whatever_it_holds(
    worker: Worker, still: Path, name: str
) -> None:
    process = worker._process
    path = changed(still, COSTLY[name])
    start = time.monotonic()

    worker.embed((path,))

    assert worker._process is process
    assert time.monotonic() - start < TIMEOUT_S / 2
    assert len(worker.embed((still,)).clips) == 1


def deflated(still: Path, blocks: int) -> Path:
    """Deflate the still with pixels of zeros, `blocks` MiB of them, each in a kilobyte."""
    dataset = dcmread(still)
    dataset.Rows = dataset.Columns = 64
    dataset.PixelData = b""
    dataset.file_meta.TransferSyntaxUID = uid.ExplicitVRLittleEndian
    _, plain = meta_and_rest(dataset)
    dataset.file_meta.TransferSyntaxUID = uid.DeflatedExplicitVRLittleEndian
    meta, _ = meta_and_rest(dataset)
    pixels = b"\xe0\x7f\x10\x00OW\0\0" + struct.pack("<I", blocks * BLOCK)
    press = zlib.compressobj(wbits=-zlib.MAX_WBITS)
    head = press.compress(plain[:-12] + pixels) + press.flush(zlib.Z_FULL_FLUSH)
    block = press.compress(bytes(BLOCK)) + press.flush(zlib.Z_FULL_FLUSH)
    path = still.with_name("deflated.dcm")
    path.write_bytes(meta + head + block * blocks + press.flush())
    return path


def meta_and_rest(dataset: Dataset) -> tuple[bytes, bytes]:
    """Split a written file behind its file meta information."""
    written = BytesIO()
    dataset.save_as(written, enforce_file_format=True)
    data = written.getvalue()
    end = 144 + int(struct.unpack_from("<I", data, 140)[0])
    return data[:end], data[end:]


def test_a_deflate_bomb_ends_at_the_memory_limit(worker: Worker, still: Path) -> None:
    process = worker._process
    bomb = deflated(still, 3000)
    assert bomb.stat().st_size < 4 << 20

    assert "MemoryError" in assert_refused(worker, bomb, still)
    assert worker._process is process
    assert len(worker.embed((deflated(still, 1),)).clips) == 1, "the small one is read"


def test_a_video_of_huge_frames_is_refused(worker: Worker, still: Path, tmp_path: Path) -> None:
    """The sequence header says 4095 by 4095 (ISO/IEC 13818-2 6.2.2.1)."""
    files = {seed.name: seed.files[0] for seed in seeds(tmp_path / "seeds")}
    video = bytearray(files["phantom mpeg2video"])
    (tmp_path / "video.dcm").write_bytes(video)
    assert len(worker.embed((tmp_path / "video.dcm",)).clips) == 1
    begin = b"\0\0\1\xb3"
    at = video.index(begin)
    video[at + 4 : at + 7] = b"\xff\xff\xff"
    (tmp_path / "video.dcm").write_bytes(video)

    assert "too large" in assert_refused(worker, tmp_path / "video.dcm", still)


def test_sequences_nested_beyond_measure_are_refused(worker: Worker, still: Path) -> None:
    begin = b"\x08\x00\x15\x11SQ\0\0\xff\xff\xff\xff\xfe\xff\x00\xe0\xff\xff\xff\xff"
    whole = still.read_bytes()
    at = whole.index(b"\x08\x00\x16\x00UI")
    still.with_name("deep.dcm").write_bytes(whole[:at] + begin * 20_000 + whole[at:])

    assert_refused(worker, still.with_name("deep.dcm"), still)


@pytest.mark.parametrize("number", [signal.SIGSEGV, signal.SIGABRT, signal.SIGKILL, signal.SIGBUS])
def test_a_crash_costs_one_worker(worker: Worker, still: Path, number: signal.Signals) -> None:
    worker.embed((still,))
    assert worker._process is not None and worker._process.pid is not None
    pid = worker._process.pid
    os.kill(pid, signal.SIGSTOP)  # so that the signal comes while the series is its business

    def crash() -> None:
        os.kill(pid, number)
        os.kill(pid, signal.SIGCONT)

    timer = threading.Timer(0.3, crash)
    timer.start()
    reason = assert_refused(worker, still, still)
    timer.join()

    assert reason == f"the embedding process died (signal {number.name})"


def test_a_worker_that_hangs_and_obeys_nobody_is_killed_at_the_limit(still: Path) -> None:
    worker = Worker(Encoding(device="cpu", threads=1, timeout_s=1.0))
    try:
        assert worker._process is not None and worker._process.pid is not None
        pid = worker._process.pid
        os.kill(pid, signal.SIGSTOP)  # SIGTERM has to wait, as in the loop of a codec
        with pytest.raises(WorkerFailed, match="took longer than 1 s and was ended"):
            worker.embed((still,))
        with pytest.raises(ProcessLookupError):
            os.kill(pid, 0)
    finally:
        worker.stop()


def test_a_bomb_is_quarantined_with_its_reason_and_the_next_is_indexed(
    tmp_path: Path, still: Path
) -> None:
    """The whole route of an import."""
    other = phantoms.still(tmp_path / "other", new_uid=phantoms.uid_source(2), size=(64, 48))
    bomb = changed(still, BOMBS["JPEG 2000 of 60000 by 60000"])
    encoder = Encoding(device="cpu", threads=1, memory_mb=MEMORY_MB)
    parts = open_parts(Config(data=tmp_path / "data", encoder=encoder))
    tally = Tally()
    for path in (bomb, other):
        for source in sources(path, largest_bytes=BLOCK):
            take_in(parts, source, tally, report=False)

    assert embed_waiting(
        parts, lambda done, total: None, settled=tally.settled, waiting=lambda seconds: None
    )

    counts = parts.catalogue.counts()
    parts.close()
    reason = "ValueError: a compressed frame has another size than its header says"
    assert tally.outcomes()["quarantined"] == {reason: 1}
    assert [series.reason for series in counts.quarantined] == [reason]
    assert counts.series == {"indexed": 1, "quarantined": 1}
