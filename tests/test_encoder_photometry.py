from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import SimpleITK
from numpy.typing import NDArray
from peers import run
from PIL import Image
from pydicom import Dataset, dcmread

from encoder.clip import Clip, Unit
from encoder.codecs import decode
from encoder.photometry import Picture, picture
from encoder.pixels import read
from encoder.series import assemble
from training.phantoms import still, uid_source

Bundled = Callable[[str], Path]


def first_picture(path: Path) -> Picture:
    dataset = dcmread(path)
    return picture(dataset, next(decode(dataset, [0])), 0)


def seen(path: Path) -> NDArray[np.float32]:
    """Return the first frame whole, (H, W, C)."""
    return np.moveaxis(first_picture(path).values, 0, -1)


def read_one(path: Path) -> Clip:
    (group,) = assemble([path]).groups
    return read(group)


def by_dcmtk(path: Path, folder: Path) -> NDArray[np.uint8]:
    run("dcmj2pnm", "--write-raw-pnm", path, folder / "picture.pnm")
    with Image.open(folder / "picture.pnm") as image:
        return np.array(image)


@pytest.mark.parametrize(
    "name",
    [
        "examples_palette.dcm",
        "OBXXXX1A_expb.dcm",  # a palette written big-endian
        "OBXXXX1A_rle.dcm",
        "examples_ybr_color.dcm",
        "color3d_jpeg_baseline.dcm",
        "SC_rgb_jpeg_gdcm.dcm",
        "SC_rgb_dcmtk_+eb+cy+n1.dcm",
        "SC_rgb_dcmtk_+eb+cy+s2.dcm",
        "SC_rgb_dcmtk_+eb+cr.dcm",
        "SC_jpeg_no_color_transform.dcm",
        "SC_rgb_jpeg_app14_dcmd.dcm",
        "SC_rgb_16bit.dcm",
        "SC_rgb_expb_16bit.dcm",
    ],
)
def test_colours_are_those_that_dcmtk_shows(bundled: Bundled, tmp_path: Path, name: str) -> None:
    """No difference in any of them; 16 bit samples are compared as the 8 bits DCMTK writes."""
    path = bundled(name)
    np.testing.assert_array_equal(seen(path).round(), by_dcmtk(path, tmp_path))


@pytest.mark.parametrize(
    ("name", "pixels_sharing_chroma"),
    [("SC_ybr_full_uncompressed.dcm", 1), ("SC_ybr_full_422_uncompressed.dcm", 2)],
)
def test_ybr_follows_the_formula_of_the_standard(
    bundled: Bundled, tmp_path: Path, name: str, pixels_sharing_chroma: int
) -> None:
    """PS3.3 C.7.6.3.1.2. DCMTK is up to 1.9 grey levels away from it here, and we are right."""
    dataset = dcmread(bundled(name))
    shape = (dataset.Rows, -1, pixels_sharing_chroma + 2)
    samples = np.frombuffer(dataset.PixelData, "u1").astype(float).reshape(shape)
    y = samples[..., :pixels_sharing_chroma].reshape(dataset.Rows, dataset.Columns)
    cb, cr = (
        np.repeat(samples[..., channel], pixels_sharing_chroma, axis=1) - 128
        for channel in (-2, -1)
    )
    exact = np.stack([y + 1.402 * cr, y - 0.3441 * cb - 0.7141 * cr, y + 1.772 * cb], axis=-1)
    assert np.abs(seen(bundled(name)) - exact.clip(0, 255)).max() <= 0.51
    assert 1 < np.abs(by_dcmtk(bundled(name), tmp_path) - exact.clip(0, 255)).max() < 2


