"""Decoding with several threads gives what one thread gives."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import SimpleITK
from planes import CLEAN_MM, assembled, axial
from pydicom import Dataset, dcmread, encaps

from encoder import pixels
from encoder.clip import Kind
from encoder.config import Extent
from encoder.errors import UnreadableImage
from encoder.frames import opened
from encoder.normalise import normalise
from encoder.pixels import MAX_OPEN_FILES, read
from encoder.series import Frame, Group
from encoder.volume import read_clip
from training.phantoms import cine, uid_source


def test_the_number_of_threads_does_not_change_a_bit_of_a_volume(tmp_path: Path) -> None:
    (group,) = assembled(tmp_path, axial([0.0, 2.0, 3.5, 6.0], column=(0.0, 0.8, 0.6))).groups
    before = SimpleITK.ProcessObject.GetGlobalDefaultNumberOfThreads()
    results = []
    try:
        for threads in (1, 2):
            SimpleITK.ProcessObject.SetGlobalDefaultNumberOfThreads(threads)
            clip = read_clip(group, Extent(4, 32, 32), threads=threads)
            results.append(normalise(clip, Extent(4, 32, 32)).array)
    finally:
        SimpleITK.ProcessObject.SetGlobalDefaultNumberOfThreads(before)
    np.testing.assert_array_equal(*results)


@pytest.mark.parametrize(
    "name", ["emri_small.dcm", "emri_small_jpeg_2k_lossless.dcm", "emri_small_RLE.dcm"]
)
def test_threads_share_the_frames_of_one_file(
    bundled: Callable[[str], Path], tmp_path: Path, name: str
) -> None:
    """Cuts of a synthetic place each, for the bundled object has none."""
    dataset = dcmread(bundled(name))
    path = tmp_path / name
    frame = Frame(path, dataset.SOPInstanceUID, None)
    dataset.save_as(path)
    count = int(dataset.NumberOfFrames)
    frames = tuple(replace(frame, index=index) for index in (*range(count), *range(count)))
    group = Group(Kind.VOLUME, frames, (1.0, 1.0, 1.0))
    single, several = (read(group, threads=threads).array for threads in (1, 3))
    np.testing.assert_array_equal(single, several)
    np.testing.assert_array_equal(single[:, :count], single[:, count:])


@pytest.mark.parametrize("fragments", [1, 2])
@pytest.mark.parametrize(
    "name", ["emri_small_jpeg_2k_lossless.dcm", "emri_small_jpeg_ls_lossless.dcm"]
)
def test_frames_without_a_table_of_offsets_are_looked_for_once(
    bundled: Callable[[str], Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    name: str,
    fragments: int,
) -> None:
    dataset = dcmread(bundled(name))
    count = int(dataset.NumberOfFrames)
    codes = list(encaps.generate_frames(dataset.PixelData, number_of_frames=count))
    groups = []
    for has_bot in (True, False):
        path = tmp_path / f"{has_bot}.dcm"
        dataset.PixelData = encaps.encapsulate(codes, fragments, has_bot=has_bot)
        dataset.save_as(path)
        frames = tuple(Frame(path, dataset.SOPInstanceUID, index) for index in range(count))
        groups.append(Group(Kind.VOLUME, frames, (1.0, 1.0, 1.0)))
    expected = read(groups[0]).array
    walks: list[int] = []
    real = encaps.parse_fragments
    monkeypatch.setattr(
        encaps, "parse_fragments", lambda *a, **k: (walks.append(1), real(*a, **k))[1]
    )
    np.testing.assert_array_equal(read(groups[1]).array, expected)
    assert len(walks) == 1


@pytest.mark.parametrize("count", [2, MAX_OPEN_FILES, MAX_OPEN_FILES + 1])
def test_files_whose_frames_alternate_are_opened_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, count: int
) -> None:
    """But for one more than are kept open, which is opened each time."""
    new_uid = uid_source(1)
    paths = [cine(tmp_path, new_uid=new_uid, frames=6, size=(8, 8)) for _ in range(count)]
    frames = tuple(Frame(path, path.stem, index) for index in range(6) for path in paths)
    taken: list[Path] = []

    def opening(path: Path, group: Group) -> Dataset:
        taken.append(path)
        return opened(path, group)

    monkeypatch.setattr(pixels, "opened", opening)
    clip = read(Group(Kind.VOLUME, frames, (1.0, 1.0, 1.0)))
    stored = np.stack([dcmread(path).pixel_array for path in paths], axis=1)
    np.testing.assert_array_equal(clip.array[0], stored.reshape(-1, 8, 8))
    assert len(taken) <= count + 5 * (count > MAX_OPEN_FILES)


def test_a_thread_says_which_slice_is_damaged(tmp_path: Path) -> None:
    assembly = assembled(tmp_path, axial(CLEAN_MM))
    (group,) = assembly.groups
    damaged = group.frames[5]
    damaged.path.write_bytes(damaged.path.read_bytes()[:-20])
    with pytest.raises(UnreadableImage) as raised:
        read_clip(group, threads=2)
    assert raised.value.sop_instance_uid == damaged.sop_instance_uid
