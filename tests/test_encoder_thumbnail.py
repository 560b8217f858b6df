"""Thumbnails: what is shown of an instance, and what never is of another patient's."""

from pathlib import Path

import numpy as np
import pytest
from pydicom import dcmread
from pydicom.data import get_testdata_file
from pydicom.uid import SecondaryCaptureImageStorage, UltrasoundImageStorage
from test_encoder_origin import paint

from encoder.errors import UnreadableImage
from encoder.origin import Box
from encoder.parts import Place
from encoder.thumbnail import BURNED_IN, thumbnail
from training.phantoms import cine, ct_series, slide, still, uid_source

SIDE_PX = 64


def bundled(name: str) -> Path:
    return Path(get_testdata_file(name, download=False) or "")


def changed(path: Path, **elements: object) -> Path:
    dataset = dcmread(path)
    for keyword, value in elements.items():
        if value is None:
            del dataset[keyword]
        else:
            setattr(dataset, keyword, value)
    dataset.save_as(path)
    return path


@pytest.mark.parametrize("of_another", [False, True])
def test_every_kind_gives_one_square_picture(tmp_path: Path, of_another: bool) -> None:
    paths = [
        ct_series(tmp_path, new_uid=uid_source(1), slices=2, size=32)[0],
        cine(tmp_path, new_uid=uid_source(2), frames=5, size=(32, 48)),
        slide(tmp_path, new_uid=uid_source(3), size=(512, 512), spacing_um=0.5, levels=1)[0],
        bundled("eCT_Supplemental.dcm"),
        bundled("waveform_ecg.dcm"),
    ]
    for path in paths:
        picture = thumbnail(path, SIDE_PX, of_another=of_another)
        assert picture.shape == (SIDE_PX, SIDE_PX, 3)
        assert picture.std() > 1, path


def test_a_ct_is_shown_in_the_window_of_its_scanner(tmp_path: Path) -> None:
    (path,) = ct_series(tmp_path, new_uid=uid_source(1), slices=1, size=SIDE_PX)
    stored = dcmread(path)
    hounsfield = stored.pixel_array * float(stored.RescaleSlope) + float(stored.RescaleIntercept)
    changed(path, WindowCenter=-500, WindowWidth=1000)
    shown = thumbnail(path, SIDE_PX, of_another=False)
    expected = ((hounsfield + 1000) / 1000).clip(0, 1) * 255
    assert np.abs(shown[..., 0] - expected).max() <= 1
    assert np.array_equal(shown[..., 0], shown[..., 2])


def test_what_is_burned_in_beside_the_tissue_of_an_ultrasound_is_cut_away(tmp_path: Path) -> None:
    """The name strip of a loop with regions is white: none of it may be left."""
    dataset = dcmread(bundled("examples_ybr_color.dcm"))
    assert dataset.get("BurnedInAnnotation") is None
    region = dataset.SequenceOfUltrasoundRegions[0]
    region.RegionLocationMinX0, region.RegionLocationMaxX1 = 40, 280
    region.RegionLocationMinY0, region.RegionLocationMaxY1 = 60, 239
    dataset.decompress()
    frames = dataset.pixel_array.copy()
    frames[:] = 20
    frames[:, 100:200, 100:200] += (np.arange(len(frames)) * 2).astype(np.uint8)[
        :, None, None, None
    ]
    with_name = frames.copy()
    with_name[:, :60] = 255
    pictures = []
    for number, pixels in enumerate((frames, with_name)):
        dataset.PixelData = pixels.tobytes()
        path = tmp_path / f"{number}.dcm"
        dataset.save_as(path)
        pictures.append(thumbnail(path, SIDE_PX, of_another=True))
    assert np.array_equal(*pictures)


def test_an_ultrasound_that_declares_its_text_is_not_shown_though_it_has_regions(
    tmp_path: Path,
) -> None:
    """Text inside a region, as depth and frame rate, is not cut away."""
    dataset = dcmread(bundled("examples_ybr_color.dcm"))
    dataset.BurnedInAnnotation = "YES"
    region = dataset.SequenceOfUltrasoundRegions[0]
    region.RegionLocationMinX0, region.RegionLocationMaxX1 = 40, 280
    dataset.save_as(tmp_path / "us.dcm")

    with pytest.raises(UnreadableImage, match=BURNED_IN):
        thumbnail(tmp_path / "us.dcm", SIDE_PX, of_another=True)
    assert thumbnail(tmp_path / "us.dcm", SIDE_PX, of_another=False).any()


@pytest.mark.parametrize(
    ("sop_class", "declared", "shown"),
    [
        (UltrasoundImageStorage, None, False),
        (UltrasoundImageStorage, "YES", False),
        (UltrasoundImageStorage, "NO", True),
        (SecondaryCaptureImageStorage, None, False),
        (SecondaryCaptureImageStorage, "NO", True),
        ("1.2.840.10008.5.1.4.1.1.1", None, True),  # CR
        ("1.2.840.10008.5.1.4.1.1.1", "YES", False),
        ("1.2.840.10008.5.1.4.1.1.77.1.1", None, False),  # endoscopy
    ],
)
def test_another_patients_picture_is_shown_only_where_no_name_can_be_in_it(
    tmp_path: Path, sop_class: str, declared: str | None, shown: bool
) -> None:
    path = still(tmp_path, new_uid=uid_source(1), size=(64, 48))
    changed(path, SOPClassUID=sop_class, BurnedInAnnotation=declared)
    assert thumbnail(path, SIDE_PX, of_another=False).any(), "the patient's own is always shown"
    if shown:
        assert thumbnail(path, SIDE_PX, of_another=True).any()
    else:
        with pytest.raises(UnreadableImage, match=BURNED_IN):
            thumbnail(path, SIDE_PX, of_another=True)


def test_a_damaged_file_is_unreadable() -> None:
    with pytest.raises(UnreadableImage):
        thumbnail(bundled("MR_truncated.dcm"), SIDE_PX, of_another=False)


def test_letters_beside_the_largest_part_of_an_ultrasound_are_black(tmp_path: Path) -> None:
    path = still(tmp_path, new_uid=uid_source(1), size=(SIDE_PX, SIDE_PX))
    dataset = dcmread(path)
    pixels = np.zeros_like(dataset.pixel_array)
    pixels[20:60, 10:50] = pixels[4:10, 4:8] = 200
    dataset.PixelData = pixels.tobytes()
    dataset.save_as(path)
    changed(path, SOPClassUID=UltrasoundImageStorage)
    own, other = (thumbnail(path, SIDE_PX, of_another=each) for each in (False, True))
    assert own[4:10, 4:8].min() > 200
    assert other[:15].max() == 0
    assert np.array_equal(own[20:60, 10:50], other[20:60, 10:50])


def test_a_place_is_shown_in_its_frame_with_a_line_around_it(tmp_path: Path) -> None:
    path = cine(tmp_path, new_uid=uid_source(1), frames=12, size=(SIDE_PX, SIDE_PX))
    uid = paint(path, frame=slice(9, 12), box=Box(20, 40, 30, 50))
    middle = thumbnail(path, SIDE_PX, of_another=False)
    assert middle.max() < 250, "in the middle nothing is painted yet"
    shown = thumbnail(path, SIDE_PX, of_another=False, at=Place(uid, 11, Box(20, 40, 30, 50)))
    assert (shown[21:39, 31:49] == 255).all(), "the frame of the place"
    line = np.array((255, 190, 90))
    assert (shown[20, 30:50] == line).all() and (shown[20:40, 49] == line).all()
    assert not (shown[:19] == line).all(axis=-1).any()
