"""Faults of real series, each with the volume that is known to be right."""

import tracemalloc
from collections.abc import Sequence
from dataclasses import replace
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from planes import (
    CLEAN_MM,
    PIXEL_MM,
    SIZE,
    X_MM,
    Y_MM,
    Z_MM,
    Plane,
    assembled,
    axial,
    check_axial,
    clips,
    truth,
    write,
)
from pydicom import dcmread

from encoder.clip import Kind
from encoder.config import Extent
from encoder.errors import UnreadableImage
from encoder.normalise import normalise
from encoder.series import REPLACED, assemble
from encoder.volume import CHUNK_BYTES, read_clip
from training.phantoms import ct_series, uid_source


def jitter(values: Sequence[float], most: float) -> list[float]:
    return [*(np.array(values) + np.random.default_rng(0).uniform(-most, most, len(values)))]


# fault: z of the slices in the order written; z of the volume that is right.
ONE_VOLUME: dict[str, tuple[list[float], list[float]]] = {
    "clean": (CLEAN_MM, CLEAN_MM),
    "shuffled InstanceNumber": ([CLEAN_MM[i] for i in (3, 0, 7, 5, 1, 6, 2, 4)], CLEAN_MM),
    "reversed": (CLEAN_MM[::-1], CLEAN_MM),
    "table jitter of 4 micrometres": (jitter(CLEAN_MM, 0.004), CLEAN_MM),
    "positions rounded to 0.1 mm": (
        [round(1.25 * number - 1e-9, 1) for number in range(33)],
        [1.25 * number for number in range(33)],
    ),
    "missing slice": (
        [2.0 * number for number in range(20) if number != 7],
        [2.0 * number for number in range(20)],
    ),
    "two missing slices in a row": (
        [2.0 * number for number in range(30) if number not in (7, 8)],
        [2.0 * number for number in range(30)],
    ),
    "irregular spacing": (
        [0.0, 2.0, 3.5, 6.0, 8.0, 9.5, 12.0, 14.0],
        [0.0, 2.0, 4.0, 6.0, 8.0, 10.0, 12.0, 14.0],
    ),
    "a step that doubles half way": (
        [0, 5, 10, 15, 20, 30, 40, 50, 60],
        [7.5 * number for number in range(9)],
    ),
}


@pytest.mark.parametrize("fault", ONE_VOLUME)
def test_one_stack_becomes_one_regular_volume(tmp_path: Path, fault: str) -> None:
    written_mm, right_mm = ONE_VOLUME[fault]
    (clip,) = clips(tmp_path, axial(written_mm))
    tolerance_hu = 0.07 + {"positions rounded to 0.1 mm": 13 * 0.05}.get(fault, 13 * 0.004)
    check_axial(clip, right_mm, tolerance_hu=tolerance_hu)
    assert len(clip.sources) == len(written_mm)


def test_an_oblique_stack_is_ordered_and_measured_along_its_normal(tmp_path: Path) -> None:
    turn = np.deg2rad(20)
    column = (0.0, float(np.cos(turn)), float(np.sin(turn)))
    normal = np.cross((1.0, 0.0, 0.0), column)
    origins = [np.array([X_MM, Y_MM, Z_MM]) + 3.0 * number * normal for number in range(6)]
    planes = [Plane((o[0], o[1], o[2]), column=column) for o in origins]
    (clip,) = clips(tmp_path, planes[::-1])
    np.testing.assert_allclose(clip.array[0], [p.values() for p in planes], atol=0.07)
    assert clip.spacing == pytest.approx((3.0, *PIXEL_MM))


