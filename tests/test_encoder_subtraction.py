from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from pydicom import Dataset, dcmread, uid

from encoder.clip import Clip, Kind
from encoder.pixels import read
from encoder.series import assemble
from encoder.subtraction import Mask, masks, moved
from training.phantoms import cine, uid_source

FRAMES = 6


def angiogram(folder: Path, *items: Dataset, **attributes: object) -> Path:
    path = cine(folder, new_uid=uid_source(1), frames=FRAMES, size=(8, 8))
    dataset = dcmread(path)
    dataset.SOPClassUID = uid.XRayAngiographicImageStorage
    dataset.file_meta.MediaStorageSOPClassUID = uid.XRayAngiographicImageStorage
    dataset.MaskSubtractionSequence = items
    for keyword, value in attributes.items():
        setattr(dataset, keyword, value)
    dataset.save_as(path)
    return path


def item(operation: str = "AVG_SUB", **attributes: object) -> Dataset:
    dataset = Dataset()
    dataset.MaskOperation = operation
    if operation == "AVG_SUB":
        dataset.MaskFrameNumbers = 1
    for keyword, value in attributes.items():
        setattr(dataset, keyword, value)
    return dataset


def read_one(path: Path) -> Clip:
    (group,) = assemble([path]).groups
    return read(group)


def stored(path: Path) -> NDArray[np.float32]:
    return np.asarray(dcmread(path).pixel_array, dtype=np.float32)


def test_all_frames_share_the_numbers_of_their_mask(tmp_path: Path) -> None:
    """20,000 frames with 5,000 masks would else take gigabytes."""
    found = masks(dcmread(angiogram(tmp_path, item(MaskFrameNumbers=[1, 2, 3]))))
    assert len(found) == FRAMES
    assert len({id(mask.frames) for mask in found.values()}) == 1


@pytest.mark.parametrize(("numbers", "indices"), [(1, [0]), ([2, 3], [1, 2]), ([3, 2, 3], [1, 2])])
def test_a_subtraction_angiogram_is_less_the_mean_of_its_masks(
    tmp_path: Path, numbers: object, indices: list[int]
) -> None:
    path = angiogram(tmp_path, item(MaskFrameNumbers=numbers))
    expected = stored(path) - stored(path)[indices].mean(axis=0)
    np.testing.assert_allclose(read_one(path).array[0], expected, atol=1e-4)


@pytest.mark.parametrize(
    ("items", "pairs"),
    [
        # The mask of a frame lies the offset before it, one frame where no offset is given.
        ([item("TID")], {1: 0, 2: 1, 3: 2, 4: 3, 5: 4}),
        ([item("TID", TIDOffset=3)], {3: 0, 4: 1, 5: 2}),
        ([item("TID", TIDOffset=-2)], {0: 2, 1: 3, 2: 4, 3: 5}),
        ([item("TID", TIDOffset=2, ApplicableFrameRange=[4, 5])], {3: 1, 4: 2}),
        # Frames 4, 5 and 6 of six, less 3, 2 and 1.
        ([item("REV_TID", TIDOffset=1, ApplicableFrameRange=[4, 6])], {3: 2, 4: 1, 5: 0}),
        # Each range has its mask; frames of no range are not shown.
        (
            [
                item(MaskFrameNumbers=1, ApplicableFrameRange=[2, 3]),
                item(MaskFrameNumbers=4, ApplicableFrameRange=[3, 3, 5, 6]),
            ],
            {1: 0, 2: 0, 4: 3, 5: 3},
        ),
        ([item("NONE"), item(MaskFrameNumbers=2)], dict.fromkeys(range(FRAMES), 1)),
    ],
)
def test_every_mask_operation_takes_the_frames_of_the_standard(
    tmp_path: Path, items: list[Dataset], pairs: dict[int, int]
) -> None:
    path = angiogram(tmp_path, *items)
    assert masks(dcmread(path)) == {at: Mask((mask,), (0, 0)) for at, mask in pairs.items()}
    whole = stored(path)
    expected = np.stack([whole[at] - whole[mask] for at, mask in pairs.items()])
    np.testing.assert_array_equal(read_one(path).array[0], expected)


def test_a_mask_is_moved_down_and_to_the_left_before_it_is_subtracted(tmp_path: Path) -> None:
    path = angiogram(tmp_path, item(MaskSubPixelShift=[1.0, 2.0]))
    whole = stored(path)
    inner = whole[:, 1:, :-2] - whole[0, :-1, 2:]
    np.testing.assert_allclose(read_one(path).array[0][:, 1:, :-2], inner, atol=1e-4)


def test_half_a_pixel_is_the_mean_of_two() -> None:
    ramp = np.arange(12, dtype=np.float32).reshape(1, 3, 4)
    np.testing.assert_array_equal(moved(ramp, (0.5, 0.0))[:, 1:], ramp[:, 1:] - 2)
    np.testing.assert_array_equal(moved(ramp, (0.0, -0.5))[..., :-1], ramp[..., :-1] + 0.5)


@pytest.mark.parametrize(
    ("items", "attributes"),
    [
        ((), {}),
        ((item("NONE"),), {}),
        ((item("REV_TID", TIDOffset=9, ApplicableFrameRange=[2, 3]),), {}),
        ((item(MaskFrameNumbers=99),), {}),
        ((item(),), {"RecommendedViewingMode": "NAT"}),
        ((item(),), {"SOPClassUID": uid.UltrasoundMultiFrameImageStorage}),
    ],
)
def test_a_loop_that_is_to_be_seen_unsubtracted_stays_as_it_was_acquired(
    tmp_path: Path, items: tuple[Dataset, ...], attributes: dict[str, object]
) -> None:
    path = angiogram(tmp_path, *items, **attributes)
    np.testing.assert_array_equal(read_one(path).array[0], stored(path))


def test_linear_intensities_are_subtracted_as_logarithms(tmp_path: Path) -> None:
    path = angiogram(tmp_path, item(), PixelIntensityRelationship="LIN")
    logarithms = np.log1p(stored(path))
    np.testing.assert_allclose(read_one(path).array[0], logarithms - logarithms[0], atol=1e-5)


@pytest.mark.parametrize("relationship", ["LOG", "DISP"])
def test_other_intensities_are_taken_as_they_are(tmp_path: Path, relationship: str) -> None:
    path = angiogram(tmp_path, PixelIntensityRelationship=relationship)
    np.testing.assert_array_equal(read_one(path).array[0], stored(path))


def test_a_single_angiogram_is_not_subtracted_from_itself(tmp_path: Path) -> None:
    path = angiogram(tmp_path, item())
    dataset = dcmread(path)
    dataset.PixelData = dataset.PixelData[:64]
    dataset.NumberOfFrames = 1
    dataset.save_as(path)
    clip = read_one(path)
    assert clip.kind is Kind.STILL
    assert clip.array.max() > 0
