from collections.abc import Callable
from copy import deepcopy
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydicom import Dataset, dcmread, uid
from pydicom.data import get_testdata_file

from encoder.clip import Kind
from encoder.selection import LOCALIZER
from encoder.series import NOT_IMAGES, assemble
from training.phantoms import cine, ct_series, still, uid_source


def bundled(name: str) -> Path:
    path = get_testdata_file(name, download=False)
    assert isinstance(path, str), f"{name} is not in this pydicom-data"
    return Path(path)


def small_ct(folder: Path, slices: int = 6, seed: int = 1) -> list[Path]:
    return ct_series(folder, new_uid=uid_source(seed), slices=slices, size=16)


def edit(path: Path, change: Callable[[Dataset], None]) -> None:
    dataset = dcmread(path)
    change(dataset)
    dataset.save_as(path)


def test_a_ct_series_is_one_volume_from_feet_to_head(tmp_path: Path) -> None:
    paths = small_ct(tmp_path)
    (group,) = assemble(paths).groups
    assert group.kind is Kind.VOLUME
    assert group.spacing == pytest.approx((2.5, 0.7, 0.7))
    assert [frame.path for frame in group.frames] == paths


@settings(max_examples=20, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(order=st.permutations(range(6)))
def test_neither_the_order_of_files_nor_instance_numbers_matter(
    tmp_path: Path, order: list[int]
) -> None:
    paths = small_ct(tmp_path)
    expected = assemble(paths)
    for path, number in zip(paths, order, strict=True):
        edit(path, lambda ds, number=number: setattr(ds, "InstanceNumber", number))
    assert assemble([paths[i] for i in order]) == expected


def test_oblique_slices_are_ordered_along_their_normal(tmp_path: Path) -> None:
    paths = small_ct(tmp_path)
    row, column = np.array([0.8, 0.6, 0.0]), np.array([0.0, 0.0, -1.0])
    normal = np.cross(row, column)
    for number, path in enumerate(paths):

        def tilt(dataset: Dataset, number: int = number) -> None:
            dataset.ImageOrientationPatient = [*row, *column]
            position = -3.0 * number * normal
            dataset.ImagePositionPatient = [f"{value:.6f}" for value in position]

        edit(path, tilt)
    (group,) = assemble(paths).groups
    assert [frame.path for frame in group.frames] == paths[::-1]
    assert group.spacing[0] == pytest.approx(3.0)


def test_jitter_in_orientation_does_not_split_a_volume(tmp_path: Path) -> None:
    paths = small_ct(tmp_path)
    edit(paths[2], lambda ds: setattr(ds, "ImageOrientationPatient", [1, 1e-4, 0, -1e-4, 1, 0]))
    assert [len(group.frames) for group in assemble(paths).groups] == [6]


def test_two_phases_become_two_volumes_and_are_not_interleaved(tmp_path: Path) -> None:
    first = small_ct(tmp_path / "first")
    second = small_ct(tmp_path / "second", seed=2)
    frame_of_reference = dcmread(first[0]).FrameOfReferenceUID
    for path in second:

        def later(dataset: Dataset) -> None:
            dataset.AcquisitionNumber = 2
            dataset.FrameOfReferenceUID = frame_of_reference

        edit(path, later)
    groups = assemble(first + second).groups
    assert {tuple(frame.path for frame in group.frames) for group in groups} == {
        tuple(first),
        tuple(second),
    }


def test_a_localizer_is_left_out(tmp_path: Path) -> None:
    paths = small_ct(tmp_path)
    edit(paths[0], lambda ds: setattr(ds, "ImageType", ["ORIGINAL", "PRIMARY", "LOCALIZER"]))
    assembly = assemble(paths)
    assert [(group.kind, len(group.frames)) for group in assembly.groups] == [(Kind.VOLUME, 5)]
    assert [each.reason for each in assembly.skipped] == [LOCALIZER]


@pytest.mark.parametrize(
    ("keyword", "value"),
    [
        ("PixelSpacing", [0.9, 0.9]),
        ("ImageOrientationPatient", [1, 0, 0, 0, 0, -1]),
        ("FrameOfReferenceUID", "2.25.1"),
        ("ImageType", ["DERIVED", "SECONDARY", "MPR"]),
    ],
)
def test_slices_of_another_geometry_are_kept_apart(
    tmp_path: Path, keyword: str, value: object
) -> None:
    paths = small_ct(tmp_path)
    for path in paths[:2]:
        edit(path, lambda ds: setattr(ds, keyword, value))
    together = [{frame.path for frame in group.frames} for group in assemble(paths).groups]
    assert set(paths[2:]) in together
    assert set().union(*together) == set(paths)


def test_one_slice_is_a_still(tmp_path: Path) -> None:
    (group,) = assemble(small_ct(tmp_path, slices=1)).groups
    assert (group.kind, group.spacing) == (Kind.STILL, pytest.approx((0.0, 0.7, 0.7)))


def test_radiographs_of_one_series_are_a_still_each(tmp_path: Path) -> None:
    new_uid = uid_source(1)
    paths = [still(tmp_path, new_uid=new_uid, size=(16, 16)) for _ in range(2)]
    groups = assemble(paths).groups
    assert [group.kind for group in groups] == [Kind.STILL, Kind.STILL]
    assert groups[0].spacing == (0.0, 0.8, 0.8)


def test_a_loop_is_a_cine_with_its_frame_time_in_seconds(tmp_path: Path) -> None:
    path = cine(tmp_path, new_uid=uid_source(1), frames=4, size=(16, 16), frame_time_ms=40)
    (group,) = assemble([path]).groups
    assert group.kind is Kind.CINE
    assert group.spacing == pytest.approx((0.04, 1.0, 1.0))
    assert [frame.index for frame in group.frames] == [None]


@pytest.mark.parametrize(
    ("keyword", "value", "step_s"),
    [
        ("FrameTimeVector", [0, 20, 20, 20], 0.02),
        ("CineRate", 25, 0.04),
        ("RecommendedDisplayFrameRate", 50, 0.02),
        ("FrameTimeVector", [0, 20], 0.0),
        ("CineRate", 0, 0.0),
    ],
)
def test_other_statements_of_the_frame_rate_are_understood(
    tmp_path: Path, keyword: str, value: object, step_s: float
) -> None:
    path = cine(tmp_path, new_uid=uid_source(1), frames=4, size=(16, 16))

    def restate(dataset: Dataset) -> None:
        del dataset.FrameTime
        setattr(dataset, keyword, value)

    edit(path, restate)
    (group,) = assemble([path]).groups
    assert group.spacing[0] == pytest.approx(step_s)


def test_an_enhanced_ct_is_a_volume_of_its_frames() -> None:
    (group,) = assemble([bundled("eCT_Supplemental.dcm")]).groups
    assert group.kind is Kind.VOLUME
    # Its rows run to the right and row x column to the feet; the stack still goes headwards.
    assert [frame.index for frame in group.frames] == [0, 1]
    assert group.spacing == pytest.approx((10.0, 0.388672, 0.388672))


def test_frames_of_an_enhanced_object_at_one_place_are_a_cine(tmp_path: Path) -> None:
    path = tmp_path / "loop.dcm"
    dataset = dcmread(bundled("eCT_Supplemental.dcm"))
    planes = [group.PlanePositionSequence[0] for group in dataset.PerFrameFunctionalGroupsSequence]
    planes[1].ImagePositionPatient = planes[0].ImagePositionPatient
    dataset.save_as(path)
    (group,) = assemble([path]).groups
    assert group.kind is Kind.CINE


def test_ultrasound_spacing_comes_from_its_region() -> None:
    (group,) = assemble([bundled("examples_palette.dcm")]).groups
    assert group.spacing == pytest.approx((0.0, 0.262288, 0.262288), rel=1e-4)


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("test-SR.dcm", "a structured report"),
        ("rtplan.dcm", "a treatment plan"),
        ("rtdose.dcm", "a dose grid"),
        ("liver_1frame.dcm", "a segmentation"),
    ],
)
def test_what_is_no_image_is_skipped_with_its_reason(name: str, reason: str) -> None:
    assembly = assemble([bundled(name)])
    assert assembly.groups == ()
    assert [skipped.reason for skipped in assembly.skipped] == [reason]