@pytest.mark.parametrize("degrees", [15, -15])
def test_a_gantry_tilt_is_sheared_back(tmp_path: Path, degrees: float) -> None:
    turn = np.deg2rad(degrees)
    row, column = np.array([1.0, 0.0, 0.0]), np.array([0.0, np.cos(turn), np.sin(turn)])
    normal = np.cross(row, column)
    planes = [replace(plane, column=tuple(column)) for plane in axial(CLEAN_MM)]
    (clip,) = clips(tmp_path, planes)
    step_mm = 2.0 * np.cos(turn)
    assert clip.spacing == pytest.approx((step_mm, *PIXEL_MM), abs=1e-4)
    drift_mm = 2.0 * np.sin(turn) * np.arange(8)
    first_mm = np.array(planes[0].origin_mm) + min(drift_mm) * column
    margin = int(np.ceil(np.ptp(drift_mm) / PIXEL_MM[0]))
    assert clip.array.shape == (1, 8, SIZE[0] + margin, SIZE[1])
    assert clip.valid is not None
    for number in range(8):
        origin_mm = first_mm + number * step_mm * normal
        expected = truth(origin_mm, row, column, (SIZE[0] + margin, SIZE[1]))
        rows = np.flatnonzero(clip.valid[number, :, 0])
        start = (drift_mm[number] - min(drift_mm)) / PIXEL_MM[0]
        assert (rows[0], rows[-1]) == (round(start), round(start) + SIZE[0] - 1)
        inner = rows[1:-1]
        np.testing.assert_allclose(clip.array[0, number, inner], expected[inner], atol=0.1)


def test_more_missing_slices_than_a_tenth_split_the_stack_at_every_gap(tmp_path: Path) -> None:
    z_mm = [2.0 * number for number in range(20) if number not in (5, 6, 13)]
    parts = sorted(clips(tmp_path, axial(z_mm)), key=lambda clip: clip.array[0, 0, 0, 0])
    for part, (start, stop) in zip(parts, [(0, 5), (7, 13), (14, 20)], strict=True):
        check_axial(part, [2.0 * number for number in range(start, stop)])


def test_a_slice_acquired_again_replaces_the_first(tmp_path: Path) -> None:
    again = replace(axial(CLEAN_MM)[3], offset=100.0, header=(("AcquisitionNumber", 2),))
    planes = [again, *axial(CLEAN_MM)]
    paths = write(tmp_path, planes)
    assembly = assemble(paths)
    (clip,) = map(read_clip, assembly.groups)
    assert clip.spacing[0] == pytest.approx(2.0)
    expected = np.stack([plane.values() for plane in axial(CLEAN_MM)])
    expected[3] += 100
    np.testing.assert_allclose(clip.array[0], expected, atol=0.07)
    assert [(s.sop_instance_uid, s.reason) for s in assembly.skipped] == [(paths[4].stem, REPLACED)]


def test_a_repeat_that_nothing_tells_apart_is_decided_by_its_time(tmp_path: Path) -> None:
    old, new = ((("AcquisitionTime", t),) for t in ("120000", "120500"))
    planes = [*axial(CLEAN_MM, header=new), *axial(CLEAN_MM[2:4], header=old, offset=100.0)]
    (clip,) = clips(tmp_path, planes)
    check_axial(clip, CLEAN_MM)


def test_two_overlapping_acquisitions_and_a_lone_repeat_stay_two_volumes(tmp_path: Path) -> None:
    low, high = CLEAN_MM[:4], [6.0, 8.0, 10.0, 12.0, 14.0, 16.0]
    planes = [
        *axial(low, header=(("AcquisitionNumber", 1),)),
        *axial(high, header=(("AcquisitionNumber", 2),), offset=100.0),
        *axial([10.0], header=(("AcquisitionNumber", 3),), offset=100.0),
    ]
    parts = sorted(clips(tmp_path, planes), key=lambda clip: clip.array[0, 0, 0, 0])
    for part, z_mm, offset in zip(parts, (low, high), (0.0, 100.0), strict=True):
        check_axial(part, z_mm, offset=offset)


def test_a_localizer_stays_out_of_the_volume(tmp_path: Path) -> None:
    scout = (("ImageType", ["ORIGINAL", "PRIMARY", "LOCALIZER"]),)
    for number, changes in enumerate([{}, {"row": (0.0, 1.0, 0.0), "column": (0.0, 0.0, -1.0)}]):
        planes = [*axial([7.0], header=scout, **changes), *axial(CLEAN_MM)]
        (volume,) = clips(tmp_path / str(number), planes)
        check_axial(volume, CLEAN_MM)


PHASES: dict[str, tuple[object, object]] = {
    "TemporalPositionIdentifier": (1, 2),
    "TriggerTime": (0, 400),
    "AcquisitionNumber": (1, 2),
    "DiffusionBValue": (0, 1000),
    "DiffusionGradientOrientation": ([1, 0, 0], [0, 1, 0]),
    "EchoTime": (2.3, 4.6),
    "ConvolutionKernel": ("B30f", ["B70f", "3"]),
    "SliceThickness": (2, 4),
    "ImageType": (["ORIGINAL", "PRIMARY", "AXIAL"], ["DERIVED", "SECONDARY", "MPR"]),
    "FrameOfReferenceUID": ("2.25.8", "2.25.9"),
}


