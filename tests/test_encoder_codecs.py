import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from peers import run
from pydicom import Dataset, dcmread, uid
from pydicom.dataset import FileMetaDataset
from pydicom.encaps import encapsulate, get_frame
from pydicom.pixels import get_decoder, iter_pixels

from encoder.codecs import DECODERS, PYAV, SIMPLEITK, decode
from encoder.headers import READ_ERRORS, frame_count
from encoder.pixels import read
from encoder.series import assemble

Bundled = Callable[[str], Path]
START_OF_FRAME = b"\xff\xc0"


def decoded(path: Path) -> NDArray[np.generic]:
    dataset = dcmread(path)
    return np.stack(list(decode(dataset, range(frame_count(dataset)))))


def by_dcmtk(path: Path, folder: Path) -> NDArray[np.generic]:
    plain = folder / "plain.dcm"
    run("dcmdjpeg", path, plain)
    array: NDArray[np.generic] = dcmread(plain).pixel_array
    return array


def frame_of(dataset: Dataset) -> bytes:
    return get_frame(dataset.PixelData, 0, number_of_frames=1)


@pytest.mark.parametrize("syntax", sorted(DECODERS))
def test_the_decoder_of_every_compressed_syntax_is_there(syntax: str) -> None:
    plugin = DECODERS[syntax]
    if plugin not in ("", SIMPLEITK, PYAV):
        assert plugin in get_decoder(uid.UID(syntax)).available_plugins


@pytest.mark.parametrize(
    "name",
    [
        "JPEG-LL.dcm",  # 16 bit, signed
        "JPGLosslessP14SV1_1s_1f_8b.dcm",
        "bad_sequence.dcm",  # 12 bit, with a rescale that must not be applied twice
        "SC_rgb_jpeg_gdcm.dcm",
    ],
)
def test_jpeg_lossless_is_read_as_dcmtk_reads_it(
    bundled: Bundled, tmp_path: Path, name: str
) -> None:
    path = bundled(name)
    np.testing.assert_array_equal(decoded(path)[0], by_dcmtk(path, tmp_path))


@pytest.mark.parametrize(
    "name",
    [
        "693_J2KI.dcm",  # signed
        "J2K_pixelrep_mismatch.dcm",  # signed by its header, unsigned by its codestream
        "GDCMJ2K_TextGBR.dcm",  # a JP2 file, not a bare codestream
        "emri_small_jpeg_2k_lossless.dcm",
        "US1_J2KI.dcm",  # colour, irreversible
        "examples_jpeg2k.dcm",  # colour, reversible
    ],
)
def test_jpeg_2000_is_read_as_openjpeg_reads_it(bundled: Bundled, name: str) -> None:
    dataset = dcmread(bundled(name))
    expected = iter_pixels(dataset, decoding_plugin="pylibjpeg")
    for frame, other in zip(decode(dataset, range(frame_count(dataset))), expected, strict=True):
        np.testing.assert_array_equal(frame, other)


def test_16_bit_colour_survives_jpeg_2000() -> None:
    rows, columns = 48, 64
    samples = np.random.default_rng(1).integers(0, 2**16, (rows, columns, 3), dtype=np.uint16)
    dataset = Dataset()
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = uid.ExplicitVRLittleEndian
    dataset.Rows, dataset.Columns, dataset.SamplesPerPixel = rows, columns, 3
    dataset.PhotometricInterpretation, dataset.PlanarConfiguration = "RGB", 0
    dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit = 16, 16, 15
    dataset.PixelRepresentation = 0
    dataset.SOPInstanceUID, dataset.SOPClassUID = "1.2.3", uid.SecondaryCaptureImageStorage
    dataset.PixelData = samples.tobytes()
    dataset.compress(uid.JPEG2000Lossless)
    np.testing.assert_array_equal(next(decode(dataset, [0])), samples)


@pytest.mark.parametrize("name", ["JPGExtended.dcm", "JPEG-lossy.dcm"])
def test_12_bit_jpeg_is_read_as_dcmtk_reads_it(bundled: Bundled, tmp_path: Path, name: str) -> None:
    """The scan header of JPEG-lossy.dcm is broken: no spectral selection (Ss, Se are 0, 0)."""
    path = bundled(name)
    difference = decoded(path)[0].astype(int) - by_dcmtk(path, tmp_path).astype(int)
    assert np.abs(difference).max() <= 1


@pytest.mark.parametrize(
    ("name", "option"),
    [
        ("emri_small.dcm", "+e1"),
        ("emri_small.dcm", "+el"),
        ("color-px.dcm", "+e1"),
        ("MR_small.dcm", "+e1"),
        ("693_UNCI.dcm", "+e1"),
        ("RG3_UNCR.dcm", "+e1"),
    ],
)
def test_what_dcmtk_compressed_without_loss_comes_back(
    bundled: Bundled, tmp_path: Path, name: str, option: str
) -> None:
    """Frame by frame, signed and unsigned, 8 to 16 bits, grey both ways and colour."""
    compressed = tmp_path / "compressed.dcm"
    run("dcmcjpeg", option, bundled(name), compressed)
    assert DECODERS[dcmread(compressed).file_meta.TransferSyntaxUID] == SIMPLEITK
    np.testing.assert_array_equal(decoded(compressed), decoded(bundled(name)))
    (plain,), (group,) = (assemble([path]).groups for path in (bundled(name), compressed))
    np.testing.assert_array_equal(read(group).array, read(plain).array)


