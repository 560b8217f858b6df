"""Plain pictures and films: what comes out is what went in, what is damaged is named."""

from collections.abc import Callable
from pathlib import Path

import av
import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from encoder import plain
from encoder.clip import Kind, Unit
from encoder.errors import UnreadableImage
from encoder.plain import read_film, read_picture

Reader = Callable[[Path], object]


def write_film(path: Path, frames: NDArray[np.uint8], *, rate: int = 25) -> Path:
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mpeg4", rate=rate)
        stream.height, stream.width = frames.shape[1:3]
        stream.pix_fmt = "yuv420p"
        stream.bit_rate = 4_000_000
        for pixels in frames:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(pixels, format="rgb24")))
        container.mux(stream.encode(None))
    return path


def grey_film(path: Path, count: int) -> Path:
    levels = np.linspace(40, 200, count).astype(np.uint8)
    return write_film(path, np.tile(levels[:, None, None, None], (1, 32, 48, 3)))


def test_a_grey_picture_keeps_its_values_and_its_rows(tmp_path: Path) -> None:
    pixels = np.arange(12, dtype=np.uint8).reshape(3, 4) * 20
    Image.fromarray(pixels).save(tmp_path / "a.png")

    clip = read_picture(tmp_path / "a.png")

    assert clip.array.tolist() == [[pixels.tolist()]]
    assert (clip.kind, clip.unit, clip.spacing) == (Kind.STILL, Unit.STORED, (0.0, 1.0, 1.0))
    assert (clip.valid, clip.sources) == (None, ("a.png",))


def test_sixteen_bits_stay_sixteen_bits(tmp_path: Path) -> None:
    Image.fromarray(np.array([[0, 300], [40000, 65535]], np.uint16)).save(tmp_path / "a.png")

    assert read_picture(tmp_path / "a.png").array.ravel().tolist() == [0, 300, 40000, 65535]


def test_colour_comes_as_red_green_and_blue(tmp_path: Path) -> None:
    Image.new("RGB", (4, 2), (10, 20, 30)).save(tmp_path / "a.png")

    clip = read_picture(tmp_path / "a.png")

    assert clip.array.shape == (3, 1, 2, 4)
    assert clip.array[:, 0, 0, 0].tolist() == [10, 20, 30]
    assert clip.unit is Unit.COLOUR


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "LA", "P", "CMYK"])
def test_colours_that_are_all_grey_are_one_channel(tmp_path: Path, mode: str) -> None:
    suffix = "jpg" if mode == "CMYK" else "png"
    Image.new("L", (4, 4), 255).convert(mode).save(tmp_path / f"a.{suffix}")

    clip = read_picture(tmp_path / f"a.{suffix}")

    assert clip.array.shape == (1, 1, 4, 4)
    assert clip.unit is Unit.STORED
    assert clip.array.min() >= 254


def test_a_film_has_its_frames_in_order_and_its_time(tmp_path: Path) -> None:
    clip = read_film(grey_film(tmp_path / "a.mp4", 6))

    assert clip.array.shape == (1, 6, 32, 48)
    levels = clip.array.mean(axis=(0, 2, 3))
    assert levels == pytest.approx(np.linspace(40, 200, 6), abs=6)
    assert clip.kind is Kind.CINE
    assert clip.spacing == pytest.approx((1 / 25, 1.0, 1.0))


def test_the_manifest_knows_better_how_far_frames_are_apart(tmp_path: Path) -> None:
    path = grey_film(tmp_path / "a.mp4", 3)

    assert read_film(path, frame_time_ms=50.0).spacing[0] == pytest.approx(0.05)


def test_a_film_with_colour_keeps_it(tmp_path: Path) -> None:
    frames = np.zeros((3, 32, 48, 3), np.uint8)
    frames[..., 0] = 220

    clip = read_film(write_film(tmp_path / "a.mp4", frames))

    assert clip.unit is Unit.COLOUR
    assert clip.array[0].mean() > clip.array[1].mean() + 100


def test_a_long_film_is_cut(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(plain, "MAX_FRAMES", 4)

    assert read_film(grey_film(tmp_path / "a.mp4", 9)).array.shape[1] == 4


def test_a_film_that_does_not_fit_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(plain, "MAX_FILM_BYTES", 32 * 48 * 3 * 5)
    assert read_film(grey_film(tmp_path / "five.mp4", 5)).array.shape[1] == 5

    with pytest.raises(UnreadableImage, match="its frames take more than"):
        read_film(grey_film(tmp_path / "six.mp4", 6))


@pytest.mark.parametrize("read", [read_picture, read_film])
@pytest.mark.parametrize("content", [b"", b"no image", b"GIF89a\x01\x00\x01\x00\x00\x00\x00;"])
def test_what_is_neither_picture_nor_film_is_named(
    tmp_path: Path, read: Reader, content: bytes
) -> None:
    path = tmp_path / "a.bin"
    path.write_bytes(content)

    with pytest.raises(UnreadableImage, match=r"a\.bin"):
        read(path)


@pytest.mark.parametrize("suffix", ["jpg", "png"])
def test_a_damaged_picture_is_read_or_refused_and_nothing_else(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"a.{suffix}"
    random = np.random.default_rng(5)
    Image.fromarray(random.integers(0, 255, (24, 24, 3), dtype=np.uint8)).save(path)
    whole = path.read_bytes()
    refused = 0
    for _ in range(150):
        damaged = bytearray(whole[: random.integers(1, len(whole) + 1)])
        for place in random.integers(0, len(damaged), 3):
            damaged[place] = random.integers(0, 256)
        path.write_bytes(damaged)
        try:
            assert read_picture(path).array.size
        except UnreadableImage:
            refused += 1
    assert refused > 50


def test_a_film_cut_short_is_refused(tmp_path: Path) -> None:
    path = grey_film(tmp_path / "a.mp4", 6)
    path.write_bytes(path.read_bytes()[:200])

    with pytest.raises(UnreadableImage):
        read_film(path)


@pytest.mark.parametrize("read", [read_picture, read_film])
def test_a_file_that_is_gone_is_the_file_systems_to_name(tmp_path: Path, read: Reader) -> None:
    with pytest.raises(FileNotFoundError):
        read(tmp_path / "gone")