@pytest.mark.parametrize("keyword", PHASES)
def test_two_stacks_in_one_place_are_never_interleaved(tmp_path: Path, keyword: str) -> None:
    first, second = PHASES[keyword]
    planes = [
        plane
        for z in CLEAN_MM
        for plane in (
            *axial([z], header=((keyword, first),)),
            *axial([z], header=((keyword, second),), offset=100.0),
        )
    ]
    parts = sorted(clips(tmp_path, planes), key=lambda clip: clip.array[0, 0, 0, 0])
    for part, offset in zip(parts, (0.0, 100.0), strict=True):
        check_axial(part, CLEAN_MM, offset=offset)


def test_an_uneven_heart_does_not_tear_its_phases_apart(tmp_path: Path) -> None:
    planes = [
        *[axial([z], header=(("TriggerTime", 2 * i),))[0] for i, z in enumerate(CLEAN_MM)],
        *axial(CLEAN_MM, header=(("TriggerTime", 400.5),), offset=100.0),
    ]
    parts = sorted(clips(tmp_path, planes), key=lambda clip: clip.array[0, 0, 0, 0])
    for part, offset in zip(parts, (0.0, 100.0), strict=True):
        check_axial(part, CLEAN_MM, offset=offset)


def test_a_diffusion_series_has_a_volume_for_every_weighting_and_direction(tmp_path: Path) -> None:
    weights: list[tuple[tuple[str, object], ...]] = [
        (("DiffusionBValue", 0),),
        (("DiffusionBValue", 800), ("DiffusionGradientOrientation", [1, 0, 0])),
        (("DiffusionBValue", 800), ("DiffusionGradientOrientation", [0, 1, 0])),
    ]
    planes = [
        plane
        for number, header in enumerate(weights)
        for plane in axial(CLEAN_MM, header=header, offset=100.0 * number)
    ]
    parts = sorted(clips(tmp_path, planes), key=lambda clip: clip.array[0, 0, 0, 0])
    for number, part in enumerate(parts):
        check_axial(part, CLEAN_MM, offset=100.0 * number)
    assert len(parts) == 3


def test_each_slice_keeps_its_own_rescale(tmp_path: Path) -> None:
    planes = [replace(plane, intercept=-2048.0 + 10 * i) for i, plane in enumerate(axial(CLEAN_MM))]
    (clip,) = clips(tmp_path, planes)
    check_axial(clip, CLEAN_MM)


def test_a_slice_of_another_matrix_is_a_clip_of_its_own(tmp_path: Path) -> None:
    planes = [*axial(CLEAN_MM), *axial([16.0], size=(6, 8))]
    still, volume = sorted(clips(tmp_path, planes), key=lambda clip: clip.kind)
    assert (still.kind, still.array.shape) == (Kind.STILL, (1, 1, 6, 8))
    check_axial(volume, CLEAN_MM)


