"""Electrocardiograms with known voltages, and the one that pydicom brings along."""

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from pydicom import Dataset, dcmread, uid
from pydicom.dataset import FileDataset, FileMetaDataset

from encoder.clip import Clip, Kind, Unit
from encoder.errors import UnreadableImage
from encoder.pixels import read
from encoder.series import assemble
from encoder.waveform import LEADS, PIXEL_MM, draw

SECOND_PX, MILLIVOLT_PX, ROW_PX = 100, 40, 40  # 25 mm/s, 10 mm/mV and 10 mm, at 0.25 mm a pixel
SCP = dict(zip(LEADS, (1, 2, 61, 62, 63, 64, 3, 4, 5, 6, 7, 8), strict=True))


def channel(lead: str, *, microvolts: float | None = 5.0, scheme: str = "SCPECG") -> Dataset:
    source, definition, unit = Dataset(), Dataset(), Dataset()
    prefix = {"SCPECG": "5.6.3-9-", "MDC": "2:"}.get(scheme, "X")
    source.CodeValue = f"{prefix}{SCP.get(lead, 999)}"
    source.CodingSchemeDesignator, source.CodeMeaning = scheme, f"Lead {lead}"
    definition.ChannelSourceSequence = [source]
    if microvolts is not None:
        unit.CodeValue, unit.CodingSchemeDesignator, unit.CodeMeaning = "uV", "UCUM", "microvolt"
        definition.ChannelSensitivity = microvolts
        definition.ChannelSensitivityUnitsSequence = [unit]
        definition.ChannelSensitivityCorrectionFactor = 1
    return definition


def group(
    stored: NDArray[np.integer],
    channels: Sequence[Dataset],
    *,
    rate_hz: object = 500,
    label: str = "RHYTHM",
    originality: str = "ORIGINAL",
) -> Dataset:
    """Make a multiplex group of samples (N, C)."""
    item = Dataset()
    item.WaveformOriginality, item.MultiplexGroupLabel = originality, label
    item.NumberOfWaveformSamples, item.NumberOfWaveformChannels = stored.shape
    item.SamplingFrequency = rate_hz
    item.ChannelDefinitionSequence = list(channels)
    item.WaveformBitsAllocated = stored.dtype.itemsize * 8
    item.WaveformSampleInterpretation = {1: "SB", 2: "SS", 4: "SL"}[stored.dtype.itemsize]
    item.WaveformData = stored.tobytes()
    return item


def steps(
    millivolts: float, *, rate_hz: int = 500, seconds: float = 5, microvolts: float = 5
) -> NDArray[np.int16]:
    """A lead at rest but for the time from 2 to 3 s, (N, 1)."""
    times_s = np.arange(int(seconds * rate_hz)) / rate_hz
    high = (times_s >= 2) & (times_s < 3)
    return (high * millivolts * 1000 / microvolts).round().astype(np.int16)[:, np.newaxis]


def drawn(*groups: Dataset) -> NDArray[np.float32]:
    dataset = Dataset()
    dataset.WaveformSequence = list(groups)
    whole = draw(dataset)
    assert whole.unit is Unit.COLOUR
    assert (whole.values == whole.values[0]).all()
    return whole.values[0]


def height_px(paper: NDArray[np.float32], second: float) -> float:
    """Find the row at which the one trace is at a moment."""
    (inked,) = np.nonzero(paper[:, round(second * SECOND_PX)])
    assert inked.size, f"nothing is drawn at {second} s"
    return float(inked.mean())


def line_px(lead: str) -> float:
    return (LEADS.index(lead) + 0.5) * ROW_PX


def write(folder: Path, *groups: Dataset) -> Path:
    meta = FileMetaDataset()
    meta.TransferSyntaxUID = uid.ExplicitVRLittleEndian
    meta.MediaStorageSOPClassUID = uid.TwelveLeadECGWaveformStorage
    meta.MediaStorageSOPInstanceUID = uid.UID("2.25.1")
    dataset = FileDataset("", {}, file_meta=meta, preamble=b"\0" * 128)
    dataset.SOPClassUID, dataset.SOPInstanceUID = uid.TwelveLeadECGWaveformStorage, "2.25.1"
    dataset.WaveformSequence = list(groups)
    path = folder / "ecg.dcm"
    dataset.save_as(path, enforce_file_format=True)
    return path


def read_one(path: Path) -> Clip:
    (found,) = assemble([path]).groups
    return read(found)


def test_a_real_ecg_is_one_still_with_a_trace_in_every_row(bundled: Callable[[str], Path]) -> None:
    path = bundled("waveform_ecg.dcm")
    clip = read_one(path)
    assert (clip.kind, clip.unit, clip.array.shape) == (Kind.STILL, Unit.COLOUR, (3, 1, 480, 500))
    assert clip.spacing == (0.0, PIXEL_MM, PIXEL_MM)
    assert clip.sources == (str(dcmread(path).SOPInstanceUID),)
    rows = clip.array[0, 0].reshape(12, ROW_PX, 500)
    assert (rows.max(axis=1) > 0).mean(axis=1).min() > 0.9


def test_the_rhythm_is_drawn_and_not_the_median_beat(bundled: Callable[[str], Path]) -> None:
    dataset = dcmread(bundled("waveform_ecg.dcm"))
    rhythm, beat = dataset.WaveformSequence
    assert beat.MultiplexGroupLabel == "MEDIAN BEAT"
    np.testing.assert_array_equal(drawn(beat, rhythm), drawn(rhythm))
    assert (drawn(beat) != drawn(rhythm)).any()


