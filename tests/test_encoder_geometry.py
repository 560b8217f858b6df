from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from planes import CLEAN_MM, axial, write
from pydicom import dcmread

from encoder.errors import UnreadableImage
from encoder.geometry import MAX_DENSITY, Geometry, breaks, orthonormal, regular
from encoder.series import assemble
from encoder.volume import read_clip

steps_mm = st.lists(st.floats(0.01, 1e4), min_size=1, max_size=60)


@given(steps_mm)
def test_any_stack_gets_a_bounded_regular_grid_between_its_ends(steps: list[float]) -> None:
    along_mm = np.cumsum([0.0, *steps])
    grid = regular(along_mm)
    assert grid.step_mm > 0
    assert grid.indices[0] == 0
    assert grid.indices[-1] <= len(steps)
    assert (np.diff(grid.indices) > 0).all()
    assert len(grid.indices) <= MAX_DENSITY * len(along_mm) + 1


@given(step=st.floats(0.1, 20), count=st.integers(2, 200), seed=st.integers(0, 99))
def test_slices_near_their_places_are_kept_as_they_are(step: float, count: int, seed: int) -> None:
    noise = np.random.default_rng(seed).uniform(-0.01, 0.01, count) * step
    grid = regular(np.sort(np.arange(count) * step + noise))
    np.testing.assert_array_equal(grid.indices, np.arange(count))
    assert grid.step_mm == pytest.approx(step, rel=0.03)


@given(steps_mm)
def test_breaks_are_ascending_and_inside_the_stack(steps: list[float]) -> None:
    places = np.zeros((len(steps) + 1, 3))
    places[1:, 0] = np.cumsum(steps)
    cuts = [0, *breaks(places), len(places)]
    assert all(start < stop for start, stop in pairwise(cuts))


@given(st.lists(st.floats(-1, 1), min_size=6, max_size=6))
def test_every_orientation_has_one_right_handed_frame(cosines: list[float]) -> None:
    try:
        row, column = orthonormal(np.array([cosines]))
    except ValueError:
        return
    geometry = Geometry(row, column, ((1.0, 0.0, 0.0), (0.0, 1.0, 0.0), (0.0, 0.0, 1.0)))
    frame = geometry.places_mm()  # the patient's axes seen from the frame
    np.testing.assert_allclose(frame @ frame.T, np.eye(3), atol=1e-9)
    # T = W x H, and the frame lists T, H, W: turning left.
    assert np.linalg.det(frame) == pytest.approx(-1)


numbers = st.one_of(
    st.floats(-10, 10), st.sampled_from([0.0, 1e-300, 1e7, -1e15, 1e300, 999999.0, 1e-5])
)


@settings(max_examples=60, suppress_health_check=list(HealthCheck))
@given(
    orientation=st.lists(st.sampled_from([0.0, 1.0, -1.0, 0.7071, 1e300]), min_size=6, max_size=6),
    positions=st.lists(st.lists(numbers, min_size=3, max_size=3), min_size=4, max_size=4),
    spacing=st.lists(numbers, min_size=2, max_size=2),
    turned=st.booleans(),
)
def test_absurd_geometry_gives_clips_or_a_reason(
    tmp_path: Path,
    orientation: list[float],
    positions: list[list[float]],
    spacing: list[float],
    turned: bool,
) -> None:
    paths = write(tmp_path, axial(CLEAN_MM[:4]))
    for path, position in zip(paths, positions, strict=True):
        dataset = dcmread(path)
        dataset.ImagePositionPatient = [f"{value:.8g}" for value in position]
        dataset.PixelSpacing = [f"{value:.8g}" for value in spacing]
        if turned:
            dataset.ImageOrientationPatient = [f"{value:.8g}" for value in orientation]
        dataset.save_as(path)
    assembly = assemble(paths)
    used = {frame.sop_instance_uid for group in assembly.groups for frame in group.frames}
    left = {each.sop_instance_uid for each in (*assembly.skipped, *assembly.unreadable)}
    assert used | left == {path.stem for path in paths}
    for group in assembly.groups:
        try:
            assert np.isfinite(read_clip(group).array).all()
        except UnreadableImage as error:
            assert error.reason