@pytest.mark.parametrize(
    "name",
    [
        "SC_rgb_dcmtk_+eb+cy+n1.dcm",
        "SC_rgb_dcmtk_+eb+cy+s2.dcm",
        "SC_rgb_dcmtk_+eb+cr.dcm",
        "SC_jpeg_no_color_transform.dcm",
        "SC_rgb_jpeg_app14_dcmd.dcm",
    ],
)
def test_8_bit_extended_colour_is_read_as_its_baseline_twin(bundled: Bundled, name: str) -> None:
    """The two differ in one byte; Pillow reads the one, GDCM the other."""
    baseline, extended = dcmread(bundled(name)), dcmread(bundled(name))
    code = frame_of(extended).replace(START_OF_FRAME, b"\xff\xc1", 1)
    extended.PixelData = encapsulate([code])
    extended.file_meta.TransferSyntaxUID = uid.JPEGExtended12Bit
    np.testing.assert_array_equal(next(decode(extended, [0])), next(decode(baseline, [0])))


def test_a_jpeg_of_another_size_than_its_header_is_refused_before_decoding(
    bundled: Bundled,
) -> None:
    dataset = dcmread(bundled("JPEG-LL.dcm"))
    dataset.Rows = 16
    with pytest.raises(ValueError, match="another size"):
        next(decode(dataset, [0]))


@pytest.mark.parametrize(
    ("name", "marker", "offset"),
    [
        ("SC_rgb_dcmtk_+eb+cr.dcm", START_OF_FRAME, 5),  # lines of a JPEG
        ("MR_small_jpeg_ls_lossless.dcm", b"\xff\xf7", 5),
        ("MR_small_jp2klossless.dcm", b"\xff\x4f\xff\x51", 12),  # height of a JPEG 2000
        ("MR_small_jp2klossless.dcm", b"\xff\x4f\xff\x51", 40),  # its components
    ],
)
def test_a_frame_that_would_grow_beyond_its_header_is_refused_before_decoding(
    bundled: Bundled, monkeypatch: pytest.MonkeyPatch, name: str, marker: bytes, offset: int
) -> None:
    dataset = dcmread(bundled(name))
    next(decode(dataset, [0]))
    monkeypatch.setattr("encoder.codecs.iter_pixels", lambda *_, **__: pytest.fail("decoded"))
    code = bytearray(frame_of(dataset))
    at = code.index(marker) + offset
    code[at : at + 2] = b"\x3f\xff"
    dataset.PixelData = encapsulate([bytes(code)])
    with pytest.raises(ValueError, match="another size"):
        next(decode(dataset, [0]))


@pytest.mark.parametrize("code", [b"\0\0", b"\xff\xd8", b"\xff\xd8\xff\xda\0\2", b"\xff" * 64])
def test_what_is_no_jpeg_is_an_error(bundled: Bundled, code: bytes) -> None:
    dataset = dcmread(bundled("JPEG-LL.dcm"))
    dataset.PixelData = encapsulate([code])
    with pytest.raises(READ_ERRORS):
        next(decode(dataset, [0]))


def test_overlay_bits_above_the_sample_are_cleared(bundled: Bundled) -> None:
    dataset = dcmread(bundled("MR_small.dcm"))
    dataset.BitsStored, dataset.HighBit, dataset.PixelRepresentation = 12, 11, 0
    samples = dataset.pixel_array
    dataset.PixelData = (samples | 0x5000).astype("<u2").tobytes()
    np.testing.assert_array_equal(next(decode(dataset, [0])), samples & 0xFFF)


@pytest.mark.parametrize(
    ("bits", "high", "signed", "word", "value"),
    [
        (12, 11, 1, 0x0FFF, -1),
        (12, 11, 1, 0xF7FF, 2047),
        (12, 15, 0, 0xABC0, 0xABC),
        (12, 15, 1, 0xFFF7, -1),
        (10, 11, 0, 0xFFFF, 1023),
        (16, 15, 1, 0x8000, -32768),
    ],
)
def test_the_sample_is_taken_from_where_high_bit_says(
    bundled: Bundled, bits: int, high: int, signed: int, word: int, value: int
) -> None:
    """PS3.5 8.1.1 and annex D: a sample of Bits Stored bits whose highest one is High Bit."""
    dataset = dcmread(bundled("MR_small.dcm"))
    dataset.BitsStored, dataset.HighBit, dataset.PixelRepresentation = bits, high, signed
    dataset.PixelData = np.full((64, 64), word, "<u2").tobytes()
    assert set(next(decode(dataset, [0])).ravel().tolist()) == {value}


def test_a_sample_that_does_not_fit_its_word_is_an_error(bundled: Bundled) -> None:
    dataset = dcmread(bundled("MR_small.dcm"))
    dataset.BitsStored, dataset.HighBit = 12, 10
    with pytest.raises(ValueError, match="12 bits below bit 10 of 16"):
        next(decode(dataset, [0]))


def test_no_file_is_left_behind_by_a_jpeg(bundled: Bundled, tmp_path: Path) -> None:
    """Even where the process is killed in the middle: the frame never has a name."""
    script = (
        "import os, sys, SimpleITK, pydicom\n"
        "from encoder.codecs import decode\n"
        "SimpleITK.ImageFileReader.Execute = lambda reader: os._exit(9)\n"
        "next(decode(pydicom.dcmread(sys.argv[1]), [0]))\n"
    )
    environment = {"TMPDIR": str(tmp_path), "PYTHONPATH": str(Path(__file__).parents[1])}
    done = subprocess.run(
        [sys.executable, "-c", script, bundled("JPEG-LL.dcm")], env=environment, check=False
    )
    assert done.returncode == 9
    assert list(tmp_path.iterdir()) == []
