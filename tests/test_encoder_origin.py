"""A clip points back at the stored pixels it was made of, however it was cut, turned or shrunk."""

from collections.abc import Callable
from dataclasses import replace
from itertools import product
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydicom import dcmread
from pydicom.uid import DigitalMammographyXRayImageStorageForPresentation

from encoder.clip import Clip, Kind
from encoder.config import Extent
from encoder.geometry import View
from encoder.normalise import normalise
from encoder.origin import Box, FrameOrigin, Grid, Origin
from encoder.series import assemble
from encoder.volume import read_clip
from training.phantoms import cine, ct_series, still, uid_source

SIZE = 96
SQUARE = Box(16, 32, 56, 80)  # off the middle, so that no turn leaves it where it is
TOLERANCE_PX = 3  # of the stored image: a pixel of the clip and its blur


def paint(
    path: Path, *, frame: int | slice | None = None, box: Box = SQUARE, **changes: object
) -> str:
    """Make everything dark but the box, of some frames or of all; return the SOP Instance UID."""
    dataset = dcmread(path)
    pixels = np.full_like(dataset.pixel_array, 30)
    painted = pixels if frame is None else pixels[frame]
    bright = 250 if dataset.BitsAllocated == 8 else 1064  # of a CT 40 HU, where the rest is air
    painted[..., box.top : box.bottom, box.left : box.right] = bright
    dataset.PixelData = pixels.tobytes()
    for keyword, value in changes.items():
        setattr(dataset, keyword, value)
    dataset.save_as(path)
    return str(dataset.SOPInstanceUID)


def brightest(clip: Clip) -> tuple[int, Box]:
    """Find the painted box in a clip: the frame where most is bright, and the box around it."""
    values = clip.array[0]
    if clip.valid is not None:
        values = np.where(clip.valid, values, values[clip.valid].min())
    bright = values > (values.max() + np.median(values)) / 2
    frame = int(bright.sum(axis=(1, 2)).argmax())
    rows, columns = (np.flatnonzero(bright[frame].any(axis=axis)) for axis in (1, 0))
    return frame, Box(int(rows[0]), int(rows[-1]) + 1, int(columns[0]), int(columns[-1]) + 1)


def pointed_at(clip: Clip) -> tuple[FrameOrigin, Box]:
    """Say where the painted box of a clip lies in the stored images."""
    frame, box = brightest(clip)
    assert clip.origin is not None
    _, _, height, width = clip.array.shape
    grid = Grid((height, width), (clip.spacing[1], clip.spacing[2]))
    return clip.origin.frames[frame], clip.origin.stored(box, frame, grid)


def near(found: Box, expected: Box, tolerance_px: float = TOLERANCE_PX) -> bool:
    sides = [(b.top, b.bottom, b.left, b.right) for b in (found, expected)]
    return bool(np.abs(np.subtract(*sides)).max() <= tolerance_px)


def as_read(clip: Clip) -> Clip:
    return clip


def as_seen(clip: Clip) -> Clip:
    return normalise(clip, Extent(clip.array.shape[1], 64, 64))


AXES = [
    (sign_row, sign_column, swapped)
    for sign_row, sign_column, swapped in product((1, -1), (1, -1), (False, True))
]


@pytest.mark.parametrize("seen", [as_read, as_seen])
@pytest.mark.parametrize(("sign_row", "sign_column", "swapped"), AXES)
def test_a_slice_points_at_its_pixels_however_its_plane_is_turned(
    tmp_path: Path,
    sign_row: int,
    sign_column: int,
    swapped: bool,
    seen: Callable[[Clip], Clip],
) -> None:
    paths = ct_series(tmp_path, new_uid=uid_source(1), slices=6, size=SIZE)
    row, column = [sign_row, 0, 0], [0, sign_column, 0]
    cosines = [*column, *row] if swapped else [*row, *column]
    uids = [paint(path, ImageOrientationPatient=cosines) for path in paths[:4]]
    expected = paint(paths[4], box=SQUARE, ImageOrientationPatient=cosines)
    for path in paths[:4]:
        paint(path, box=Box(0, 0, 0, 0), ImageOrientationPatient=cosines)
    paths.pop().unlink()
    (group,) = assemble(paths).groups
    source, box = pointed_at(seen(read_clip(group, Extent(1, 64, 64))))
    assert (source.sop_instance_uid, source.number) == (expected, 1)
    assert expected not in uids
    assert near(box, SQUARE)


