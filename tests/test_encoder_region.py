"""A region is cut from what its files show, and nothing is cut where there is nothing."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from pydicom import dcmread
from pydicom.data import get_testdata_file
from test_encoder_origin import SIZE, SQUARE, paint

from encoder.clip import Kind
from encoder.errors import UnreadableImage
from encoder.origin import Box
from encoder.region import Region, read_region
from encoder.series import assemble
from encoder.slices import Group
from training.phantoms import cine, ct_series, still, uid_source


def loop(folder: Path) -> Group:
    path = cine(folder, new_uid=uid_source(1), frames=12, size=(SIZE, SIZE))
    paint(path, frame=slice(4, 12))
    (group,) = assemble([path]).groups
    return group


def test_a_box_of_a_picture_is_a_still_of_just_that(tmp_path: Path) -> None:
    path = still(tmp_path, new_uid=uid_source(1), size=(SIZE, SIZE))
    paint(path)
    (group,) = assemble([path]).groups
    clip = read_region(group, Region(None, SQUARE))
    assert clip.array.shape == (1, 1, 16, 24)
    assert (clip.array == clip.array.max()).all()


@pytest.mark.parametrize("cosines", [[1, 0, 0, 0, 1, 0], [0, -1, 0, -1, 0, 0]])
def test_a_box_of_a_stack_is_cut_from_every_slice_as_it_was_stored(
    tmp_path: Path, cosines: list[int]
) -> None:
    paths = ct_series(tmp_path, new_uid=uid_source(1), slices=5, size=SIZE)
    for path in paths:
        paint(path, ImageOrientationPatient=cosines)
    (group,) = assemble(paths).groups
    clip = read_region(group, Region(None, SQUARE))
    assert clip.kind is Kind.VOLUME
    assert clip.array.shape[1] == 5
    assert sorted(clip.array.shape[2:]) == [16, 24]
    assert (clip.array == clip.array.max()).all()
    wider = read_region(group, Region(None, Box(14, 34, 54, 82)))
    assert (wider.array == clip.array.max()).mean() == pytest.approx(16 * 24 / (20 * 28))


@pytest.mark.parametrize(("frame", "shown"), [(1, False), (4, False), (5, True), (12, True)])
def test_a_frame_of_a_loop_is_a_still(tmp_path: Path, frame: int, shown: bool) -> None:
    clip = read_region(loop(tmp_path), Region(frame, None))
    assert clip.kind is Kind.STILL
    assert clip.array.shape == (1, 1, SIZE, SIZE)
    assert bool(clip.array.max() > 200) == shown


def test_a_frame_of_an_enhanced_object_is_the_one_of_that_number() -> None:
    path = Path(str(get_testdata_file("eCT_Supplemental.dcm", download=False)))
    stored = dcmread(path).pixel_array
    (group, *_) = assemble([path]).groups
    for number in (1, len(stored)):
        clip = read_region(group, Region(number, None))
        assert clip.kind is Kind.STILL
        assert clip.origin is not None
        assert clip.origin.frames[0].number == number
        assert clip.array.shape[-2:] == stored.shape[-2:]


@pytest.mark.parametrize(
    ("region", "reason"),
    [
        (Region(13, None), "no frame or slice 13: they are 1 to 12"),
        (Region(0, None), "no frame or slice 0"),
        (Region(2, Box(0, 10, 90, 97)), "beyond its 96 by 96 pixels"),
        (Region(2, Box(-1, 10, 0, 10)), "beyond its 96 by 96 pixels"),
        (Region(2, Box(10, 10, 0, 10)), "empty"),
    ],
)
def test_a_region_that_is_not_there_is_refused_in_clear_words(
    tmp_path: Path, region: Region, reason: str
) -> None:
    with pytest.raises(UnreadableImage, match=reason):
        read_region(loop(tmp_path), region)


def test_no_box_can_be_cut_from_what_is_drawn(bundled: Callable[[str], Path]) -> None:
    (group,) = assemble([bundled("waveform_ecg.dcm")]).groups
    with pytest.raises(UnreadableImage, match="waveform"):
        read_region(group, Region(None, Box(0, 10, 0, 10)))


def test_a_slice_of_one_file_is_number_one(tmp_path: Path) -> None:
    (path,) = ct_series(tmp_path, new_uid=uid_source(1), slices=1, size=SIZE)
    (group,) = assemble([path]).groups
    whole = read_region(group, Region(1, None))
    assert np.isfinite(whole.array).all()
    with pytest.raises(UnreadableImage, match="no frame or slice 2: they are 1 to 1"):
        read_region(group, Region(2, None))
