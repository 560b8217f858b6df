"""Rendered frames: every pixel of the image, windowed as PS3.3 C.11.2 says."""

from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image
from pydicom import Dataset, dcmread
from pydicom.data import get_testdata_file
from pydicom.pixels import apply_windowing, pixel_array
from pydicom.uid import ExplicitVRLittleEndian

from encoder import rendered as module
from encoder.errors import UnreadableImage
from encoder.rendered import rendered
from encoder.voi import Function, Look, Window
from training.phantoms import ct_series, still, uid_source

PNG = Look(format="PNG")


def bundled(name: str) -> Path:
    return Path(get_testdata_file(name, download=False) or "")


def pixels(path: Path, look: Look = PNG, number: int = 1) -> NDArray[np.uint8]:
    (file,) = rendered(path, [number], look)
    return np.asarray(Image.open(BytesIO(file)))


def grey(folder: Path, values: NDArray[np.uint16], **elements: object) -> Path:
    """Write a grey picture of 16 bit."""
    path = still(folder, new_uid=uid_source(1), size=(64, 64))
    dataset = dcmread(path)
    dataset.Rows, dataset.Columns = values.shape
    dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit = 16, 16, 15
    dataset.PixelRepresentation = 0
    del dataset.WindowCenter, dataset.WindowWidth
    dataset.add_new("PixelData", "OW", values.astype("<u2").tobytes())
    for keyword, value in elements.items():
        setattr(dataset, keyword, value)
    dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    dataset.save_as(path, enforce_file_format=True)
    return path


RAMP = np.arange(0, 4000, 25, dtype=np.uint16).reshape(8, 20)


@pytest.mark.parametrize("function", Function)
@pytest.mark.parametrize("asked", [True, False])
def test_a_window_is_that_of_the_standard(tmp_path: Path, function: Function, asked: bool) -> None:
    """pydicom's windowing is the oracle; its output spans the stored bits."""
    name = function.upper().replace("-", "_")
    window = {"WindowCenter": 1500.0, "WindowWidth": 900.0, "VOILUTFunction": name}
    oracle = Dataset()
    oracle.update(dcmread(grey(tmp_path, RAMP, **window)))
    expected = apply_windowing(RAMP, oracle) / 65535 * 255
    path = grey(tmp_path, RAMP, **({} if asked else window))
    look = Look(format="PNG", window=Window(1500, 900, function) if asked else None)

    assert np.abs(pixels(path, look) - expected).max() <= 0.51


def test_without_a_window_the_picture_spans_its_values_but_for_padding(tmp_path: Path) -> None:
    padded = RAMP.copy()
    padded[0] = 60000

    path = grey(tmp_path, padded)
    dataset = dcmread(path)
    dataset.add_new("PixelPaddingValue", "US", 60000)
    dataset.save_as(path)
    shown = pixels(path)

    assert (shown[1:].min(), shown[1:].max()) == (0, 255)
    assert np.ptp(shown[2]) > 20


def test_a_table_is_looked_up(tmp_path: Path) -> None:
    item = Dataset()
    item.add_new("LUTDescriptor", "US", [3, 100, 8])
    item.add_new("LUTData", "US", [0, 51, 255])
    values = np.array([[0, 100, 101, 102, 9000]], dtype=np.uint16)
    path = grey(tmp_path, values, VOILUTSequence=[item])

    assert pixels(path).tolist() == [[0, 0, 51, 255, 255]]


@pytest.mark.parametrize("inverse", ["MONOCHROME1", "INVERSE"])
def test_inverse_grey_is_inverted_after_its_window(tmp_path: Path, inverse: str) -> None:
    keyword = "PresentationLUTShape" if inverse == "INVERSE" else "PhotometricInterpretation"
    look = Look(format="PNG", window=Window(1500, 900))
    plain = pixels(grey(tmp_path / "a", RAMP), look)

    assert np.array_equal(
        pixels(grey(tmp_path / "b", RAMP, **{keyword: inverse}), look), 255 - plain
    )


def test_a_ct_has_its_window_in_hounsfield_units(tmp_path: Path) -> None:
    (path,) = ct_series(tmp_path, new_uid=uid_source(1), slices=1, size=48)
    stored = dcmread(path)
    hounsfield = stored.pixel_array * float(stored.RescaleSlope) + float(stored.RescaleIntercept)

    shown = pixels(path, Look(format="PNG", window=Window(-500, 1000, Function.LINEAR_EXACT)))

    assert np.abs(shown - ((hounsfield + 1000) / 1000).clip(0, 1) * 255).max() <= 0.51


@pytest.mark.parametrize(
    "name", ["examples_ybr_color.dcm", "SC_rgb_jpeg_dcmtk.dcm", "examples_palette.dcm"]
)
def test_colours_are_those_of_the_whole_frame(name: str) -> None:
    """Ultrasound regions cut nothing away here."""
    dataset = dcmread(bundled(name))
    shown = pixels(bundled(name))

    assert shown.shape == (dataset.Rows, dataset.Columns, 3)
    if name != "examples_palette.dcm":
        assert np.array_equal(shown, pixel_array(bundled(name), index=0))
    else:
        assert len(np.unique(shown.reshape(-1, 3), axis=0)) > 20


def test_frames_come_in_the_order_asked_for() -> None:
    path = bundled("examples_ybr_color.dcm")
    frames = rendered(path, [30, 1], PNG)

    assert [np.array_equal(np.asarray(Image.open(BytesIO(frame))), pixel_array(path, index=index))
            for frame, index in zip(frames, (29, 0), strict=True)] == [True, True]  # fmt: skip


@pytest.mark.parametrize(
    ("viewport", "size"), [((40, 40), (40, 16)), ((4000, 32), (80, 32)), ((20, 8), (20, 8))]
)
def test_a_viewport_is_filled_without_distortion(
    tmp_path: Path, viewport: tuple[int, int], size: tuple[int, int]
) -> None:
    (file,) = rendered(grey(tmp_path, RAMP), [1], Look(format="JPEG", viewport=viewport))

    image = Image.open(BytesIO(file))
    assert (image.size, image.format, image.mode) == (size, "JPEG", "L")


@pytest.mark.parametrize(
    ("name", "number", "reason"),
    [
        ("CT_small.dcm", 2, "it has the frames 1 to 1"),
        ("CT_small.dcm", 0, "it has the frames 1 to 1"),
        ("rtplan.dcm", 1, "it has no pixels"),
        ("MR_truncated.dcm", 1, "damaged pixels"),
    ],
)
def test_what_cannot_be_rendered_says_why(name: str, number: int, reason: str) -> None:
    with pytest.raises(UnreadableImage, match=reason):
        rendered(bundled(name), [number], PNG)


def test_what_is_too_large_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = grey(tmp_path, RAMP)
    monkeypatch.setattr(module, "MAX_BYTES", 10)
    with pytest.raises(UnreadableImage, match="ask for fewer"):
        rendered(path, [1], PNG)
    monkeypatch.setattr(module, "MAX_PIXELS", RAMP.size - 1)
    with pytest.raises(UnreadableImage, match="million pixels"):
        rendered(path, [1], PNG)