@pytest.mark.parametrize("tilt_degrees", [-18, 18])
def test_a_tilted_stack_points_at_the_slice_before_it_was_sheared(
    tmp_path: Path, tilt_degrees: int
) -> None:
    paths = ct_series(tmp_path, new_uid=uid_source(1), slices=12, size=SIZE)
    lean = np.tan(np.radians(tilt_degrees))
    uids = []
    for number, path in enumerate(paths):
        x_mm, y_mm, z_mm = (float(value) for value in dcmread(path).ImagePositionPatient)
        place_mm = [x_mm, y_mm + lean * z_mm, z_mm]
        box = SQUARE if number == 10 else Box(0, 0, 0, 0)
        uids.append(paint(path, box=box, ImagePositionPatient=place_mm))
    (group,) = assemble(paths).groups
    source, box = pointed_at(read_clip(group, Extent(1, 64, 64)))
    assert source.sop_instance_uid == uids[10]
    assert near(box, SQUARE)


@pytest.mark.parametrize("painted", [0, 7, 29])
def test_a_loop_points_at_the_frame_of_its_instance(tmp_path: Path, painted: int) -> None:
    path = cine(tmp_path, new_uid=uid_source(1), frames=30, size=(64, 96))
    uid = paint(path, frame=painted)
    (group,) = assemble([path]).groups
    source, box = pointed_at(read_clip(group))
    assert (source.sop_instance_uid, source.number) == (uid, painted + 1)
    assert near(box, SQUARE, tolerance_px=1)


def test_of_a_mirrored_breast_the_stored_side_is_pointed_at(tmp_path: Path) -> None:
    path = still(tmp_path, new_uid=uid_source(1), size=(SIZE, SIZE))
    paint(path)
    dataset = dcmread(path)
    pixels = dataset.pixel_array.copy()
    pixels[40:, 8:] = 120  # tissue, to which the picture is cut
    dataset.PixelData = pixels.tobytes()
    dataset.SOPClassUID = DigitalMammographyXRayImageStorageForPresentation
    dataset.ImageLaterality, dataset.PatientOrientation = "R", ["P", "F"]
    dataset.save_as(path)
    (group,) = assemble([path]).groups
    clip = read_clip(group)
    assert clip.origin is not None
    assert clip.origin.cut != Box(0, SIZE, 0, SIZE), "the test is of a picture that is cut"
    assert clip.origin.view.reversed_w
    _, _, height, width = clip.array.shape
    grid = Grid((height, width), (clip.spacing[1], clip.spacing[2]))
    corner = clip.origin.stored(Box(0, 4, 0, 4), 0, grid)
    stored_value = pixels[corner.top + 1, corner.left + 1]
    np.testing.assert_allclose(clip.array[0, 0, 1, 2], stored_value, atol=0.5)


whole = st.integers(0, 40)


@given(
    top=whole, left=whole, height=st.integers(1, 40), width=st.integers(1, 40),
    view=st.builds(View, st.booleans(), st.booleans(), st.booleans()),
)  # fmt: skip
def test_there_and_back_is_the_same_box_where_nothing_is_shrunk(
    top: int, left: int, height: int, width: int, view: View
) -> None:
    cut = Box(10, 90, 20, 110)  # 80 rows, 90 columns
    origin = Origin((FrameOrigin("1.2", 1),), (120, 120), cut, (0.5, 0.7), view)
    size, spacing = ((90, 80), (0.7, 0.5)) if view.transposed else ((80, 90), (0.5, 0.7))
    box = Box(10 + top, 10 + top + height, 20 + left, 20 + left + width)
    shown = origin.shown(box, 0, Grid(size, spacing))
    assert shown.area == box.area
    assert origin.stored(shown, 0, Grid(size, spacing)) == box


def test_what_is_drawn_from_a_waveform_has_no_stored_pixels(
    bundled: Callable[[str], Path],
) -> None:
    (group,) = assemble([bundled("waveform_ecg.dcm")]).groups
    clip = read_clip(group)
    assert clip.kind is Kind.STILL
    assert clip.origin is None


def test_an_origin_of_some_frames_keeps_the_rest() -> None:
    frames = tuple(FrameOrigin("1.2", number) for number in range(1, 6))
    origin = Origin(frames, (4, 4), Box(0, 4, 0, 4))
    taken = origin.taken(np.array([4, 0]))
    assert taken == replace(origin, frames=(frames[4], frames[0]))
