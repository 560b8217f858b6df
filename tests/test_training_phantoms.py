import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from pydicom import dcmread

from training.phantoms import (
    SLIDE_TISSUE,
    cine,
    ct_series,
    ct_volume_hu,
    slide_picture,
    still,
    uid_source,
)


def write_ct(folder: Path) -> Path:
    return ct_series(folder, new_uid=uid_source(1), slices=2, size=16)[0]


def write_still(folder: Path) -> Path:
    return still(folder, new_uid=uid_source(1), size=(16, 16))


def write_cine(folder: Path) -> Path:
    return cine(folder, new_uid=uid_source(1), frames=3, size=(15, 17))


WRITERS = [write_ct, write_still, write_cine]


@pytest.mark.parametrize("write", WRITERS)
def test_the_same_seed_gives_the_same_bytes(tmp_path: Path, write: Callable[[Path], Path]) -> None:
    first, second = write(tmp_path / "first"), write(tmp_path / "second")
    assert first.name == second.name
    assert first.read_bytes() == second.read_bytes()


@pytest.mark.peer
@pytest.mark.skipif(shutil.which("dciodvfy") is None, reason="dicom3tools is not installed")
@pytest.mark.parametrize("write", WRITERS)
def test_the_validator_finds_no_fault(tmp_path: Path, write: Callable[[Path], Path]) -> None:
    result = subprocess.run(
        ["dciodvfy", write(tmp_path)], capture_output=True, text=True, check=False
    )
    assert "Error" not in result.stdout + result.stderr


def test_another_seed_moves_the_organs() -> None:
    first, second = (ct_volume_hu(8, 32, seed=seed, noise_hu=0) for seed in (1, 2))
    assert (first != second).any()
    assert {-1000, -850, 40, 55, 600} == set(np.unique(first))


def test_slices_share_study_series_and_frame_of_reference(tmp_path: Path) -> None:
    paths = ct_series(tmp_path, new_uid=uid_source(1), slices=3, size=16, spacing_mm=(5.0, 2.0))
    headers = [dcmread(path, stop_before_pixels=True) for path in paths]
    for keyword in ("StudyInstanceUID", "SeriesInstanceUID", "FrameOfReferenceUID"):
        assert len({header[keyword].value for header in headers}) == 1
    assert len({header.SOPInstanceUID for header in headers}) == 3
    assert [header.ImagePositionPatient[2] for header in headers] == [0, 5, 10]


def test_the_ventricle_of_the_loop_beats(tmp_path: Path) -> None:
    path = cine(tmp_path, new_uid=uid_source(1), frames=8, size=(64, 64))
    brightness = dcmread(path).pixel_array.mean(axis=(1, 2))
    assert brightness.argmin() == 0
    assert brightness.argmax() == 4


def test_uids_are_valid_and_of_the_seed_alone() -> None:
    first, again, other = (uid_source(seed) for seed in (1, 1, 2))
    uids = [first() for _ in range(50)]
    assert uids == [again() for _ in range(50)]
    assert other() not in uids
    assert all(len(uid) <= 64 and uid.startswith("2.25.") for uid in uids)


def test_the_phantom_has_the_tissue_it_says() -> None:
    picture = slide_picture((64, 96), seed=1)
    assert picture[0, -1].mean() == pytest.approx(243, abs=5)
    (cy, cx), _ = SLIDE_TISSUE
    middle = picture[int((cy + 1) * 32), int((cx + 1) * 48)]
    assert int(middle.max()) - int(middle.min()) > 50
