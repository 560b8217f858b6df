"""From PET values to the standardised uptake value by body weight (SUVbw).

Owns: the way from one to the other, and whether the file says enough for it. Does not own: the
rescale of each slice (`photometry`), which comes before.

Sources: QIBA, "Vendor-neutral pseudo-code for SUV calculation" (the happy path and Philips);
PS3.3 C.8.9.1 (PET series), C.7.6.16.2.11 (real world value mapping), C.8.22 (enhanced PET):
SUVbw = activity (Bq/ml) x weight (g) / dose (Bq), with the dose decayed from administration to the
time to which the images were corrected.
"""

from datetime import datetime, timedelta

import numpy as np
from numpy.typing import NDArray
from pydicom import Dataset, uid
from pydicom.valuerep import DT

from encoder.headers import floats, macros

GRAMS_PER_KG = 1000.0
MIN_DOSE_BQ = 1e5  # nobody is given less: the number is in MBq, as in nuclear medicine, or wrong
MAX_HALF_LIVES = 20  # between injection and scan: a millionth is left, so the dates are wrong
_ONE_DAY = timedelta(days=1)
_PHILIPS_PET = "Philips PET Private Group"
_CORRECTIONS = {"DECY", "ATTN"}  # without these a count is no activity
_UPTAKE = ("g/ml{SUVbw}", "{SUVbw}g/ml")  # UCUM, PS3.16 CID 85 now and before
_ACTIVITY = ("Bq/ml",)  # UCUM, PS3.16 CID 84
_PET = frozenset(
    {
        uid.PositronEmissionTomographyImageStorage,
        uid.EnhancedPETImageStorage,
        uid.LegacyConvertedEnhancedPETImageStorage,
    }
)


def suv(
    dataset: Dataset, stored: NDArray[np.generic], rescaled: NDArray[np.float32], index: int
) -> NDArray[np.float32] | None:
    """Return the uptake of one frame in g/ml, None where the file does not say enough.

    A real world value mapping of the frame counts before Units, and one to uptake before one to
    activity.
    """
    if dataset.get("SOPClassUID") not in _PET:
        return None
    mappings = macros(dataset, "RealWorldValueMappingSequence", index)
    for codes, factor in ((_UPTAKE, 1.0), (_ACTIVITY, _from_activity(dataset))):
        for mapping in mappings:
            if factor is not None and _code(mapping) in codes and _is_linear_for(mapping, stored):
                slope = np.float32(mapping.RealWorldValueSlope * factor)
                return stored.astype(np.float32) * slope + np.float32(
                    mapping.RealWorldValueIntercept * factor
                )
    factor = suv_factor(dataset)
    return None if factor is None else rescaled * np.float32(factor)


def suv_factor(dataset: Dataset) -> float | None:
    """Return what a rescaled value is multiplied with by its Units, None if unknown."""
    units = dataset.get("Units")
    if units == "GML":
        return 1.0 if (dataset.get("SUVType") or "BW") == "BW" else None
    if units == "CNTS":
        return _positive(_philips_scale(dataset))
    return _from_activity(dataset) if units == "BQML" else None


def _code(mapping: Dataset) -> str:
    units = (mapping.get("MeasurementUnitsCodeSequence") or [Dataset()])[0]
    return str(units.get("CodeValue", ""))


def _is_linear_for(mapping: Dataset, stored: NDArray[np.generic]) -> bool:
    """Say whether slope and intercept hold for all stored values of a frame."""
    line = [mapping.get("RealWorldValueSlope"), mapping.get("RealWorldValueIntercept")]
    if None in line or floats(line, 2) is None or line[0] <= 0:
        return False
    first, last = (
        mapping.get(f"RealWorldValue{end}ValueMapped", limit)
        for end, limit in (("First", -np.inf), ("Last", np.inf))
    )
    return bool(first <= stored.min() and stored.max() <= last)


def _from_activity(dataset: Dataset) -> float | None:
    """Return weight over decayed dose."""
    information = (dataset.get("RadiopharmaceuticalInformationSequence") or [Dataset()])[0]
    weight_kg = _positive(dataset.get("PatientWeight"))
    dose_bq = _positive(information.get("RadionuclideTotalDose"))
    half_life_s = _positive(information.get("RadionuclideHalfLife"))
    if weight_kg is None or dose_bq is None or half_life_s is None or dose_bq < MIN_DOSE_BQ:
        return None
    is_enhanced = "DecayCorrected" in dataset
    decay_s = (_enhanced_decay_s if is_enhanced else _decay_s)(dataset, information)
    if decay_s is None or not 0 <= decay_s <= MAX_HALF_LIVES * half_life_s:
        return None
    return weight_kg * GRAMS_PER_KG / (dose_bq * 2 ** (-decay_s / half_life_s))


def _enhanced_decay_s(dataset: Dataset, information: Dataset) -> float | None:
    """Return the seconds between administration and Decay Correction DateTime (PS3.3 C.8.22.2)."""
    corrected = (dataset.get("DecayCorrected"), dataset.get("AttenuationCorrected"))
    target = dataset.get("DecayCorrectionDateTime")
    administered = information.get("RadiopharmaceuticalStartDateTime")
    if corrected != ("YES", "YES") or not target or not administered:
        return None
    return _elapsed_s(_local(str(administered)), _local(str(target)))


def _decay_s(dataset: Dataset, information: Dataset) -> float | None:
    """Return the seconds of decay that the images are not corrected for.

    ADMIN images are corrected to the administration. START images are corrected to the start of
    the series, which is Series Time unless that lies after the acquisition: then a later step
    overwrote it and the start is not known.
    """
    if not _CORRECTIONS.issubset(dataset.get("CorrectedImage") or ()):
        return None
    correction = dataset.get("DecayCorrection")
    if correction == "ADMIN":
        return 0.0
    start = _moment(dataset.get("SeriesDate"), dataset.get("SeriesTime"))
    acquired = _moment(dataset.get("AcquisitionDate"), dataset.get("AcquisitionTime"))
    if correction != "START" or start is None or acquired is None or start > acquired:
        return None
    if value := information.get("RadiopharmaceuticalStartDateTime"):
        administered = _local(str(value))
    elif time := information.get("RadiopharmaceuticalStartTime"):
        administered = _local(f"{dataset.SeriesDate}{time}")
        if administered is not None and administered > start:
            administered -= _ONE_DAY  # it was before midnight
    else:
        return None
    return _elapsed_s(administered, start)


def _elapsed_s(administered: datetime | None, corrected_to: datetime | None) -> float | None:
    if administered is None or corrected_to is None:
        return None
    return (corrected_to - administered).total_seconds()


def _moment(date: object, time: object) -> datetime | None:
    return _local(f"{date}{time}") if date and time else None


def _local(text: str) -> datetime | None:
    """Read a DT as the clock on the wall showed it, None where there is no such moment."""
    try:
        moment = DT(text)
    except ValueError:
        return None
    return None if moment is None else datetime.combine(moment.date(), moment.time())


def _philips_scale(dataset: Dataset) -> object:
    try:
        return dataset.private_block(0x7053, _PHILIPS_PET)[0x00].value
    except KeyError:
        return None


def _positive(value: object) -> float | None:
    number = floats(value, 1)
    return number[0] if number and number[0] > 0 else None
