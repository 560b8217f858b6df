from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydicom import Dataset, dcmread, uid

from encoder.clip import Unit
from encoder.config import Extent
from encoder.normalise import normalise
from encoder.pixels import read
from encoder.series import assemble
from encoder.suv import suv_factor
from training.phantoms import ct_series, uid_source

HALF_LIFE_S = 6586.2  # of fluorine 18


def pet(**changes: object) -> Dataset:
    """70 kg, 350 MBq, one half life between injection and the start of the series."""
    drug = Dataset()
    drug.RadionuclideTotalDose, drug.RadionuclideHalfLife = 350e6, HALF_LIFE_S
    drug.RadiopharmaceuticalStartDateTime = "20260101101013.8"
    dataset = Dataset()
    dataset.SOPClassUID = uid.PositronEmissionTomographyImageStorage
    dataset.Units, dataset.DecayCorrection = "BQML", "START"
    dataset.CorrectedImage = ["DECY", "ATTN", "SCAT"]
    dataset.PatientWeight = 70
    dataset.SeriesDate, dataset.SeriesTime = "20260101", "120000"
    dataset.AcquisitionDate, dataset.AcquisitionTime = "20260101", "120500"
    dataset.RadiopharmaceuticalInformationSequence = [drug]
    for keyword, value in changes.items():
        target = drug if keyword in drug or "Radiopharm" in keyword else dataset
        if value is None:
            delattr(target, keyword)
        else:
            setattr(target, keyword, value)
    return dataset


def test_uptake_is_activity_times_weight_over_what_is_left_of_the_dose() -> None:
    assert suv_factor(pet()) == pytest.approx(70_000 / (350e6 / 2))


@given(share=st.floats(0, 10))
def test_a_body_that_keeps_its_dose_evenly_has_the_uptake_one(share: float) -> None:
    """The definition: tissue of 1 g/ml with the mean activity of the body has SUVbw 1."""
    dataset = pet(RadionuclideHalfLife=HALF_LIFE_S * (share + 0.1))
    mean_bq_ml = 350e6 * 2 ** (-1 / (share + 0.1)) / 70_000
    assert suv_factor(dataset) == pytest.approx(1 / mean_bq_ml, rel=1e-6)


def test_images_corrected_to_the_injection_need_no_decay() -> None:
    assert suv_factor(pet(DecayCorrection="ADMIN")) == pytest.approx(70_000 / 350e6)


def test_an_injection_with_a_time_alone_may_be_before_midnight() -> None:
    changes = {"RadiopharmaceuticalStartDateTime": None}
    late = pet(**changes, SeriesTime="001000", AcquisitionTime="001500")
    late.RadiopharmaceuticalInformationSequence[0].RadiopharmaceuticalStartTime = "233000"
    expected = 70_000 / (350e6 * 2 ** (-2400 / HALF_LIFE_S))
    assert suv_factor(late) == pytest.approx(expected)


def test_an_offset_from_utc_does_not_shift_the_clock_on_the_wall() -> None:
    zoned = pet(RadiopharmaceuticalStartDateTime="20260101101013.8+0200")
    assert suv_factor(zoned) == pytest.approx(suv_factor(pet()))


@pytest.mark.parametrize(
    "changes",
    [
        {"Units": "PROPCPS"},
        {"Units": "CNTS"},
        {"CorrectedImage": ["DECY"]},
        {"DecayCorrection": "NONE"},
        {"PatientWeight": None},
        {"PatientWeight": 0},
        {"RadionuclideTotalDose": None},
        {"RadionuclideHalfLife": None},
        {"RadiopharmaceuticalStartDateTime": None},
        {"RadiopharmaceuticalStartDateTime": "20260101130000"},
        {"RadiopharmaceuticalStartDateTime": "20251230100000"},
        {"RadiopharmaceuticalInformationSequence": None},
        {"SeriesTime": "120501"},
        {"SeriesTime": None},
        {"AcquisitionTime": None},
        {"RadionuclideTotalDose": 350},  # MBq, or nonsense
    ],
)
def test_what_is_not_fully_described_has_no_uptake(changes: dict[str, object]) -> None:
    dataset = pet(
        **{k: v for k, v in changes.items() if k != "RadiopharmaceuticalInformationSequence"}
    )
    if "RadiopharmaceuticalInformationSequence" in changes:
        del dataset.RadiopharmaceuticalInformationSequence
    assert suv_factor(dataset) is None


def test_values_that_are_uptake_already_stay() -> None:
    assert suv_factor(pet(Units="GML", PatientWeight=None)) == 1.0


@pytest.mark.parametrize(("scale", "factor"), [(0.00042, 0.00042), (0.0, None)])
def test_counts_of_philips_come_with_their_factor(scale: float, factor: float | None) -> None:
    dataset = pet(Units="CNTS")
    block = dataset.private_block(0x7053, "Philips PET Private Group", create=True)
    block.add_new(0x00, "DS", scale)
    assert suv_factor(dataset) == factor


def described(folder: Path, change: Callable[[Dataset], None]) -> list[Path]:
    """Turn the CT phantom into a PET series: same slices, positive values, its own rescale."""
    paths = ct_series(folder, new_uid=uid_source(1), slices=3, size=16)
    for number, path in enumerate(paths):
        dataset = dcmread(path)
        dataset.update(pet())
        dataset.file_meta.MediaStorageSOPClassUID = dataset.SOPClassUID
        dataset.RescaleSlope, dataset.RescaleIntercept = number + 1, 0
        change(dataset)
        dataset.save_as(path)
    return paths


def test_a_pet_series_reads_as_uptake_slice_by_slice(tmp_path: Path) -> None:
    paths = described(tmp_path, lambda dataset: None)
    (group,) = assemble(paths).groups
    clip = read(group)
    assert clip.unit is Unit.SUV
    stored = np.stack([dcmread(path).pixel_array for path in paths]).astype(np.float64)
    expected = stored * np.array([1, 2, 3])[:, None, None] * 70_000 / (350e6 / 2)
    np.testing.assert_allclose(clip.array[0], expected, rtol=1e-5)
    assert normalise(clip, Extent(frames=4, height=16, width=16)).array.max() == 1


def test_a_pet_series_without_weight_keeps_its_stored_scale(tmp_path: Path) -> None:
    paths = described(tmp_path, lambda dataset: delattr(dataset, "PatientWeight"))
    (group,) = assemble(paths).groups
    assert read(group).unit is Unit.STORED
