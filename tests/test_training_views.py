import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from encoder.clip import Kind
from encoder.config import Extent
from training.augment import augment
from training.views import STILL_WAYS, Cut, Source, _still_of_volume, crop, source

FULL = Cut(Extent(1, 16, 16), (1.0, 1.0))


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


@given(
    st.sampled_from(Kind),
    st.integers(1, 12),
    st.integers(8, 40),
    st.integers(8, 40),
    st.sampled_from([1, 3]),
    st.integers(0, 999),
)
def test_every_crop_has_the_extent_asked_for(
    kind: Kind, frames: int, height: int, width: int, channels: int, seed: int
) -> None:
    frames = 1 if kind is Kind.STILL else frames
    pixels = rng(seed).integers(0, 255, (frames, height, width, channels), dtype=np.uint8)
    extent = Extent(1 if kind is Kind.STILL else 4, 16, 24)
    view = crop(Source(pixels, kind), Cut(extent, (0.05, 1.0)), rng(seed))
    assert view.shape == (extent.frames, 16, 24, channels)
    assert view.min() >= pixels.min()
    assert view.max() <= pixels.max()


def test_a_crop_of_everything_at_its_own_size_changes_nothing() -> None:
    pixels = rng().integers(0, 255, (1, 16, 16, 1), dtype=np.uint8)
    views = [crop(Source(pixels, Kind.STILL), FULL, rng(seed)) for seed in range(40)]
    assert any(np.abs(view.astype(int) - pixels).mean() < 12 for view in views)


def test_a_loop_keeps_the_order_of_time() -> None:
    pixels = np.arange(64, dtype=np.uint8)[:, None, None, None] * np.ones((1, 8, 8, 1), np.uint8)
    for seed in range(20):
        view = crop(Source(pixels, Kind.CINE), Cut(Extent(8, 8, 8), (0.5, 1.0)), rng(seed))
        steps = np.diff(view[:, 0, 0, 0].astype(int))
        assert steps.min() >= 1
        assert np.ptp(steps) <= 1


def test_a_slab_averages_the_slices_it_spans() -> None:
    pixels = (np.arange(32, dtype=np.uint8) * 8)[:, None, None, None]
    pixels = pixels * np.ones((1, 8, 8, 1), np.uint8)
    whole = Cut(Extent(8, 8, 8), (1.0, 1.0))
    view = crop(Source(pixels, Kind.VOLUME), whole, rng(3))
    assert view[:, 0, 0, 0].tolist() == [12, 44, 76, 108, 140, 172, 204, 236]


@pytest.mark.parametrize("way", STILL_WAYS)
def test_a_volume_gives_stills_of_every_way(way: str) -> None:
    volume = rng().integers(0, 255, (10, 24, 32, 3), dtype=np.uint8)
    plane = _still_of_volume(volume, way, 2.5, rng())
    expected = {"slice": (24, 32), "thin": (24, 32), "coronal": (25, 32), "sagittal": (25, 24)}
    assert plane.dtype == np.uint8
    assert plane.shape[3] == (1 if way == "radiograph" else 3)
    assert plane.shape[0] == 1
    if way in expected:
        assert plane.shape[1:3] == expected[way]
    else:
        assert plane.shape[1:3] in {(25, 32), (25, 24)}


def test_reformatted_planes_stand_head_up() -> None:
    volume = np.zeros((10, 8, 8, 1), np.uint8)
    volume[-1] = 240  # the slice nearest the head
    for way in ("coronal", "sagittal", "radiograph"):
        plane = _still_of_volume(volume, way, 1.0, rng())[0]
        assert plane[0].min() > plane[-1].max()


def test_a_radiograph_is_brighter_where_more_is_in_the_way() -> None:
    volume = np.full((8, 16, 16, 3), 1, np.uint8)
    volume[:, 6:10, 6:10] = 200
    plane = _still_of_volume(volume, "radiograph", 1.0, rng())[0, :, :, 0]
    assert plane[:, 8].min() > plane[:, 0].max()


def test_a_loop_gives_one_of_its_frames_as_a_still() -> None:
    pixels = np.arange(9, dtype=np.uint8)[:, None, None, None] * np.ones((1, 4, 4, 1), np.uint8)
    shown = source(pixels, Kind.CINE, Kind.STILL, 1.0, rng())
    assert shown.kind is Kind.STILL
    assert shown.pixels.shape == (1, 4, 4, 1)


@given(st.integers(1, 3), st.sampled_from([1, 3]), st.integers(0, 999))
def test_changes_keep_the_size_and_bytes(frames: int, channels: int, seed: int) -> None:
    pixels = rng(seed).integers(0, 255, (frames, 12, 10, channels), dtype=np.uint8)
    changed = augment(pixels, rng(seed))
    assert changed.shape in {pixels.shape, (*pixels.shape[:3], 1)}
    assert changed.dtype == np.uint8


def test_every_frame_of_a_loop_gets_the_same_change() -> None:
    frame = rng().integers(0, 255, (1, 12, 10, 1), dtype=np.uint8)
    for seed in range(20):
        changed = augment(np.repeat(frame, 4, axis=0), rng(seed))
        assert (changed == changed[:1]).all()


def test_padding_stays_black_and_grey_stays_grey() -> None:
    for seed in range(40):
        assert augment(np.zeros((1, 8, 8, 3), np.uint8), rng(seed)).max() == 0