@pytest.mark.parametrize("lead", LEADS)
@pytest.mark.parametrize("scheme", ["SCPECG", "MDC", "99LOCAL"])
def test_a_millivolt_is_ten_millimetres_in_the_row_of_its_lead(lead: str, scheme: str) -> None:
    paper = drawn(group(steps(0.4), [channel(lead, scheme=scheme)]))
    assert height_px(paper, 1) == pytest.approx(line_px(lead), abs=1)
    assert height_px(paper, 2.5) == pytest.approx(line_px(lead) - 0.4 * MILLIVOLT_PX, abs=1)
    assert height_px(paper, 3.5) == pytest.approx(line_px(lead), abs=1)


@settings(max_examples=25)
@given(
    millivolts=st.floats(-0.4, 0.4),
    rate_hz=st.sampled_from([125, 250, 1000, 2000]),
    microvolts=st.sampled_from([0.5, 1.0, 2.5, 10.0]),
)
def test_equal_voltages_are_equal_pictures_however_they_were_sampled(
    millivolts: float, rate_hz: int, microvolts: float
) -> None:
    expected = drawn(group(steps(millivolts), [channel("II")]))
    stored = steps(millivolts, rate_hz=rate_hz, microvolts=microvolts)
    paper = drawn(group(stored, [channel("II", microvolts=microvolts)], rate_hz=rate_hz))
    for second in (0.5, 1.5, 2.5, 3.5, 4.5):
        assert height_px(paper, second) == pytest.approx(height_px(expected, second), abs=1)


def test_the_baseline_does_not_move_the_trace() -> None:
    plain, lifted = steps(0.4), steps(0.4) + np.int16(3000)
    papers = [drawn(group(stored, [channel("V3")])) for stored in (plain, lifted)]
    np.testing.assert_array_equal(*papers)


def test_leads_that_were_recorded_in_turns_fill_all_their_rows() -> None:
    parts = [
        group(np.tile(steps(0.2), 3), [channel(lead) for lead in LEADS[start : start + 3]])
        for start in (0, 3, 6, 9)
    ]
    paper = drawn(*parts)
    rows = np.nonzero(paper[:, SECOND_PX])[0] // ROW_PX
    assert set(rows) == set(range(12))


@pytest.mark.parametrize("width", ["i1", "i2", "i4"])
def test_samples_of_every_width_are_read(width: str) -> None:
    stored = steps(0.4).astype(width)
    assert height_px(drawn(group(stored, [channel("I")])), 2.5) == pytest.approx(4, abs=1)


def test_channels_that_are_none_of_the_twelve_take_the_rows_that_are_left() -> None:
    channels = [channel("CM5", scheme="99LOCAL"), channel("I"), channel("CC5", scheme="99LOCAL")]
    paper = drawn(group(np.tile(steps(0.2), 3), channels))
    assert set(np.nonzero(paper[:, SECOND_PX])[0] // ROW_PX) == {0, 1, 2}


def test_padding_is_a_gap_in_the_trace() -> None:
    stored = steps(0.0)
    stored[500:1000] = -32768
    item = group(stored, [channel("I")])
    item.WaveformPaddingValue = np.int16(-32768).tobytes()
    paper = drawn(item)
    assert not paper[:, int(1.1 * SECOND_PX) : int(1.9 * SECOND_PX)].any()
    assert height_px(paper, 0.5) == height_px(paper, 2.5) == pytest.approx(20, abs=1)


def test_a_short_recording_ends_where_it_ends() -> None:
    paper = drawn(group(steps(0.0, seconds=2), [channel("I")]))
    assert paper[:, : int(1.9 * SECOND_PX)].any()
    assert not paper[:, int(2.1 * SECOND_PX) :].any()


def test_a_long_recording_is_drawn_from_its_start(tmp_path: Path) -> None:
    stored = np.concatenate([steps(0.4), np.full((500_000, 1), 9999, np.int16)])
    np.testing.assert_array_equal(
        read_one(write(tmp_path, group(stored, [channel("I")]))).array[0, 0],
        drawn(group(steps(0.4), [channel("I")])),
    )


def test_a_lead_without_sensitivity_is_left_out() -> None:
    item = group(np.tile(steps(0.2), 2), [channel("I"), channel("II", microvolts=None)])
    np.testing.assert_array_equal(drawn(item), drawn(group(steps(0.2), [channel("I")])))


def change(keyword: str, value: object) -> Callable[[Dataset], None]:
    return lambda item: setattr(item, keyword, value)


@pytest.mark.parametrize(
    "spoil",
    [
        change("SamplingFrequency", 0),
        change("SamplingFrequency", None),
        change("NumberOfWaveformSamples", 2**31),
        change("NumberOfWaveformSamples", 0),
        change("NumberOfWaveformChannels", 0),
        change("NumberOfWaveformChannels", 65535),
        change("WaveformBitsAllocated", 12),
        change("WaveformSampleInterpretation", "MB"),
        change("WaveformData", b"\0\0"),
        change("ChannelDefinitionSequence", [channel("I", microvolts=None)]),
        lambda item: item.pop("ChannelDefinitionSequence"),
    ],
)
def test_what_cannot_be_drawn_is_unreadable(
    tmp_path: Path, spoil: Callable[[Dataset], object]
) -> None:
    item = group(steps(0.2), [channel("I")])
    spoil(item)
    with pytest.raises(UnreadableImage) as caught:
        read_one(write(tmp_path, item))
    assert caught.value.reason


def test_an_ecg_without_a_waveform_is_unreadable(tmp_path: Path) -> None:
    with pytest.raises(UnreadableImage, match="no channel has samples"):
        read_one(write(tmp_path))
