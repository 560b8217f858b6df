from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from pydicom import dcmread, uid

from encoder.clip import Clip, Unit
from encoder.foreground import breast, moving
from encoder.photometry import Picture
from encoder.pixels import read
from encoder.series import assemble
from training.phantoms import cine, still, uid_source

SIZE = (400, 300)
BLOCK = 2  # pixels: the longer side over the number of blocks, rounded up


def mammogram(*, noise: float = 0.0) -> NDArray[np.uint16]:
    """Half an ellipse on the left edge, rows 100 to 300 and columns 0 to 150, and a side marker."""
    y, x = np.mgrid[: SIZE[0], : SIZE[1]]
    inside = ((y - 200) / 100) ** 2 + (x / 150) ** 2 < 1
    grey = np.where(inside, 1500 + 8 * (150 - x), 30)
    grey[20:40, 250:280] = 4000
    grey = grey + noise * np.random.default_rng(0).standard_normal(SIZE)
    return grey.clip(0, 4095).astype("<u2")


def written(folder: Path, grey: NDArray[np.uint16], interpretation: str = "MONOCHROME2") -> Path:
    path = still(folder, new_uid=uid_source(1), size=SIZE)
    dataset = dcmread(path)
    dataset.SOPClassUID = uid.DigitalMammographyXRayImageStorageForPresentation
    dataset.file_meta.MediaStorageSOPClassUID = dataset.SOPClassUID
    dataset.PhotometricInterpretation = interpretation
    dataset.ImageLaterality, dataset.PatientOrientation = "L", ["A", "R"]
    dataset.PixelData = grey.tobytes()
    dataset.save_as(path)
    return path


def read_one(path: Path) -> Clip:
    (group,) = assemble([path]).groups
    return read(group)


@pytest.mark.parametrize("noise", [0.0, 10.0])
def test_a_mammogram_is_cut_to_its_breast(tmp_path: Path, noise: float) -> None:
    clip = read_one(written(tmp_path, mammogram(noise=noise)))
    height, width = clip.array.shape[2:]
    assert 198 <= height <= 200 + 2 * BLOCK
    assert 148 <= width <= 150 + BLOCK
    assert clip.array.max() < 3000  # the marker is gone


def test_an_inverted_mammogram_is_cut_alike(tmp_path: Path) -> None:
    expected = read_one(written(tmp_path, mammogram())).array
    inverted = read_one(written(tmp_path, (4095 - mammogram()).astype("<u2"), "MONOCHROME1")).array
    np.testing.assert_array_equal(inverted, expected)


def test_a_breast_that_fills_the_picture_is_whole() -> None:
    grey = 2000 + np.random.default_rng(0).normal(0, 300, (1, 256, 256)).astype(np.float32)
    box = breast(Picture(grey, None, Unit.STORED))
    assert box is None or (box.top, box.left, box.bottom, box.right) == (0, 0, 256, 256)


def test_a_picture_of_nothing_is_left_as_it_is() -> None:
    assert breast(Picture(np.zeros((1, 64, 64), np.float32), None, Unit.STORED)) is None


def ultrasound(folder: Path, **attributes: object) -> Path:
    """A sector of speckle in rows 32 to 95, columns 16 to 111; above it a name that stands."""
    path = cine(folder, new_uid=uid_source(1), frames=6, size=(128, 128))
    dataset = dcmread(path)
    random = np.random.default_rng(0)
    loop = np.zeros((6, 128, 128), np.uint8)
    loop[:, 32:96, 16:112] = random.integers(20, 200, (6, 64, 96))
    loop[:, 2:10, 5:90] = 255
    dataset.PixelData = loop.tobytes()
    del dataset.BurnedInAnnotation
    for keyword, value in attributes.items():
        setattr(dataset, keyword, value)
    dataset.save_as(path)
    return path


def test_a_loop_without_regions_is_cut_to_what_moves(tmp_path: Path) -> None:
    path = ultrasound(tmp_path)
    clip = read_one(path)
    margin = 2  # one block of two pixels
    rows, columns = slice(32 - margin, 96 + margin), slice(16 - margin, 112 + margin)
    np.testing.assert_array_equal(clip.array[0], dcmread(path).pixel_array[:, rows, columns])


def test_a_loop_that_says_it_names_nobody_stays_whole(tmp_path: Path) -> None:
    assert read_one(ultrasound(tmp_path, BurnedInAnnotation="NO")).array.shape[2:] == (128, 128)


def test_a_loop_in_which_nothing_moves_stays_whole() -> None:
    frozen = Picture(np.ones((1, 64, 64), np.float32), None, Unit.STORED)
    assert moving([frozen, frozen]) is None
