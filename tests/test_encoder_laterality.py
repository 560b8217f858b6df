from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from pydicom import Dataset, dcmread, uid

from encoder.clip import Clip, Kind, Unit
from encoder.series import assemble
from encoder.volume import read_clip
from training.phantoms import cine, still, uid_source

MAMMOGRAM = uid.DigitalMammographyXRayImageStorageForPresentation
TOMOSYNTHESIS = uid.BreastTomosynthesisImageStorage
FUNDUS = uid.OphthalmicPhotography8BitImageStorage
TOMOGRAM = uid.OphthalmicTomographyImageStorage


def read_one(path: Path) -> Clip:
    (group,) = assemble([path]).groups
    return read_clip(group)


def relabelled(path: Path, sop_class: str, **attributes: object) -> Path:
    dataset = dcmread(path)
    dataset.SOPClassUID = sop_class
    dataset.file_meta.MediaStorageSOPClassUID = sop_class
    for keyword in ("ImageLaterality", "PatientOrientation", "FrameTime"):
        if keyword in dataset:
            delattr(dataset, keyword)
    for keyword, value in attributes.items():
        setattr(dataset, keyword, value)
    dataset.save_as(path)
    return path


def picture(folder: Path, sop_class: str, **attributes: object) -> Path:
    """Write a picture with a bright frame, so that no air is cut off."""
    path = still(folder, new_uid=uid_source(1), size=(16, 16))
    dataset = dcmread(path)
    ramp = np.arange(2000, 2256, dtype="<u2").reshape(16, 16)
    ramp[[0, -1]] += 1000
    ramp[:, [0, -1]] = [3500, 3600]
    dataset.PixelData = ramp.tobytes()
    dataset.save_as(path)
    return relabelled(path, sop_class, **attributes)


@pytest.mark.parametrize(
    ("sop_class", "attributes", "is_mirrored"),
    [
        (MAMMOGRAM, {"ImageLaterality": "R"}, True),
        (MAMMOGRAM, {"ImageLaterality": "L"}, False),
        (MAMMOGRAM, {"Laterality": "R"}, True),
        (MAMMOGRAM, {}, False),
        # How the rows run counts more than the side: some archives store all breasts alike.
        (MAMMOGRAM, {"ImageLaterality": "R", "PatientOrientation": ["A", "R"]}, False),
        (MAMMOGRAM, {"ImageLaterality": "R", "PatientOrientation": ["P", "L"]}, True),
        (MAMMOGRAM, {"ImageLaterality": "L", "PatientOrientation": ["P", "FR"]}, True),
        (FUNDUS, {"ImageLaterality": "L", "PatientOrientation": ["L", "F"]}, True),
        (FUNDUS, {"ImageLaterality": "R"}, False),
        (FUNDUS, {"ImageLaterality": "B"}, False),
        (uid.DigitalXRayImageStorageForPresentation, {"ImageLaterality": "R"}, False),
        (uid.DigitalXRayImageStorageForPresentation, {"PatientOrientation": ["P", "F"]}, False),
    ],
)
def test_one_of_each_pair_of_organs_is_mirrored(
    tmp_path: Path, sop_class: str, attributes: dict[str, object], is_mirrored: bool
) -> None:
    path = picture(tmp_path, sop_class, **attributes)
    stored = dcmread(path).pixel_array
    clip = read_one(path)
    np.testing.assert_array_equal(clip.array[0, 0], stored[:, ::-1] if is_mirrored else stored)


def measures(**attributes: object) -> Dataset:
    shared, item = Dataset(), Dataset()
    item.PixelSpacing = [0.004, 0.012]
    for keyword, value in attributes.items():
        setattr(item, keyword, value)
    shared.PixelMeasuresSequence = [item]
    return shared


def stack(folder: Path, sop_class: str, side: str, *, placed: bool, image: int = 1) -> Path:
    """Write five frames; of a right organ, where they stand mirrors the left one."""
    path = cine(folder, new_uid=uid_source(image), frames=5, size=(8, 12), seed=1)
    shared = measures(SpacingBetweenSlices=0.03)
    anatomy = Dataset()
    anatomy.FrameLaterality = side
    shared.FrameAnatomySequence = [anatomy]
    per_frame = [Dataset() for _ in range(5)]
    x_mm = 0.066 if side == "R" else -0.066  # of the first pixel; its rows run towards x = 0
    for number, group in enumerate(per_frame if placed else []):
        plane, orientation = Dataset(), Dataset()
        plane.ImagePositionPatient = [x_mm, 0, 0.006 * number]
        orientation.ImageOrientationPatient = [-1 if side == "R" else 1, 0, 0, 0, 1, 0]
        group.PlanePositionSequence, group.PlaneOrientationSequence = [plane], [orientation]
    return relabelled(
        path,
        sop_class,
        SharedFunctionalGroupsSequence=[shared],
        PerFrameFunctionalGroupsSequence=per_frame,
    )


def as_stored(path: Path) -> NDArray[np.uint8]:
    return np.asarray(dcmread(path).pixel_array)


@pytest.mark.parametrize("sop_class", [TOMOSYNTHESIS, TOMOGRAM])
def test_mirrored_organs_in_space_give_one_volume(tmp_path: Path, sop_class: str) -> None:
    """The same pixels, written for a left and, mirrored in space, for a right organ."""
    left, right = (
        read_one(stack(tmp_path / side, sop_class, side, placed=True)) for side in ("L", "R")
    )
    assert left.kind is right.kind is Kind.VOLUME
    assert left.spacing == pytest.approx((0.006, 0.004, 0.012))
    np.testing.assert_array_equal(left.array, right.array)


