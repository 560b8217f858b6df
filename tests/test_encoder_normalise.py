import dataclasses

import numpy as np
import pytest
import SimpleITK
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from encoder.clip import Clip, Kind, Unit
from encoder.config import Extent
from encoder.normalise import normalise

STILL = Extent(1, 32, 32)
VOLUME = Extent(8, 32, 32)


def clip(
    array: NDArray[np.float32],
    *,
    kind: Kind = Kind.STILL,
    unit: Unit = Unit.STORED,
    spacing: tuple[float, float, float] = (0.0, 1.0, 1.0),
    valid: NDArray[np.bool_] | None = None,
) -> Clip:
    return Clip(np.asarray(array, dtype=np.float32), spacing, kind, unit, valid, ("1.2.3",))


def noise(*shape: int) -> NDArray[np.float32]:
    return np.random.default_rng(0).random(shape, dtype=np.float32) * 1000


@settings(max_examples=60)
@given(
    kind=st.sampled_from(Kind),
    unit=st.sampled_from(Unit),
    shape=st.tuples(st.integers(1, 20), st.integers(1, 90), st.integers(1, 90)),
    spacing=st.tuples(*[st.floats(1e-3, 1e3)] * 3),
)
def test_any_clip_becomes_three_channels_of_its_extent_within_0_and_1(
    kind: Kind,
    unit: Unit,
    shape: tuple[int, int, int],
    spacing: tuple[float, float, float],
) -> None:
    frames = 1 if kind is Kind.STILL else shape[0]
    channels = 3 if unit is Unit.COLOUR else 1
    extent = STILL if kind is Kind.STILL else VOLUME
    array = noise(channels, frames, *shape[1:])
    result = normalise(clip(array, kind=kind, unit=unit, spacing=spacing), extent)
    assert result.array.shape == (3, extent.frames, 32, 32)
    assert result.array.dtype == np.float32
    assert result.array.min() >= 0
    assert result.array.max() <= 1
    assert result.valid is not None
    assert result.valid.any()


def test_hounsfield_units_are_seen_through_the_windows_of_lung_soft_tissue_and_bone() -> None:
    values = np.repeat([[-2000.0, -600.0, 40.0, 3000.0]], 4, axis=0).astype(np.float32)
    result = normalise(clip(values[None, None], unit=Unit.HOUNSFIELD), Extent(1, 4, 4))
    lung, soft_tissue, bone = result.array[:, 0, 0]
    np.testing.assert_allclose(lung, [0, 0.5, 1390 / 1500, 1], rtol=1e-6)
    np.testing.assert_allclose(soft_tissue, [0, 0, 0.5, 1], rtol=1e-6)
    np.testing.assert_allclose(bone, [0, 0, 0.3, 1], rtol=1e-6)


def test_uptake_has_one_fixed_scale_so_that_twice_as_much_is_twice_as_bright() -> None:
    uptake = noise(1, 8, 32, 32) / 1000 * 7  # g/ml
    once, twice = (
        normalise(clip(values, kind=Kind.VOLUME, unit=Unit.SUV, spacing=(1.0, 1.0, 1.0)), VOLUME)
        for values in (uptake, uptake * 2)
    )
    np.testing.assert_allclose(once.array, np.repeat(uptake / 15, 3, axis=0), atol=1e-5)
    np.testing.assert_allclose(twice.array, once.array * 2, atol=1e-5)


def test_colours_are_divided_by_255_and_stay_apart() -> None:
    array = np.zeros((3, 1, 32, 32), dtype=np.float32)
    array[0], array[1] = 255, 51
    result = normalise(clip(array, unit=Unit.COLOUR), STILL)
    np.testing.assert_allclose(result.array[:, 0, 5, 5], [1, 0.2, 0], rtol=1e-6)


def test_stored_values_do_not_depend_on_an_affine_change_of_scale() -> None:
    array = noise(1, 1, 40, 40)
    before = normalise(clip(array), STILL).array
    after = normalise(clip(array * 7 - 300), STILL).array
    np.testing.assert_allclose(before, after, atol=1e-4)


def test_one_hot_pixel_does_not_darken_the_rest() -> None:
    array = noise(1, 1, 32, 32)
    hot = array.copy()
    hot[0, 0, 0, 0] = 1e6
    assert (
        np.median(np.abs(normalise(clip(array), STILL).array - normalise(clip(hot), STILL).array))
        < 0.01
    )


@pytest.mark.parametrize("unit", [Unit.STORED, Unit.HOUNSFIELD])
def test_a_constant_image_is_finite_and_a_constant_stored_one_zero(unit: Unit) -> None:
    result = normalise(clip(np.full((1, 1, 9, 9), 77), unit=unit), STILL).array
    assert np.ptp(result, axis=(1, 2, 3)).max() == 0
    assert unit is Unit.HOUNSFIELD or result.max() == 0


