"""Streams are generated here with PyAV's own encoders: every frame has a colour that tells it."""

from collections.abc import Callable
from io import BytesIO
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from numpy.typing import NDArray
from pydicom import Dataset, dcmread, uid
from pydicom.encaps import encapsulate

from encoder import video
from encoder.clip import Clip, Kind, Unit
from encoder.errors import UnreadableImage
from encoder.frames import MAX_CINE_FRAMES
from encoder.pixels import read
from encoder.series import assemble
from training.phantoms import cine, uid_source

ROWS, COLUMNS, RATE_HZ = 64, 96, 25

STREAMS = pytest.mark.parametrize(
    ("codec", "container", "syntax"),
    [
        ("mpeg2video", "mpeg2video", uid.MPEG2MPML),
        ("mpeg2video", "mpegts", uid.MPEG2MPHL),
        ("mpeg2video", "mpeg", uid.MPEG2MPHLF),
        ("libx264", "mp4", uid.MPEG4HP41),
        ("libx264", "mpegts", uid.MPEG4HP41BD),
        ("libx264", "h264", uid.MPEG4HP422D),
        ("libx265", "mp4", uid.HEVCMP51),
        ("libx265", "mpegts", uid.HEVCMP51),
        ("libx265", "hevc", uid.HEVCM10P51),
    ],
)


def colours(count: int) -> NDArray[np.uint8]:
    """Red rises, blue falls, green is a fixed half: no two neighbours are alike."""
    level = np.linspace(0, 255, count).round()
    return np.stack([level, np.full(count, 100), 255 - level], axis=-1).astype(np.uint8)