@pytest.mark.parametrize(
    ("sop_class", "side", "is_mirrored"),
    [
        (TOMOSYNTHESIS, "R", True),
        (TOMOSYNTHESIS, "L", False),
        (TOMOGRAM, "L", True),
        (TOMOGRAM, "R", False),
    ],
)
def test_a_stack_that_tells_no_places_is_a_volume_in_its_own_order(
    tmp_path: Path, sop_class: str, side: str, is_mirrored: bool
) -> None:
    path = stack(tmp_path, sop_class, side, placed=False)
    clip = read_one(path)
    assert (clip.kind, clip.unit) == (Kind.VOLUME, Unit.STORED)
    assert clip.spacing == pytest.approx((0.03, 0.004, 0.012))
    stored = as_stored(path)
    np.testing.assert_array_equal(clip.array[0], stored[..., ::-1] if is_mirrored else stored)


def hanging() -> NDArray[np.uint8]:
    """Draw five planes (T, H, W) as they are to hang; each differs, none has air at its edge."""
    planes = np.random.default_rng(1).integers(100, 200, (5, 16, 16), np.uint8)
    planes[:, [0, -1]] = planes[:, :, [0, -1]] = 250
    return planes


def tomosynthesis(folder: Path, side: str, rows: str, degrees: float) -> Path:
    """Write the planes of a left breast or of its mirror image, rows to the front or to the back.

    Columns run to the middle in a cranio-caudal projection, to the feet in a lateral one.
    """
    path = cine(folder, new_uid=uid_source(1), frames=5, size=(16, 16))
    lateral = np.array([1 if side == "L" else -1, 1, 1])
    front, angle = np.array([0, -1, 0]), np.radians(degrees)
    column = np.array([-np.cos(angle), 0, -np.sin(angle)])
    orientation, shared = Dataset(), measures(SliceThickness=1)
    row = (front if rows == "A" else -front) * lateral
    orientation.ImageOrientationPatient = [f"{value:.6f}" for value in (*row, *column * lateral)]
    shared.PlaneOrientationSequence = [orientation]
    per_frame = [Dataset() for _ in range(5)]
    for number, group in enumerate(per_frame):
        plane = Dataset()
        place_mm = number * np.cross(front, column) * lateral
        plane.ImagePositionPatient = [f"{value:.5f}" for value in place_mm]
        group.PlanePositionSequence = [plane]
    stored = hanging() if rows == "A" else hanging()[..., ::-1]
    return relabelled(
        path,
        TOMOSYNTHESIS,
        ImageLaterality=side,
        SharedFunctionalGroupsSequence=[shared],
        PerFrameFunctionalGroupsSequence=per_frame,
        PixelData=stored.tobytes(),
    )


@pytest.mark.parametrize("side", "LR")
@pytest.mark.parametrize("rows", "AP")
@pytest.mark.parametrize("degrees", [0, 40, 50, 90])
def test_a_tomosynthesis_hangs_as_the_picture_of_its_breast(
    tmp_path: Path, side: str, rows: str, degrees: float
) -> None:
    clip = read_one(tomosynthesis(tmp_path, side, rows, degrees))
    assert clip.kind is Kind.VOLUME
    np.testing.assert_array_equal(clip.array[0], hanging())
    first = hanging()[0] if rows == "A" else hanging()[0, :, ::-1]
    flat = still(tmp_path, new_uid=uid_source(2), size=(16, 16))
    pixels = first.astype("<u2").tobytes()
    orientation = [rows, "F"]
    relabelled(
        flat, MAMMOGRAM, ImageLaterality=side, PatientOrientation=orientation, PixelData=pixels
    )
    np.testing.assert_array_equal(read_one(flat).array[0, 0], hanging()[0])


def test_a_tomosynthesis_without_places_hangs_by_its_patient_orientation(tmp_path: Path) -> None:
    path = stack(tmp_path, TOMOSYNTHESIS, "R", placed=False)
    relabelled(path, TOMOSYNTHESIS, PatientOrientation=["A", "F"])
    np.testing.assert_array_equal(read_one(path).array[0], as_stored(path))


def test_two_projections_of_one_breast_stay_apart(tmp_path: Path) -> None:
    paths = [tomosynthesis(tmp_path / str(degrees), "L", "A", degrees) for degrees in (0, 45)]
    dataset = dcmread(paths[1])
    dataset.SOPInstanceUID = dataset.file_meta.MediaStorageSOPInstanceUID = "2.25.1"
    dataset.save_as(paths[1])
    assert [len(group.frames) for group in assemble(paths).groups] == [5, 5]


def test_repeated_cuts_through_one_place_of_the_retina_are_a_loop(tmp_path: Path) -> None:
    path = stack(tmp_path, TOMOGRAM, "R", placed=True)
    dataset = dcmread(path)
    for group in dataset.PerFrameFunctionalGroupsSequence:
        group.PlanePositionSequence[0].ImagePositionPatient = [0, 0, 0]
    dataset.save_as(path)
    (group,) = assemble([path]).groups
    assert group.kind is Kind.CINE


@pytest.mark.parametrize("placed", [True, False])
def test_both_breasts_of_one_series_stay_apart(tmp_path: Path, placed: bool) -> None:
    paths = [
        stack(tmp_path, TOMOSYNTHESIS, side, placed=placed, image=number)
        for number, side in enumerate("LR")
    ]
    assembly = assemble(paths)
    assert [len(group.frames) for group in assembly.groups] == [5, 5]
    assert assembly.skipped == ()


def test_two_stacks_of_one_side_that_tell_no_places_stay_apart(tmp_path: Path) -> None:
    paths = [stack(tmp_path, TOMOGRAM, "R", placed=False, image=n) for n in (1, 2)]
    assert [len(group.frames) for group in assemble(paths).groups] == [5, 5]