def test_padding_neither_counts_nor_bleeds() -> None:
    array = noise(1, 1, 64, 64)
    valid = np.ones((1, 64, 64), dtype=np.bool_)
    valid[:, :, 32:] = False
    array[0][~valid] = -30000
    result = normalise(clip(array, valid=valid), STILL)
    half = normalise(clip(array[..., :32]), Extent(1, 32, 16))
    np.testing.assert_allclose(result.array[..., :16], half.array, atol=1e-5)
    assert result.array[..., 17:].max() == 0
    assert result.valid is not None
    assert not result.valid[..., 17:].any()


def test_an_image_that_is_all_padding_is_zero() -> None:
    valid = np.zeros((1, 8, 8), dtype=np.bool_)
    assert normalise(clip(noise(1, 1, 8, 8), valid=valid), STILL).array.max() == 0


def test_the_aspect_in_mm_is_kept_and_the_rest_padded() -> None:
    result = normalise(clip(noise(1, 1, 40, 40), spacing=(0.0, 0.5, 1.0)), STILL)
    assert result.spacing == pytest.approx((0.0, 1.25, 1.25))
    assert result.valid is not None
    rows = np.flatnonzero(result.valid[0].any(axis=1))
    assert (rows[0], rows[-1]) == (8, 23)
    assert result.valid[0].any(axis=0).all()
    assert result.array[0, 0, :8].max() == 0


@pytest.mark.parametrize("size", [(31, 64, 64), (8, 127, 127), (3, 20, 33), (100, 255, 256)])
def test_a_ramp_stays_a_ramp_along_every_axis(size: tuple[int, int, int]) -> None:
    for axis in range(3):
        ramp = (np.arange(size[axis]) + 0.5) / size[axis] * 1800 - 500
        array = np.broadcast_to(np.expand_dims(ramp, [a for a in range(3) if a != axis]), size)
        volume = clip(array[None], kind=Kind.VOLUME, unit=Unit.HOUNSFIELD, spacing=(3.0, 1.0, 1.0))
        result = normalise(volume, VOLUME)
        assert result.valid is not None
        line = np.moveaxis(result.array[2], axis, 0)  # the window of bone
        seen = np.moveaxis(result.valid, axis, 0)
        means = np.array([line[i][seen[i]].mean() for i in range(len(line)) if seen[i].any()])
        # Blocks that do not divide the size lose the last samples: half a new sample at most.
        np.testing.assert_allclose(
            means[1:-1], ((np.arange(len(means)) + 0.5) / len(means))[1:-1], atol=0.5 / len(means)
        )


def test_a_volume_keeps_its_length_in_mm() -> None:
    volume = clip(noise(1, 20, 32, 32), kind=Kind.VOLUME, spacing=(2.0, 1.0, 1.0))
    assert normalise(volume, VOLUME).spacing[0] * 8 == pytest.approx(40)


def test_a_cine_is_sampled_evenly_from_first_to_last() -> None:
    levels = np.linspace(0, 255, 15, dtype=np.float32)
    array = np.broadcast_to(levels[None, :, None, None], (3, 15, 32, 32))
    loop = clip(array, kind=Kind.CINE, unit=Unit.COLOUR, spacing=(0.1, 1.0, 1.0))
    result = normalise(loop, VOLUME)
    np.testing.assert_allclose(result.array[0, :, 0, 0], np.linspace(0, 1, 8), atol=1e-6)
    assert result.spacing[0] == pytest.approx(0.2)


def test_fine_stripes_are_averaged_not_aliased() -> None:
    stripes = np.zeros((1, 1, 128, 128), dtype=np.float32)
    stripes[..., ::2] = 255
    array = np.repeat(stripes, 3, axis=0)
    result = normalise(clip(array, unit=Unit.COLOUR), STILL).array
    np.testing.assert_allclose(result, 0.5, atol=1e-6)


def test_the_number_of_threads_does_not_change_a_bit() -> None:
    volume = clip(noise(1, 21, 100, 90), kind=Kind.VOLUME, spacing=(2.0, 0.7, 0.7))
    before = SimpleITK.ProcessObject.GetGlobalDefaultNumberOfThreads()
    results = []
    try:
        for threads in (1, 7):
            SimpleITK.ProcessObject.SetGlobalDefaultNumberOfThreads(threads)
            results.append(normalise(volume, VOLUME).array)
    finally:
        SimpleITK.ProcessObject.SetGlobalDefaultNumberOfThreads(before)
    np.testing.assert_array_equal(*results)


def test_normalising_leaves_the_clip_as_it_was() -> None:
    original = clip(noise(1, 1, 50, 50), valid=np.ones((1, 50, 50), dtype=np.bool_))
    copy = dataclasses.replace(original, array=original.array.copy())
    normalise(original, STILL)
    np.testing.assert_array_equal(original.array, copy.array)
