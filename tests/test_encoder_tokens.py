import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from encoder.clip import Clip, Kind, Unit
from encoder.config import Extent
from encoder.tokens import tokenise, untokenise

PATCH = (4, 16, 16)


def clip(extent: Extent, kind: Kind) -> Clip:
    shape = (3, extent.frames, extent.height, extent.width)
    array = np.arange(np.prod(shape), dtype=np.float32).reshape(shape)
    return Clip(array, (0.0, 1.0, 1.0), kind, Unit.STORED, None, ("1.2.3",))


@given(
    kind=st.sampled_from(Kind),
    grid=st.tuples(st.integers(1, 4), st.integers(1, 4), st.integers(1, 4)),
)
def test_patches_put_back_are_the_clip(kind: Kind, grid: tuple[int, int, int]) -> None:
    frames = 1 if kind is Kind.STILL else grid[0] * 4
    original = clip(Extent(frames, grid[1] * 16, grid[2] * 16), kind)
    patches, positions = tokenise(original, PATCH)
    assert len(patches) == len(positions)
    shape = original.array.shape
    np.testing.assert_array_equal(untokenise(patches, shape, PATCH), original.array)


def test_a_position_says_where_its_patch_was_cut() -> None:
    original = clip(Extent(8, 32, 48), Kind.VOLUME)
    patches, positions = tokenise(original, PATCH)
    for patch, (t, h, w) in zip(patches, positions.astype(int) * PATCH, strict=True):
        cut = original.array[:, t : t + 4, h : h + 16, w : w + 16]
        np.testing.assert_array_equal(patch.reshape(3, 4, 16, 16), cut)


def test_a_still_has_patches_of_one_frame() -> None:
    patches, positions = tokenise(clip(Extent(1, 32, 32), Kind.STILL), PATCH)
    assert patches.shape == (4, 3 * 16 * 16)
    assert patches.dtype == positions.dtype == np.float32
    assert positions[:, 0].max() == 0


def test_a_clip_that_does_not_divide_is_refused() -> None:
    with pytest.raises(ValueError, match="does not divide"):
        tokenise(clip(Extent(6, 32, 32), Kind.VOLUME), PATCH)
