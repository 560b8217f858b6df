from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from pydicom import Dataset, dcmread

from encoder import regions
from encoder.clip import Clip, Unit
from encoder.origin import Box
from encoder.photometry import Picture
from encoder.pixels import read
from encoder.series import assemble
from training.phantoms import cine, still, uid_source

Bundled = Callable[[str], Path]
SHAPE = (20, 30)


def read_one(path: Path) -> Clip:
    (group,) = assemble([path]).groups
    return read(group)


def white(shape: tuple[int, int] = SHAPE) -> Picture:
    return Picture(np.full((1, *shape), 9, np.float32), None, Unit.STORED)


def region(
    top: int,
    left: int,
    bottom: int,
    right: int,
    *,
    spatial: int = 1,
    data: int = 1,
    cm: float = 0.1,
) -> Dataset:
    item = Dataset()
    item.RegionSpatialFormat, item.RegionDataType = spatial, data
    item.RegionLocationMinY0, item.RegionLocationMinX0 = top, left
    item.RegionLocationMaxY1, item.RegionLocationMaxX1 = bottom, right
    item.PhysicalUnitsXDirection = item.PhysicalUnitsYDirection = 3
    item.PhysicalDeltaX, item.PhysicalDeltaY = cm, -2 * cm
    return item


def ultrasound(*items: Dataset) -> Dataset:
    dataset = Dataset()
    dataset.SequenceOfUltrasoundRegions = items
    return dataset


def test_only_planes_of_tissue_and_colour_flow_are_anatomy() -> None:
    found = regions.tissue(
        ultrasound(
            region(0, 0, 4, 4),
            region(5, 5, 9, 14, data=2),
            region(10, 0, 15, 29, spatial=2),  # M-mode
            region(16, 0, 17, 29, spatial=3, data=3),  # spectrum
            region(18, 0, 19, 29, data=13),  # colour bar
        ),
        SHAPE,
    )
    assert found is not None
    assert found.boxes == (Box(0, 5, 0, 5), Box(5, 10, 5, 15))


def test_the_spacing_is_that_of_the_largest_region() -> None:
    items = region(0, 0, 4, 4), region(0, 5, 19, 29, cm=0.02)
    found = regions.tissue(ultrasound(*items), SHAPE)
    assert found is not None
    assert found.spacing_mm == pytest.approx((0.4, 0.2))


def test_axes_that_are_not_in_cm_give_no_spacing() -> None:
    item = region(0, 0, 4, 4)
    item.PhysicalUnitsYDirection = 4  # seconds
    found = regions.tissue(ultrasound(item), SHAPE)
    assert found is not None
    assert found.spacing_mm is None


@pytest.mark.parametrize(
    "items",
    [
        (),
        (region(0, 0, 4, 4, data=13),),
        (region(9, 9, 4, 4),),
        (region(0, 0, 39, 59),),  # the picture was halved afterwards
    ],
)
def test_regions_that_say_nothing_are_not_believed(items: tuple[Dataset, ...]) -> None:
    assert regions.tissue(ultrasound(*items), SHAPE) is None


def test_a_region_without_a_place_is_passed_over() -> None:
    item = region(0, 0, 4, 4)
    del item.RegionLocationMaxX1
    assert regions.tissue(ultrasound(item), SHAPE) is None


def test_a_last_row_counted_from_one_does_no_harm() -> None:
    found = regions.tissue(ultrasound(region(0, 0, 20, 30)), SHAPE)
    assert found is not None
    assert regions.crop(white(), found).values.shape == (1, *SHAPE)


def test_two_regions_are_cut_to_their_union_and_blank_between() -> None:
    found = regions.tissue(ultrasound(region(2, 3, 9, 9), region(4, 15, 12, 20)), SHAPE)
    assert found is not None
    cropped = regions.crop(white(), found)
    assert cropped.values.shape == (1, 11, 18)
    expected = np.zeros((11, 18), dtype=bool)
    expected[0:8, 0:7] = True
    expected[2:11, 12:18] = True
    np.testing.assert_array_equal(cropped.valid, expected)
    np.testing.assert_array_equal(cropped.values[0], np.where(expected, 9, 0))


def test_one_region_needs_no_mask() -> None:
    found = regions.tissue(ultrasound(region(2, 3, 9, 9)), SHAPE)
    assert found is not None
    cropped = regions.crop(white(), found)
    assert (cropped.values.shape, cropped.valid) == ((1, 8, 7), None)


def test_a_bundled_ultrasound_loses_the_text_around_its_regions(bundled: Bundled) -> None:
    path = bundled("JPGLosslessP14SV1_1s_1f_8b.dcm")
    dataset = dcmread(path)
    (item,) = dataset.SequenceOfUltrasoundRegions
    clip = read_one(path)
    top, left = item.RegionLocationMinY0, item.RegionLocationMinX0
    rows = item.RegionLocationMaxY1 + 1 - top
    columns = item.RegionLocationMaxX1 + 1 - left
    assert clip.array.shape == (1, 1, rows, columns)
    assert clip.spacing[1:] == pytest.approx((item.PhysicalDeltaY * 10, item.PhysicalDeltaX * 10))