def test_noise_in_the_orientation_is_ignored(tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    planes = [
        replace(
            plane,
            stated_orientation=tuple(np.eye(3)[:2].ravel() + random.uniform(-1e-4, 1e-4, 6)),
        )
        for plane in axial(CLEAN_MM)
    ]
    (clip,) = clips(tmp_path, planes)
    check_axial(clip, CLEAN_MM)


def test_a_single_slice_is_a_still_and_its_thickness_is_no_step(tmp_path: Path) -> None:
    (clip,) = clips(tmp_path, axial([4.0]))
    assert (clip.kind, clip.spacing) == (Kind.STILL, (0.0, *PIXEL_MM))
    np.testing.assert_allclose(clip.array[0, 0], axial([4.0])[0].values(), atol=0.07)


@pytest.mark.parametrize(
    ("header", "step_s"),
    [
        (lambda i: (("TriggerTime", 40 * i),), 0.04),
        (lambda i: (("TemporalPositionIdentifier", i), ("TemporalResolution", 30)), 0.03),
        (lambda i: (("TemporalPositionIdentifier", i), ("TriggerTime", 40 * i)), 0.04),
        (lambda i: (("TemporalPositionIdentifier", i),), 0.0),
    ],
)
def test_single_images_of_one_place_through_time_are_a_cine(
    tmp_path: Path, header: Any, step_s: float
) -> None:
    moments = [4, 0, 3, 1, 5, 2]
    planes = [axial([0.0], header=header(i + 1), offset=50.0 * i)[0] for i in moments]
    (clip,) = clips(tmp_path, planes)
    assert clip.kind is Kind.CINE
    assert clip.spacing == pytest.approx((step_s, *PIXEL_MM))
    expected = axial([0.0])[0].values()
    np.testing.assert_allclose(clip.array[0], [expected + 50 * i for i in range(6)], atol=0.07)


def test_a_short_axis_stack_is_a_cine_at_each_place(tmp_path: Path) -> None:
    planes = [
        axial([z], header=(("TriggerTime", 40 * i),), offset=50.0 * i)[0]
        for z, i in product((0.0, 8.0), range(5))
    ]
    loops = sorted(clips(tmp_path, planes), key=lambda clip: clip.array[0, 0, 0, 0])
    for loop, z in zip(loops, (0.0, 8.0), strict=True):
        assert (loop.kind, loop.spacing[0]) == (Kind.CINE, pytest.approx(0.04))
        expected = axial([z])[0].values()
        np.testing.assert_allclose(loop.array[0], [expected + 50 * i for i in range(5)], atol=0.07)


def test_shrinking_while_reading_gives_what_normalising_the_whole_gives(tmp_path: Path) -> None:
    paths = ct_series(tmp_path, new_uid=uid_source(1), slices=70, size=96, spacing_mm=(2.0, 0.7))
    (group,) = assemble(paths).groups
    extent = Extent(16, 32, 48)
    streamed, whole = read_clip(group, extent), read_clip(group)
    assert streamed.array.shape == (1, 70, 32, 48)
    assert streamed.sources == whole.sources
    at_once, step_by_step = normalise(whole, extent), normalise(streamed, extent)
    np.testing.assert_array_equal(step_by_step.valid, at_once.valid)
    np.testing.assert_allclose(step_by_step.array, at_once.array, atol=1e-5)
    assert step_by_step.spacing == pytest.approx(at_once.spacing)


def test_memory_does_not_grow_with_the_size_of_the_planes(tmp_path: Path) -> None:
    (path,) = ct_series(tmp_path, new_uid=uid_source(1), slices=1, size=512)
    paths = [tmp_path / f"{number}.dcm" for number in range(200)]
    dataset = dcmread(path)
    for number, each in enumerate(paths):
        dataset.SOPInstanceUID = f"2.25.{number + 1}"
        dataset.file_meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID
        dataset.ImagePositionPatient = [0, 0, number]
        dataset.save_as(each)
    (group,) = assemble(paths).groups
    tracemalloc.start()
    try:
        clip = read_clip(group, Extent(32, 128, 128), threads=2)
        _, peak_bytes = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert clip.array.shape == (1, 200, 128, 128)
    assert peak_bytes < 3.2 * CHUNK_BYTES + 2 * clip.array.nbytes
    assert peak_bytes > CHUNK_BYTES


def test_slices_that_lie_far_beside_each_other_are_no_volume(tmp_path: Path) -> None:
    planes = [replace(p, origin_mm=(1e5 * i, 0.0, 2.0 * i)) for i, p in enumerate(axial(CLEAN_MM))]
    assert {clip.kind for clip in clips(tmp_path, planes)} == {Kind.STILL}
    long_mm = [100.0 * number for number in range(8)]
    tilted = [
        replace(p, origin_mm=(0.9 * z, 0.0, z))
        for z, p in zip(long_mm, axial(long_mm), strict=True)
    ]
    (group,) = assembled(tmp_path / "tilted", tilted).groups
    with pytest.raises(UnreadableImage, match="too far beside"):
        read_clip(group)


def test_an_orientation_that_spans_no_plane_makes_a_still(tmp_path: Path) -> None:
    planes = axial(CLEAN_MM[:2], stated_orientation=(0.0,) * 6)
    assert [clip.kind for clip in clips(tmp_path, planes)] == [Kind.STILL, Kind.STILL]
