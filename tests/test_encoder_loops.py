"""Loops: which frames are taken, when, and what that costs."""

import tracemalloc
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from planes import axial, clips
from pydicom import Dataset, dcmread, uid

from encoder.clip import Clip, Kind
from encoder.errors import UnreadableImage
from encoder.frames import MAX_CINE_FRAMES
from encoder.pixels import read
from encoder.series import assemble
from training.phantoms import cine, uid_source

Bundled = Callable[[str], Path]


def read_one(path: Path) -> Clip:
    (group,) = assemble([path]).groups
    return read(group)


def edited(source: Path, target: Path, change: Callable[[Dataset], None]) -> Path:
    dataset = dcmread(source)
    change(dataset)
    dataset.save_as(target)
    return target


def test_of_a_long_loop_only_the_sampled_frames_come_into_memory(tmp_path: Path) -> None:
    path = cine(tmp_path, new_uid=uid_source(1), frames=3000, size=(64, 64), frame_time_ms=10)
    tracemalloc.start()
    clip = read_one(path)
    _, peak_bytes = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert clip.array.shape[1] == MAX_CINE_FRAMES
    assert peak_bytes < path.stat().st_size / 2
    indices = np.rint(np.linspace(0, 2999, MAX_CINE_FRAMES)).astype(int)
    np.testing.assert_array_equal(clip.array[0], dcmread(path).pixel_array[indices])


def deflated(dataset: Dataset) -> None:
    dataset.file_meta.TransferSyntaxUID = uid.DeflatedExplicitVRLittleEndian


@pytest.mark.parametrize("change", [lambda dataset: dataset.compress(uid.RLELossless), deflated])
def test_a_compressed_loop_is_read_as_it_was_stored(
    tmp_path: Path, change: Callable[[Dataset], None]
) -> None:
    path = cine(tmp_path, new_uid=uid_source(1), frames=5, size=(8, 8))
    stored = dcmread(path).pixel_array
    edited(path, path, change)
    np.testing.assert_array_equal(read_one(path).array[0], stored)


def test_a_loop_that_ends_too_early_is_unreadable(tmp_path: Path) -> None:
    path = cine(tmp_path, new_uid=uid_source(1), frames=5, size=(64, 64))
    path.write_bytes(path.read_bytes()[:-9000])
    with pytest.raises(UnreadableImage):
        read_one(path)


def test_a_short_cine_has_all_its_frames(bundled: Bundled) -> None:
    clip = read_one(bundled("examples_ybr_color.dcm"))
    assert clip.array.shape[:2] == (3, 30)
    assert clip.spacing[0] == pytest.approx(0.033333, rel=1e-3)


def test_a_long_cine_is_sampled_evenly_through_its_time(tmp_path: Path) -> None:
    path = cine(tmp_path, new_uid=uid_source(1), frames=127, size=(8, 8), frame_time_ms=10)
    clip = read_one(path)
    assert clip.array.shape[1] == MAX_CINE_FRAMES
    assert clip.spacing[0] == pytest.approx(0.02)
    np.testing.assert_array_equal(clip.array[0], dcmread(path).pixel_array[::2])


def test_a_loop_of_uneven_frame_times_is_sampled_by_time(tmp_path: Path) -> None:
    def slow_down(dataset: Dataset) -> None:
        del dataset.FrameTime
        dataset.FrameTimeVector = [0, 10, 10, 40, 40]

    path = cine(tmp_path, new_uid=uid_source(1), frames=5, size=(8, 8))
    stored = dcmread(path).pixel_array
    clip = read_one(edited(path, path, slow_down))
    # Times are 0, 10, 20, 60, 100 ms; wanted are 0, 25, 50, 75, 100 ms.
    np.testing.assert_array_equal(clip.array[0], stored[[0, 2, 3, 3, 4]])


def test_a_long_loop_of_uneven_times_is_sampled_by_time(tmp_path: Path) -> None:
    """A thousand frames in one second, then a thousand in ten: one in eleven is of the first."""
    path = cine(tmp_path, new_uid=uid_source(1), frames=2000, size=(4, 4))
    dataset = dcmread(path)
    del dataset.FrameTime
    dataset.FrameTimeVector = [1] * 1000 + [10] * 1000
    numbers = np.repeat(np.arange(2000, dtype="<u2"), 16)
    dataset.BitsAllocated = dataset.BitsStored = 16
    dataset.HighBit = 15
    dataset.PixelData = numbers.tobytes()
    dataset["PixelData"].VR = "OW"
    dataset.save_as(path)
    (group,) = assemble([path]).groups
    taken = read(group).array[0, :, 0, 0]
    expected = [0 if time <= 1 else 1000 for time in np.linspace(0, 11, 64)]
    assert (taken >= expected).all()
    assert (taken < 1000).sum() == 6
    assert np.diff(taken[6:]) == pytest.approx(17.5, abs=1)


def test_a_long_loop_of_single_images_is_sampled_and_names_them_all(tmp_path: Path) -> None:
    planes = [
        axial([0.0], header=(("TriggerTime", 10 * i),), offset=5.0 * i)[0] for i in range(127)
    ]
    (clip,) = clips(tmp_path, planes)
    assert (clip.kind, clip.array.shape[1]) == (Kind.CINE, MAX_CINE_FRAMES)
    assert clip.spacing[0] == pytest.approx(0.02)
    np.testing.assert_allclose(np.diff(clip.array[0, :, 0, 0]), 10, atol=0.3)
    assert len(clip.sources) == 127


def test_long_loops_in_one_enhanced_object_are_sampled(tmp_path: Path) -> None:
    """Two places, 127 moments: an enhanced MR says when its frames were taken one by one."""
    path = cine(tmp_path, new_uid=uid_source(1), frames=254, size=(4, 4))

    def enhance(dataset: Dataset) -> None:
        del dataset.FrameTime
        dataset.SOPClassUID = uid.EnhancedMRImageStorage
        dataset.file_meta.MediaStorageSOPClassUID = dataset.SOPClassUID
        orientation, shared = Dataset(), Dataset()
        orientation.ImageOrientationPatient = [1, 0, 0, 0, 1, 0]
        shared.PlaneOrientationSequence = [orientation]
        dataset.SharedFunctionalGroupsSequence = [shared]
        dataset.PerFrameFunctionalGroupsSequence = [Dataset() for _ in range(254)]
        for number, frame in enumerate(dataset.PerFrameFunctionalGroupsSequence):
            plane, heart = Dataset(), Dataset()
            plane.ImagePositionPatient = [0, 0, 8 * (number % 2)]
            heart.NominalCardiacTriggerDelayTime = 10.0 * (number // 2)
            frame.PlanePositionSequence, frame.CardiacSynchronizationSequence = [plane], [heart]

    stored = dcmread(path).pixel_array
    edited(path, path, enhance)
    loops = [read(group) for group in assemble([path]).groups]
    assert [loop.spacing[0] for loop in loops] == pytest.approx([0.02, 0.02])
    for first, loop in enumerate(loops):
        np.testing.assert_array_equal(loop.array[0], stored[first::4])


def test_a_loop_in_which_nothing_changes_is_a_still(tmp_path: Path) -> None:
    path = cine(tmp_path, new_uid=uid_source(1), frames=5, size=(8, 8))
    stored = dcmread(path).pixel_array
    edited(path, path, lambda dataset: setattr(dataset, "PixelData", stored[0].tobytes() * 5))
    clip = read_one(path)
    assert (clip.kind, clip.spacing[0]) == (Kind.STILL, 0.0)
    np.testing.assert_array_equal(clip.array[0], stored[:1])