def test_every_frame_of_a_loop_is_cut_alike(tmp_path: Path) -> None:
    path = cine(tmp_path, new_uid=uid_source(1), frames=5, size=SHAPE)
    dataset = dcmread(path)
    dataset.SequenceOfUltrasoundRegions = [region(2, 3, 11, 22)]
    dataset.save_as(path)
    clip = read_one(path)
    np.testing.assert_array_equal(clip.array[0], dataset.pixel_array[:, 2:12, 3:23])
    assert clip.spacing[1:] == pytest.approx((2.0, 1.0))


def shuttered(**attributes: object) -> Dataset:
    dataset = Dataset()
    for keyword, value in attributes.items():
        setattr(dataset, keyword, value)
    return dataset


RECTANGLE = {
    "ShutterLeftVerticalEdge": 5,
    "ShutterRightVerticalEdge": 25,
    "ShutterUpperHorizontalEdge": 3,
    "ShutterLowerHorizontalEdge": 18,
}
CIRCLE = {"CenterOfCircularShutter": [10, 15], "RadiusOfCircularShutter": 6}
# Row, column: a triangle with its right angle in the upper left.
TRIANGLE = {"VerticesOfThePolygonalShutter": [2, 2, 2, 12, 12, 2]}
ROWS, COLUMNS = np.mgrid[1 : SHAPE[0] + 1, 1 : SHAPE[1] + 1]
IN_RECTANGLE = (ROWS >= 3) & (ROWS <= 18) & (COLUMNS >= 5) & (COLUMNS <= 25)
IN_CIRCLE = (ROWS - 10) ** 2 + (COLUMNS - 15) ** 2 <= 36
IN_TRIANGLE = (ROWS >= 2) & (COLUMNS >= 2) & (ROWS + COLUMNS <= 14)


@pytest.mark.parametrize(
    ("shapes", "attributes", "inside"),
    [
        ("RECTANGULAR", RECTANGLE, IN_RECTANGLE),
        ("CIRCULAR", CIRCLE, IN_CIRCLE),
        ("POLYGONAL", TRIANGLE, IN_TRIANGLE),
        (["RECTANGULAR", "CIRCULAR"], RECTANGLE | CIRCLE, IN_RECTANGLE & IN_CIRCLE),
    ],
)
def test_what_the_shutter_hides_is_not_valid(
    shapes: object, attributes: dict[str, object], inside: NDArray[np.bool_]
) -> None:
    """PS3.3 C.7.6.11: rows and columns count from 1; several shutters hide together."""
    seen = regions.shut(white(), shuttered(ShutterShape=shapes, **attributes), 0)
    np.testing.assert_array_equal(seen.valid, inside)
    np.testing.assert_array_equal(seen.values, white().values)


def test_each_frame_of_an_enhanced_object_has_its_own_shutter() -> None:
    first, second = Dataset(), Dataset()
    first.FrameDisplayShutterSequence = [shuttered(ShutterShape="RECTANGULAR", **RECTANGLE)]
    second.FrameDisplayShutterSequence = [shuttered(ShutterShape="CIRCULAR", **CIRCLE)]
    dataset = shuttered(PerFrameFunctionalGroupsSequence=[first, second])
    np.testing.assert_array_equal(regions.shut(white(), dataset, 0).valid, IN_RECTANGLE)
    np.testing.assert_array_equal(regions.shut(white(), dataset, 1).valid, IN_CIRCLE)


def test_a_shutter_that_would_hide_everything_is_not_believed() -> None:
    edges = {**RECTANGLE, "ShutterRightVerticalEdge": 1}
    assert regions.shut(white(), shuttered(ShutterShape="RECTANGULAR", **edges), 0).valid is None


def test_the_shutter_adds_to_the_padding() -> None:
    padded = Picture(white().values, ROWS < 10, Unit.STORED)
    seen = regions.shut(padded, shuttered(ShutterShape="CIRCULAR", **CIRCLE), 0)
    np.testing.assert_array_equal(seen.valid, IN_CIRCLE & (ROWS < 10))


def test_a_shuttered_radiograph_reads_with_its_mask(tmp_path: Path) -> None:
    path = still(tmp_path, new_uid=uid_source(1), size=(20, 32))
    dataset = dcmread(path)
    dataset.ShutterShape = "RECTANGULAR"
    for keyword, value in RECTANGLE.items():
        setattr(dataset, keyword, value)
    dataset.save_as(path)
    clip = read_one(path)
    assert clip.valid is not None
    assert clip.valid.sum() == 16 * 21