def stream(codec: str, container: str, frames: NDArray[np.uint8]) -> bytes:
    """Encode (T, H, W, 3)."""
    target = BytesIO()
    with av.open(target, "w", format=container) as output:
        track: Any = output.add_stream(codec, rate=RATE_HZ)
        track.height, track.width, track.pix_fmt = *frames.shape[1:3], "yuv420p"
        track.bit_rate = 4_000_000
        if codec == "libx265":
            track.options = {"x265-params": "log-level=none"}
        for frame in frames:
            output.mux(track.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
        output.mux(track.encode())
    return target.getvalue()


def plain(count: int) -> NDArray[np.uint8]:
    frame = np.ones((1, ROWS, COLUMNS, 1), np.uint8)
    return colours(count)[:, np.newaxis, np.newaxis] * frame


def wrap(
    folder: Path,
    code: bytes,
    syntax: str = uid.MPEG4HP41,
    *,
    change: Callable[[Dataset], None] = lambda dataset: None,
) -> Path:
    """Put a stream into the ultrasound phantom, as two fragments."""
    path = cine(folder, new_uid=uid_source(1), frames=2, size=(ROWS, COLUMNS))
    dataset = dcmread(path)
    dataset.file_meta.TransferSyntaxUID = uid.UID(syntax)
    dataset.PhotometricInterpretation, dataset.SamplesPerPixel = "YBR_PARTIAL_420", 3
    dataset.PlanarConfiguration = 0
    dataset.PixelData = encapsulate([code], fragments_per_frame=2)
    dataset["PixelData"].is_undefined_length = True
    change(dataset)
    dataset.save_as(path)
    return path


def read_one(path: Path, *, max_bytes: int = 2**30) -> Clip:
    (group,) = assemble([path]).groups
    return read(group, max_bytes=max_bytes)


@STREAMS
def test_every_frame_comes_in_order_and_in_its_colour(
    tmp_path: Path, codec: str, container: str, syntax: str
) -> None:
    clip = read_one(wrap(tmp_path, stream(codec, container, plain(30)), syntax))
    assert (clip.kind, clip.unit) == (Kind.CINE, Unit.COLOUR)
    assert clip.array.shape == (3, 30, ROWS, COLUMNS)
    centre = clip.array[:, :, ROWS // 2, COLUMNS // 2].T
    assert np.abs(centre - colours(30)).max() <= 6


def test_rows_are_rows_and_columns_are_columns(tmp_path: Path) -> None:
    frames = np.zeros((4, ROWS, COLUMNS, 3), np.uint8)
    frames[:, : ROWS // 2] = (255, 0, 0)
    frames[:, :, : COLUMNS // 4] = (0, 0, 255)
    clip = read_one(wrap(tmp_path, stream("libx264", "mp4", frames)))
    assert np.abs(clip.array[:, 0, 8, 60] - (255, 0, 0)).max() <= 8
    assert np.abs(clip.array[:, 0, 56, 8] - (0, 0, 255)).max() <= 8
    assert np.abs(clip.array[:, 0, 56, 60]).max() <= 8


@pytest.mark.parametrize("claimed", [1, 5, 90_000])
def test_the_stream_is_believed_where_the_header_counts_other_frames(
    tmp_path: Path, claimed: int
) -> None:
    path = wrap(
        tmp_path,
        stream("libx264", "mp4", plain(12)),
        change=lambda ds: setattr(ds, "NumberOfFrames", claimed),
    )
    clip = read_one(path)
    assert (clip.kind, clip.array.shape[1]) == (Kind.CINE, 12)
    assert clip.spacing[0] == pytest.approx(0.04)


def test_a_video_of_one_frame_is_a_still(tmp_path: Path) -> None:
    clip = read_one(wrap(tmp_path, stream("libx264", "mp4", plain(1))))
    assert (clip.kind, clip.array.shape[1], clip.spacing[0]) == (Kind.STILL, 1, 0.0)


@pytest.mark.parametrize("claimed", [1, 10])
def test_a_video_in_which_nothing_changes_is_a_still_whatever_its_header_counts(
    tmp_path: Path, claimed: int
) -> None:
    frames = np.repeat(plain(1), 10, axis=0)
    path = wrap(
        tmp_path,
        stream("mpeg2video", "mpeg2video", frames),
        uid.MPEG2MPML,
        change=lambda ds: setattr(ds, "NumberOfFrames", claimed),
    )
    clip = read_one(path)
    assert (clip.kind, clip.array.shape[1], clip.spacing[0]) == (Kind.STILL, 1, 0.0)


@pytest.mark.parametrize(("count", "stride"), [(127, 2), (253, 4)])
def test_a_long_video_is_sampled_evenly_through_its_time(
    tmp_path: Path, count: int, stride: int
) -> None:
    clip = read_one(wrap(tmp_path, stream("mpeg2video", "mpegts", plain(count)), uid.MPEG2MPML))
    assert clip.array.shape[1] == MAX_CINE_FRAMES
    assert clip.spacing[0] == pytest.approx(stride * 0.04)
    red = clip.array[0, :, ROWS // 2, COLUMNS // 2]
    assert np.abs(red - colours(count)[::stride, 0]).max() <= 6


@pytest.mark.parametrize("count", [1, 63, 64, 65, 127, 128, 129, 1000, 4097])
def test_thinning_keeps_a_regular_subset_of_enough_frames(count: int) -> None:
    shots = (video._Shot(number, None) for number in range(count))
    kept, counted = video._thin(shots, 64)
    numbers = [shot.number for shot in kept]
    assert counted == count
    assert min(count, 64) <= len(kept) < 128
    assert len(set(np.diff(numbers).tolist())) <= 1
    assert numbers[0] == 0
    assert count - numbers[-1] <= max(1, count // 64)


def test_time_comes_from_the_header_else_from_the_container(tmp_path: Path) -> None:
    code = stream("libx264", "mp4", plain(10))
    told = wrap(tmp_path, code, change=lambda ds: setattr(ds, "FrameTime", 100))
    assert read_one(told).spacing[0] == pytest.approx(0.1)
    silent = wrap(tmp_path, code, change=lambda ds: delattr(ds, "FrameTime"))
    assert read_one(silent).spacing[0] == pytest.approx(1 / RATE_HZ)


def test_a_video_that_would_not_fit_is_refused_before_decoding(tmp_path: Path) -> None:
    path = wrap(tmp_path, stream("libx264", "mp4", plain(4)))
    needed = ROWS * COLUMNS * 12 * MAX_CINE_FRAMES
    read_one(path, max_bytes=needed)
    with pytest.raises(UnreadableImage, match="96 by 64 pixels is too large"):
        read_one(path, max_bytes=needed - MAX_CINE_FRAMES)


def test_a_video_without_end_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(video, "MAX_FRAMES", 10)
    with pytest.raises(UnreadableImage, match="more than 10 frames"):
        read_one(wrap(tmp_path, stream("libx264", "mp4", plain(11))))


@pytest.mark.parametrize(
    "code",
    [
        b"no video at all " * 8,
        b"ffconcat version 1.0\nfile '/etc/hostname'\n",
        b"#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\nfile:///etc/hostname\n#EXT-X-ENDLIST\n",
    ],
)
def test_what_is_no_video_of_the_standard_is_refused(tmp_path: Path, code: bytes) -> None:
    """FFmpeg would follow the file names in the last two."""
    with pytest.raises(UnreadableImage, match="video"):
        read_one(wrap(tmp_path, code))


def test_a_codec_that_the_standard_does_not_know_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UnreadableImage, match="video"):
        read_one(wrap(tmp_path, stream("mpeg4", "mp4", plain(4))))


def test_sound_alone_is_no_video(tmp_path: Path) -> None:
    target = BytesIO()
    with av.open(target, "w", format="mpegts") as output:
        track: Any = output.add_stream("mp2", rate=48000)
        track.layout = "mono"
        silence = av.AudioFrame.from_ndarray(np.zeros((1, 1152), np.int16), format="s16")
        silence.sample_rate = 48000
        output.mux(track.encode(silence))
        output.mux(track.encode())
    with pytest.raises(UnreadableImage, match="video"):
        read_one(wrap(tmp_path, target.getvalue()))


def test_ultrasound_video_is_cut_to_its_region(tmp_path: Path) -> None:
    def add_region(dataset: Dataset) -> None:
        region = Dataset()
        region.RegionSpatialFormat, region.RegionDataType = 1, 1
        region.RegionLocationMinX0, region.RegionLocationMaxX1 = 16, 79
        region.RegionLocationMinY0, region.RegionLocationMaxY1 = 8, 39
        region.PhysicalUnitsXDirection = region.PhysicalUnitsYDirection = 3
        region.PhysicalDeltaX, region.PhysicalDeltaY = 0.02, 0.03
        dataset.SequenceOfUltrasoundRegions = [region]

    clip = read_one(wrap(tmp_path, stream("libx264", "mp4", plain(4)), change=add_region))
    assert clip.array.shape == (3, 4, 32, 64)
    assert clip.spacing == pytest.approx((0.04, 0.3, 0.2))
