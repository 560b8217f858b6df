from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from pydicom import Dataset, dcmread, uid

from encoder.clip import Unit
from encoder.config import Extent
from encoder.normalise import normalise
from encoder.pixels import read
from encoder.series import assemble
from encoder.suv import suv, suv_factor
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


def test_antibodies_are_scanned_days_after_the_injection() -> None:
    """Zirconium 89, six days."""
    half_life_s = 78.4 * 3600
    slow = pet(RadionuclideHalfLife=half_life_s, RadiopharmaceuticalStartDateTime="20251226120000")
    expected = 70_000 / (350e6 * 2 ** (-6 * 86400 / half_life_s))
    assert suv_factor(slow) == pytest.approx(expected)


def test_a_time_that_no_clock_shows_gives_no_uptake() -> None:
    changes = {"RadiopharmaceuticalStartDateTime": None}
    dataset = pet(**changes)
    drug = dataset.RadiopharmaceuticalInformationSequence[0]
    drug.RadiopharmaceuticalStartTime = "1100"
    assert suv_factor(dataset) is not None
    drug["RadiopharmaceuticalStartTime"].value = "9999"
    assert suv_factor(dataset) is None


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


@pytest.mark.parametrize(("kind", "factor"), [("BW", 1.0), ("LBM", None), ("BSA", None)])
def test_uptake_by_something_else_than_weight_is_not_called_uptake(
    kind: str, factor: float | None
) -> None:
    assert suv_factor(pet(Units="GML", SUVType=kind)) == factor


def test_only_pet_has_uptake() -> None:
    stored = np.ones((2, 2), np.uint16)
    values = stored.astype(np.float32)
    assert suv(pet(), stored, values, 0) is not None
    assert suv(pet(SOPClassUID=uid.NuclearMedicineImageStorage), stored, values, 0) is None


def mapping(code: str, slope: float, **attributes: object) -> Dataset:
    item, units = Dataset(), Dataset()
    units.CodeValue, units.CodingSchemeDesignator, units.CodeMeaning = code, "UCUM", code
    item.MeasurementUnitsCodeSequence = [units]
    item.RealWorldValueSlope, item.RealWorldValueIntercept = slope, 0.5
    for keyword, value in attributes.items():
        setattr(item, keyword, value)
    return item


def enhanced(*per_frame: tuple[Dataset, ...], **changes: object) -> Dataset:
    """One half life between injection and the moment of decay correction; no Units at all."""
    dataset = pet(SOPClassUID=uid.EnhancedPETImageStorage)
    for keyword in ("Units", "DecayCorrection", "CorrectedImage", "SeriesTime", "AcquisitionTime"):
        delattr(dataset, keyword)
    dataset.DecayCorrected = dataset.AttenuationCorrected = "YES"
    dataset.DecayCorrectionDateTime = "20260101120000"
    dataset.PerFrameFunctionalGroupsSequence = [Dataset() for _ in per_frame]
    for group, items in zip(dataset.PerFrameFunctionalGroupsSequence, per_frame, strict=True):
        group.RealWorldValueMappingSequence = items
    for keyword, value in changes.items():
        setattr(dataset, keyword, value)
    return dataset


STORED = np.array([[0, 10], [100, 1000]], np.uint16)
PER_BQ_ML = 70_000 / (350e6 / 2)


@pytest.mark.parametrize(
    ("items", "expected"),
    [
        ((mapping("Bq/ml", 40),), (STORED * 40.0 + 0.5) * PER_BQ_ML),
        ((mapping("g/ml{SUVbw}", 0.01),), STORED * 0.01 + 0.5),
        ((mapping("{SUVbw}g/ml", 0.01),), STORED * 0.01 + 0.5),
        ((mapping("Bq/ml", 40), mapping("g/ml{SUVbw}", 0.01)), STORED * 0.01 + 0.5),
        ((mapping("g/ml{SUVlbm}", 0.01), mapping("Bq/ml", 40)), (STORED * 40.0 + 0.5) * PER_BQ_ML),
        ((mapping("g/ml{SUVlbm}", 0.01),), None),
        ((mapping("{counts}", 1),), None),
        ((mapping("g/ml{SUVbw}", 0),), None),
        ((mapping("g/ml{SUVbw}", 0.01, RealWorldValueLastValueMapped=999),), None),
    ],
)
def test_enhanced_pet_is_mapped_by_its_functional_groups(
    items: tuple[Dataset, ...], expected: NDArray[np.float64] | None
) -> None:
    dataset = enhanced((mapping("Bq/ml", 1),), items)
    uptake = suv(dataset, STORED, STORED.astype(np.float32), 1)
    if expected is None:
        assert uptake is None
    else:
        assert uptake == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize(
    "changes",
    [
        {"DecayCorrected": "NO"},
        {"AttenuationCorrected": "NO"},
        {"DecayCorrectionDateTime": ""},
        {"DecayCorrectionDateTime": "20260101090000"},  # before the injection
        {"PatientWeight": None},
    ],
)
def test_enhanced_activity_that_is_not_fully_described_has_no_uptake(
    changes: dict[str, object],
) -> None:
    dataset = enhanced((mapping("Bq/ml", 40),), **changes)
    assert suv(dataset, STORED, STORED.astype(np.float32), 0) is None


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


def test_the_same_counts_after_twice_the_dose_are_half_as_bright(tmp_path: Path) -> None:
    pictures = []
    for dose_bq in (350e6, 700e6):
        drug = pet(RadionuclideTotalDose=dose_bq).RadiopharmaceuticalInformationSequence
        paths = described(
            tmp_path / str(dose_bq),
            lambda dataset, drug=drug: setattr(  # type: ignore[misc]
                dataset, "RadiopharmaceuticalInformationSequence", drug
            ),
        )
        (group,) = assemble(paths).groups
        pictures.append(normalise(read(group), Extent(frames=4, height=16, width=16)).array)
    assert pictures[0].max() > 0.05
    np.testing.assert_allclose(pictures[1], pictures[0] / 2, atol=1e-6)


def test_a_pet_series_without_weight_keeps_its_stored_scale(tmp_path: Path) -> None:
    paths = described(tmp_path, lambda dataset: delattr(dataset, "PatientWeight"))
    (group,) = assemble(paths).groups
    assert read(group).unit is Unit.STORED
