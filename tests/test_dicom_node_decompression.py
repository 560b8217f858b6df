"""Kept images decompressed for a retrieval: same values, honest attributes, nothing without end."""

from collections.abc import Sequence
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image
from pydicom import dcmread, uid
from pydicom.dataset import Dataset
from pydicom.encaps import encapsulate

from dicom_node.answer import decompression
from dicom_node.answer.decompression import decompressed
from dicom_node.receive.turns import Caller
from dicom_node.receive.worker import Frames
from encoder.errors import UnreadableImage
from encoder.stored_frames import stored_frames
from training import phantoms


class Here:
    """Decodes in this process what a node decodes in another."""

    def frames(
        self, path: Path, numbers: Sequence[int], *, decoded: bool, caller: Caller | None = None
    ) -> Frames:
        try:
            return Frames(tuple(stored_frames(path, numbers, decoded=decoded)))
        except UnreadableImage as error:
            return Frames((), error.reason)


def loop(folder: Path, syntax: str = uid.RLELossless) -> Path:
    """Write a compressed loop of three frames."""
    path = phantoms.cine(folder, new_uid=phantoms.uid_source(3), frames=3, size=(64, 48))
    dataset = dcmread(path)
    dataset.compress(syntax, generate_instance_uid=False)
    dataset.save_as(path)
    return path


def test_frames_are_decoded_some_at_a_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = loop(tmp_path)
    monkeypatch.setattr(decompression, "_AT_ONCE_BYTES", 2 * 64 * 48)

    plain = decompressed(path, Here())

    kept = dcmread(path)
    assert plain is not None
    assert plain.file_meta.TransferSyntaxUID == uid.ExplicitVRLittleEndian
    assert np.array_equal(plain.pixel_array, kept.pixel_array)
    assert plain.SOPInstanceUID == kept.SOPInstanceUID
    assert plain.get("LossyImageCompression") == kept.get("LossyImageCompression")


def test_colour_is_rgb_and_what_was_lossy_says_so(tmp_path: Path) -> None:
    red = np.zeros((16, 16, 3), np.uint8)
    red[..., 0] = 200
    path = loop(tmp_path, uid.JPEG2000Lossless)
    dataset = dcmread(path)
    dataset.NumberOfFrames, dataset.Rows, dataset.Columns = 1, 16, 16
    dataset.SamplesPerPixel, dataset.PlanarConfiguration = 3, 0
    dataset.PhotometricInterpretation = "YBR_FULL_422"
    dataset.file_meta.TransferSyntaxUID = uid.JPEGBaseline8Bit
    dataset.PixelData = encapsulate([jpeg(red)])
    icon = Dataset()
    icon.BitsAllocated, icon.PixelData = 8, b"\0\0"
    dataset.IconImageSequence = [icon]
    dataset.save_as(path)

    plain = decompressed(path, Here())

    assert plain is not None
    assert (plain.PhotometricInterpretation, plain.PlanarConfiguration) == ("RGB", 0)
    assert np.allclose(plain.pixel_array, red, atol=3)
    assert plain.LossyImageCompression == "01"
    assert "IconImageSequence" not in plain


def test_an_object_without_pixels_changes_its_transfer_syntax_alone(tmp_path: Path) -> None:
    path = loop(tmp_path)
    dataset = dcmread(path)
    del dataset.PixelData
    dataset.save_as(path)

    assert decompressed(path, Here()) == dataset


@pytest.mark.parametrize(
    ("keyword", "value"),
    [
        ("PixelData", encapsulate([b"no run lengths" * 8])),
        ("Rows", 65000),
        ("NumberOfFrames", 10**6),
        ("Rows", 0),
    ],
)
def test_what_cannot_be_decoded_is_left_as_it_is(
    tmp_path: Path, keyword: str, value: object
) -> None:
    path = loop(tmp_path)
    dataset = dcmread(path)
    setattr(dataset, keyword, value)
    dataset.save_as(path)

    assert decompressed(path, Here()) is None


def jpeg(pixels: NDArray[np.uint8]) -> bytes:
    buffer = BytesIO()
    Image.fromarray(pixels).save(buffer, "JPEG", quality=95)
    return buffer.getvalue()