def test_modality_is_never_asked(tmp_path: Path) -> None:
    paths = small_ct(tmp_path)
    expected = assemble(paths)
    for path in paths:
        edit(path, lambda ds: setattr(ds, "Modality", "SR"))
    assert assemble(paths) == expected


def test_a_file_that_is_not_dicom_is_unreadable(tmp_path: Path) -> None:
    path = tmp_path / "letter.dcm"
    path.write_text("no preamble, no prefix")
    (unreadable,) = assemble([path]).unreadable
    assert unreadable.sop_instance_uid == ""
    assert "InvalidDicomError" in unreadable.reason


def test_a_malformed_number_of_frames_is_skipped_not_fatal() -> None:
    (skipped,) = assemble([bundled("badVR.dcm")]).skipped
    assert skipped.reason


@pytest.mark.parametrize("count", [2**31 - 1, -3])
def test_an_absurd_number_of_frames_is_unreadable_without_cost(tmp_path: Path, count: int) -> None:
    path = cine(tmp_path, new_uid=uid_source(1), frames=2, size=(8, 8))
    edit(path, lambda ds: setattr(ds, "NumberOfFrames", count))
    (unreadable,) = assemble([path]).unreadable
    assert unreadable.reason == "unreadable header (ValueError)"


def test_every_table_entry_is_a_storage_class() -> None:
    assert all("Storage" in uid.UID(sop_class).name for sop_class in NOT_IMAGES)


def test_a_missing_file_is_no_fault_of_the_series(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        assemble([tmp_path / "gone.dcm"])


def test_moments_of_an_enhanced_object_are_not_interleaved(tmp_path: Path) -> None:
    dataset = dcmread(bundled("eCT_Supplemental.dcm"))
    template = dataset.PerFrameFunctionalGroupsSequence
    frames = []
    for number in range(6):  # 3 places, 2 moments each
        frame = deepcopy(template[0])
        x, y, _ = frame.PlanePositionSequence[0].ImagePositionPatient
        frame.PlanePositionSequence[0].ImagePositionPatient = [x, y, 2.0 * (number // 2)]
        frame.FrameContentSequence[0].TemporalPositionIndex = 1 + number % 2
        frames.append(frame)
    dataset.PerFrameFunctionalGroupsSequence = frames
    dataset.NumberOfFrames = 6
    dataset.PixelData = dataset.PixelData[: dataset.Rows * dataset.Columns * 2] * 6
    path = tmp_path / "phases.dcm"
    dataset.save_as(path)
    groups = assemble([path]).groups
    indices = [[frame.index for frame in group.frames] for group in groups]
    assert indices == [[0, 2, 4], [1, 3, 5]]
    assert [group.spacing[0] for group in groups] == pytest.approx([2.0, 2.0])


def test_a_frame_of_reference_for_every_slice_does_not_split_the_volume(tmp_path: Path) -> None:
    paths = small_ct(tmp_path)
    for number, path in enumerate(paths):
        edit(path, lambda ds, n=number: setattr(ds, "FrameOfReferenceUID", f"2.25.{n + 1}"))
    (group,) = assemble(paths).groups
    assert [frame.path for frame in group.frames] == paths