@pytest.mark.parametrize(
    "name",
    [
        "gdcm-US-ALOKA-16.dcm",  # a segmented palette, which DCMTK does not read
        "gdcm-US-ALOKA-16_big.dcm",
        "US1_J2KI.dcm",
        "US1_J2KR.dcm",
        "examples_jpeg2k.dcm",
        "GDCMJ2K_TextGBR.dcm",
        "SC_rgb_jls_lossy_line.dcm",
        "693_J2KI.dcm",
        "MR_small_jp2klossless.dcm",
    ],
)
def test_what_dcmtk_cannot_show_is_as_gdcm_shows_it(bundled: Bundled, name: str) -> None:
    image = SimpleITK.GetArrayFromImage(SimpleITK.ReadImage(str(bundled(name))))[0]
    ours = seen(bundled(name))
    if ours.shape[-1] == 3 and image.dtype == np.uint16:
        image >>= 8  # GDCM leaves the 16 bits of the palette's entries
    np.testing.assert_array_equal(ours, image.reshape(ours.shape))


@pytest.mark.parametrize(
    ("interpretation", "shape", "inverted"),
    [
        ("MONOCHROME2", "IDENTITY", False),
        ("MONOCHROME2", "INVERSE", True),
        ("MONOCHROME1", "INVERSE", True),
        ("MONOCHROME1", "IDENTITY", True),
    ],
)
def test_grey_is_inverted_once_whoever_says_so(
    tmp_path: Path, interpretation: str, shape: str, inverted: bool
) -> None:
    path = still(tmp_path, new_uid=uid_source(1), size=(16, 16))
    dataset = dcmread(path)
    dataset.PhotometricInterpretation, dataset.PresentationLUTShape = interpretation, shape
    dataset.save_as(path)
    stored = dataset.pixel_array.astype(np.float32)
    expected = 4095 - stored if inverted else stored
    np.testing.assert_array_equal(read_one(path).array[0, 0], expected)


def test_a_window_is_never_applied(tmp_path: Path) -> None:
    path = still(tmp_path, new_uid=uid_source(1), size=(16, 16))
    before = read_one(path).array
    dataset = dcmread(path)
    dataset.WindowCenter, dataset.WindowWidth = 10, 5
    dataset.save_as(path)
    np.testing.assert_array_equal(read_one(path).array, before)


@pytest.mark.parametrize(
    ("bits", "signed", "vr", "written"),
    [
        (16, 1, "US", 63536),  # -2000 as unsigned
        (16, 1, "SS", -2000),
        (12, 1, "US", 2096),  # -2000 in 12 bits
        (12, 1, "SS", -2000),
        (16, 0, "SS", -2000),
    ],
)
def test_padding_is_found_whatever_sign_its_attribute_has(
    bundled: Bundled, bits: int, signed: int, vr: str, written: int
) -> None:
    dataset = dcmread(bundled("MR_small.dcm"))
    dataset.BitsStored, dataset.HighBit, dataset.PixelRepresentation = bits, bits - 1, signed
    stored = np.arange(64 * 64, dtype="<i2").reshape(64, 64) % 100
    stored[:5] = -2000
    dataset.PixelData = stored.tobytes()
    dataset.add_new("PixelPaddingValue", vr, written)
    valid = picture(dataset, next(decode(dataset, [0])), 0).valid
    assert valid is not None
    np.testing.assert_array_equal(valid, stored != -2000)


def test_every_frame_of_an_enhanced_object_has_its_own_rescale(bundled: Bundled) -> None:
    dataset = dcmread(bundled("emri_small.dcm"))
    groups = [Dataset() for _ in range(10)]
    dataset.PerFrameFunctionalGroupsSequence = groups
    for number, group in enumerate(groups):
        transformation = Dataset()
        transformation.RescaleSlope, transformation.RescaleIntercept = number + 1, -number
        group.PixelValueTransformationSequence = [transformation]
    for number, stored in enumerate(decode(dataset, range(10))):
        values = picture(dataset, stored, number).values[0]
        np.testing.assert_array_equal(values, stored.astype(np.float32) * (number + 1) - number)


def test_colour_is_neither_stored_grey_nor_a_physical_unit(bundled: Bundled) -> None:
    assert first_picture(bundled("examples_palette.dcm")).unit is Unit.COLOUR
