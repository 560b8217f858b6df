"""From PET values to the standardised uptake value by body weight (SUVbw).

Owns: the factor between the two, and whether the file says enough to compute it. Does not own: the
rescale of each slice (`photometry`), which comes before.

Source: QIBA, "Vendor-neutral pseudo-code for SUV calculation" (the happy path and Philips), and
PS3.3 C.8.9.1 for the attributes: SUVbw = activity (Bq/ml) x weight (g) / dose (Bq), with the dose
decayed from administration to the time to which the images were corrected.
"""

from datetime import datetime, timedelta

from pydicom import Dataset, uid
from pydicom.valuerep import DT

from encoder.headers import floats

GRAMS_PER_KG = 1000.0
_ONE_DAY = timedelta(days=1)
_PHILIPS_PET = "Philips PET Private Group"
_CORRECTIONS = {"DECY", "ATTN"}  # without these a count is no activity


def suv_factor(dataset: Dataset) -> float | None:
    """Return what a rescaled PET value is multiplied with to be SUVbw in g/ml, None if unknown."""
    if dataset.get("SOPClassUID") != uid.PositronEmissionTomographyImageStorage:
        return None
    units = dataset.get("Units")
    if units == "GML":
        return 1.0
    if units == "CNTS":
        return _positive(_philips_scale(dataset))
    if units == "BQML" and _CORRECTIONS.issubset(dataset.get("CorrectedImage") or ()):
        return _from_activity(dataset)
    return None


def _from_activity(dataset: Dataset) -> float | None:
    """Return weight over decayed dose."""
    information = (dataset.get("RadiopharmaceuticalInformationSequence") or [Dataset()])[0]
    weight_kg = _positive(dataset.get("PatientWeight"))
    dose_bq = _positive(information.get("RadionuclideTotalDose"))
    half_life_s = _positive(information.get("RadionuclideHalfLife"))
    decay_s = _decay_s(dataset, information)
    if weight_kg is None or dose_bq is None or half_life_s is None or decay_s is None:
        return None
    return weight_kg * GRAMS_PER_KG / (dose_bq * 2 ** (-decay_s / half_life_s))


def _decay_s(dataset: Dataset, information: Dataset) -> float | None:
    """Return the seconds of decay that the images are not corrected for.

    ADMIN images are corrected to the administration. START images are corrected to the start of
    the series, which is Series Time unless that lies after the acquisition: then a later step
    overwrote it and the start is not known.
    """
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
        if administered > start:
            administered -= _ONE_DAY  # it was before midnight
    else:
        return None
    elapsed = start - administered
    return elapsed.total_seconds() if timedelta(0) <= elapsed < _ONE_DAY else None


def _moment(date: object, time: object) -> datetime | None:
    return _local(f"{date}{time}") if date and time else None


def _local(text: str) -> datetime:
    """Read a DT as the clock on the wall showed it."""
    return datetime.combine((moment := DT(text)).date(), moment.time())


def _philips_scale(dataset: Dataset) -> object:
    try:
        return dataset.private_block(0x7053, _PHILIPS_PET)[0x00].value
    except KeyError:
        return None


def _positive(value: object) -> float | None:
    number = floats(value, 1)
    return number[0] if number and number[0] > 0 else None
