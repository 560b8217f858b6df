"""From an electrocardiogram to a picture of it: one row a lead, drawn as on paper.

Owns: which samples are drawn, in which row, at which scale. Does not own: what is done with the
picture (`pixels`, `normalise`).

The paper is that of every electrocardiograph, 25 mm/s and 10 mm/mV (Kligfield et al.,
doi:10.1161/CIRCULATIONAHA.106.180200), so that equal heart beats are equal pictures whatever the
sampling frequency, the sensitivity or the length of the recording.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw
from pydicom import Dataset, uid
from pydicom.waveforms.numpy_handler import multiplex_array

from encoder.clip import Unit
from encoder.headers import floats
from encoder.photometry import Picture

ECG_CLASSES: frozenset[str] = frozenset(
    {
        uid.TwelveLeadECGWaveformStorage,
        uid.GeneralECGWaveformStorage,
        uid.General32bitECGWaveformStorage,
        uid.AmbulatoryECGWaveformStorage,
    }
)

LEADS = ("I", "II", "III", "AVR", "AVL", "AVF", "V1", "V2", "V3", "V4", "V5", "V6")
# PS3.16 CID 3001: the last number of the code is the same in SCP-ECG (5.6.3-9-61) and MDC (2:61).
_CODES = ("1", "2", "61", "62", "63", "64", "3", "4", "5", "6", "7", "8")
_ROWS = dict(zip(_CODES, range(len(LEADS)), strict=True))
_MILLIVOLTS = {"nV": 1e-6, "uV": 1e-3, "mV": 1.0, "V": 1e3}  # UCUM, PS3.16 CID 3082

DRAWN_S = 5.0
RATE_HZ = 500.0  # of the drawing: the bandwidth of a heart beat is 150 Hz
PIXEL_MM = 0.25
_MM_PER_S, _MM_PER_MV = 25.0, 10.0
_ROW_MM = 10.0  # a lead that needs more overlaps its neighbours, as on paper
_PEN_PX = 2
# More than any electrocardiograph has, less than what would fill the memory.
_MAX_CHANNELS, _MAX_RATE_HZ = 64, 1e5


@dataclass(frozen=True, slots=True)
class _Trace:
    """One channel: `millivolts` at `RATE_HZ`, NaN where nothing was recorded."""

    row: int | None  # None where it is none of the twelve leads
    millivolts: NDArray[np.float64]


def draw(dataset: Dataset) -> Picture:
    """Draw the first `DRAWN_S` seconds of twelve leads, bright on black, as colour (3, H, W).

    Each row has the lead of the best multiplex group that holds it: a group labelled RHYTHM, then
    the longest, originals before derived ones. Channels that are none of the twelve leads fill
    the rows left, in their order. Every lead is moved so that its median is on its line.
    Raises ValueError where no channel has samples, a sampling frequency and a unit of voltage, and
    one of `headers.READ_ERRORS` where the file is damaged.
    """
    rows: dict[int, _Trace] = {}
    others: list[_Trace] = []
    for group in _by_merit(dataset):
        for trace in _traces(dataset, group):
            if trace.row is None:
                others.append(trace)
            else:
                rows.setdefault(trace.row, trace)
    free = (row for row in range(len(LEADS)) if row not in rows)
    rows.update(zip(free, others, strict=False))
    if not rows:
        raise ValueError("no channel has samples, a sampling frequency and a unit of voltage")
    grey = _on_paper(rows)
    return Picture(np.repeat(grey[np.newaxis], 3, axis=0), None, Unit.COLOUR)


def _by_merit(dataset: Dataset) -> list[int]:
    """Order the multiplex groups that can be drawn, the best first."""

    def merit(number: int) -> tuple[bool, bool, float, int]:
        item = dataset.WaveformSequence[number]
        is_rhythm = "RHYTHM" in str(item.get("MultiplexGroupLabel") or "").upper()
        is_original = item.get("WaveformOriginality") != "DERIVED"
        duration_s = (item.get("NumberOfWaveformSamples") or 0) / (_rate_hz(item) or np.inf)
        return is_rhythm, is_original, duration_s, -number

    numbers = range(len(dataset.get("WaveformSequence") or []))
    drawable = [number for number in numbers if _rate_hz(dataset.WaveformSequence[number])]
    return sorted(drawable, key=merit, reverse=True)


def _rate_hz(item: Dataset) -> float | None:
    """Return the sampling frequency, None where it is missing or none."""
    rate_hz = floats(item.get("SamplingFrequency"), 1)
    return rate_hz[0] if rate_hz and 0 < rate_hz[0] <= _MAX_RATE_HZ else None


def _traces(dataset: Dataset, group: int) -> Iterator[_Trace]:
    """Bring the channels of one multiplex group to millivolts and `RATE_HZ`."""
    item = dataset.WaveformSequence[group]
    rate_hz = _rate_hz(item) or 0.0
    samples = _samples(item, most=int(np.ceil(DRAWN_S * rate_hz)) + 1)
    times_s = np.arange(int(DRAWN_S * RATE_HZ)) / RATE_HZ
    taken_s = np.arange(len(samples)) / rate_hz
    for number, channel in enumerate(item.ChannelDefinitionSequence[: samples.shape[1]]):
        scale = _millivolts(channel)
        if scale is not None and np.isfinite(samples[:, number]).any():
            values = np.interp(times_s, taken_s, samples[:, number] * scale, right=np.nan)
            yield _Trace(_row(channel), values - np.nanmedian(values))


def _samples(item: Dataset, *, most: int) -> NDArray[np.float64]:
    """Return at most `most` samples (N, C) as stored, NaN where they are padding."""
    channels, count = item.NumberOfWaveformChannels, min(item.NumberOfWaveformSamples, most)
    if channels < 1 or count < 2:
        raise ValueError(f"{count} samples of {channels} channels cannot be drawn")
    if item.WaveformSampleInterpretation in ("AB", "MB"):
        raise ValueError("a companded waveform is sound, not voltage")
    start = Dataset()  # of the recording: a day of it is not copied
    start.NumberOfWaveformChannels, start.NumberOfWaveformSamples = channels, count
    start.WaveformSampleInterpretation = item.WaveformSampleInterpretation
    start.WaveformBitsAllocated = item.WaveformBitsAllocated
    start.WaveformData = item.WaveformData[: count * channels * item.WaveformBitsAllocated // 8]
    recording = Dataset()
    recording.WaveformSequence = [start]
    stored = multiplex_array(recording, 0)[:, :_MAX_CHANNELS]
    samples = stored.astype(np.float64)
    padding = item.get("WaveformPaddingValue")
    if isinstance(padding, bytes) and len(padding) >= stored.dtype.itemsize:
        samples[stored == np.frombuffer(padding, stored.dtype, 1)[0]] = np.nan
    return samples


def _millivolts(channel: Dataset) -> float | None:
    """Return what one step of a channel is worth, None where it has no unit of voltage."""
    sensitivity = floats(channel.get("ChannelSensitivity"), 1)
    units = channel.get("ChannelSensitivityUnitsSequence")
    unit = _MILLIVOLTS.get(units[0].get("CodeValue")) if units else None
    if sensitivity is None or unit is None:
        return None
    correction = floats(channel.get("ChannelSensitivityCorrectionFactor"), 1) or (1.0,)
    return sensitivity[0] * correction[0] * unit


def _row(channel: Dataset) -> int | None:
    """Find the row of a lead by the code of its source, else by its name."""
    source = (channel.get("ChannelSourceSequence") or [Dataset()])[0]
    code = str(source.get("CodeValue") or "").replace(":", "-").split("-")[-1]
    if source.get("CodingSchemeDesignator") in ("SCPECG", "MDC") and code in _ROWS:
        return _ROWS[code]
    for name in (source.get("CodeMeaning"), channel.get("ChannelLabel")):
        words = str(name or "").upper().replace("LEAD", " ").split()
        if words and words[0] in LEADS:
            return LEADS.index(words[0])
    return None


def _on_paper(rows: dict[int, _Trace]) -> NDArray[np.float32]:
    """Draw the traces as (H, W) in 0..255."""
    width, height = round(DRAWN_S * _MM_PER_S / PIXEL_MM), round(len(LEADS) * _ROW_MM / PIXEL_MM)
    paper = Image.new("L", (width, height))
    pen = ImageDraw.Draw(paper)
    for row, trace in sorted(rows.items()):
        line_px = (row + 0.5) * _ROW_MM / PIXEL_MM
        x = np.arange(len(trace.millivolts)) / RATE_HZ * _MM_PER_S / PIXEL_MM
        y = line_px - trace.millivolts * _MM_PER_MV / PIXEL_MM
        y = y.clip(-height, 2 * height)  # far outside is outside
        gaps = np.flatnonzero(np.isnan(y))
        for part in np.split(np.stack([x, y], axis=1), gaps):
            points = part[np.isfinite(part[:, 1])]
            if len(points) > 1:
                pen.line([(float(px), float(py)) for px, py in points], fill=255, width=_PEN_PX)
    return np.asarray(paper, dtype=np.float32)
