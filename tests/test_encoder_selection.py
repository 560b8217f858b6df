from collections.abc import Callable
from pathlib import Path

import pytest
from pydicom import Dataset, dcmread, uid

from encoder.selection import PROJECTION, RAW, SHEET, why_left_out
from encoder.series import assemble
from training.phantoms import ct_series, still, uid_source


def header(sop_class: str, **attributes: object) -> Dataset:
    dataset = Dataset()
    dataset.SOPClassUID = sop_class
    for keyword, value in attributes.items():
        setattr(dataset, keyword, value)
    return dataset


@pytest.mark.parametrize(
    "sop_class",
    [
        uid.DigitalXRayImageStorageForProcessing,
        uid.DigitalMammographyXRayImageStorageForProcessing,
        uid.BreastProjectionXRayImageStorageForProcessing,
        uid.DigitalIntraOralXRayImageStorageForProcessing,
    ],
)
def test_raw_detector_data_are_left_out(sop_class: str) -> None:
    assert why_left_out(header(sop_class)) == RAW


def test_of_a_raw_and_a_shown_mammogram_the_shown_one_is_read(tmp_path: Path) -> None:
    new_uid = uid_source(1)
    shown, raw = (still(tmp_path, new_uid=new_uid, size=(16, 16)) for _ in range(2))
    dataset = dcmread(raw)
    dataset.PresentationIntentType = "FOR PROCESSING"
    dataset.save_as(raw)
    assembly = assemble([raw, shown])
    assert [group.frames[0].path for group in assembly.groups] == [shown]
    assert [left.reason for left in assembly.skipped] == [RAW]


@pytest.mark.parametrize(
    ("conversion", "is_wanted"),
    [
        ("WSD", False),
        ("SD", False),
        ("SI", False),
        ("DRW", False),
        ("SYN", False),
        ("DF", True),  # digitised film
        ("DV", True),  # digitised video
        ("DI", True),
        ("", True),
    ],
)
def test_secondary_captures_are_wanted_where_they_show_the_patient(
    conversion: str, is_wanted: bool
) -> None:
    capture = header(uid.SecondaryCaptureImageStorage, ConversionType=conversion)
    assert (why_left_out(capture) is None) == is_wanted
    photograph = header(uid.VLPhotographicImageStorage, ConversionType=conversion)
    assert why_left_out(photograph) is None


@pytest.mark.parametrize(
    ("attributes", "is_sheet"),
    [
        ({"ImageType": ["DERIVED", "SECONDARY", "SCREEN SAVE"]}, True),
        ({"ImageType": ["DERIVED", "SECONDARY", "DOSE_INFO"]}, True),
        ({"ImageType": ["DERIVED", "SECONDARY", "OTHER", "CT_SOM5 PROT"]}, True),
        ({"ImageType": ["DERIVED", "SECONDARY"], "SeriesDescription": "Dose Report"}, True),
        ({"ImageType": ["DERIVED", "SECONDARY"], "SeriesDescription": "Patient Protocol"}, True),
        ({"ImageType": ["DERIVED", "SECONDARY"], "ImagePositionPatient": None}, True),
        ({"ImageType": ["DERIVED", "SECONDARY", "REFORMATTED"]}, False),
        ({"ImageType": ["DERIVED", "SECONDARY", "MPR"], "SeriesDescription": "Low dose"}, False),
        ({"ImageType": ["ORIGINAL", "PRIMARY", "AXIAL"], "SeriesDescription": "Dose info"}, False),
    ],
)
def test_dose_and_protocol_sheets_are_left_out(
    attributes: dict[str, object], is_sheet: bool
) -> None:
    place = {"ImagePositionPatient": [0, 0, 0], **attributes}
    assert (why_left_out(header(uid.CTImageStorage, **place)) == SHEET) == is_sheet


def marked_as_projection(dataset: Dataset) -> None:
    dataset.ImageType = ["DERIVED", "SECONDARY", "MIP"]


def rendered(dataset: Dataset) -> None:
    dataset.VolumeBasedCalculationTechnique = "VOLUME_RENDER"


@pytest.mark.parametrize("mark", [marked_as_projection, rendered])
def test_projections_are_read_only_where_the_series_has_nothing_else(
    tmp_path: Path, mark: Callable[[Dataset], None]
) -> None:
    slices = ct_series(tmp_path / "a", new_uid=uid_source(1), slices=3, size=8)
    projections = ct_series(tmp_path / "b", new_uid=uid_source(2), slices=2, size=8)
    for path in projections:
        dataset = dcmread(path)
        mark(dataset)
        dataset.save_as(path)
    both = assemble([*projections, *slices])
    assert [len(group.frames) for group in both.groups] == [3]
    assert [left.reason for left in both.skipped] == [PROJECTION] * 2
    alone = assemble(projections)
    assert [len(group.frames) for group in alone.groups] == [2]
    assert alone.skipped == ()
