"""Reading beside other readers: every bundled DICOM file, and those under CORPUS, value by value.

    make compare-readers [CORPUS=folder]

Compressed files are decoded a second time by DCMTK (JPEG, JPEG-LS, RLE) or by pylibjpeg (JPEG 2000:
the same OpenJPEG as GDCM's, of another version and build), uncompressed ones are read by SimpleITK.
Compared is what a pixel means: rescaled, more is brighter, colour as RGB 0..255. Only SimpleITK is
a second opinion on that; beside the others it is the decoding alone that is compared.
"""

import os
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from subprocess import CalledProcessError
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))

import numpy as np
import pydicom
import SimpleITK
from numpy.typing import NDArray
from peers import run
from pydicom import Dataset, dcmread, uid
from pydicom.pixels import iter_pixels

from encoder.codecs import DECODERS, PYAV, decode
from encoder.errors import UnreadableImage
from encoder.headers import READ_ERRORS, frame_count, quiet
from encoder.photometry import picture
from encoder.pixels import read
from encoder.series import assemble

sitk: Any = SimpleITK

LOSSY = (uid.JPEGBaseline8Bit, uid.JPEGExtended12Bit, uid.JPEGLSNearLossless, uid.JPEG2000)
TOLERANCE = 3.0  # grey levels: decoders of lossy JPEG may round and interpolate colour differently
BY_DCMTK = {
    **dict.fromkeys(
        (uid.JPEGBaseline8Bit, uid.JPEGExtended12Bit, uid.JPEGLossless, uid.JPEGLosslessSV1),
        "dcmdjpeg",
    ),
    **dict.fromkeys((uid.JPEGLSLossless, uid.JPEGLSNearLossless), "dcmdjpls"),
    uid.RLELossless: "dcmdrle",
}
# What SimpleITK does otherwise, and who is right.
_PALETTE = "Similis brings palette colours to 8 bits, SimpleITK leaves 16: the same colours"
KNOWN = {
    "gdcm-US-ALOKA-16.dcm": _PALETTE,
    "gdcm-US-ALOKA-16_big.dcm": _PALETTE,
    "mlut_18.dcm": "SimpleITK gives stored values, for it ignores the modality LUT (PS3.3 C.11.1)",
}
Values = list[NDArray[np.float32]]


@dataclass(frozen=True, slots=True)
class Verdict:
    """How one file fared; `difference` is the greatest one, in units of the pixel value."""

    outcome: str
    reader: str = ""
    difference: float = 0.0


def meanings(dataset: Dataset, frames: Iterator[NDArray[np.generic]]) -> Values:
    """Say what stored frames mean, as the product does."""
    return [picture(dataset, frame, index).values for index, frame in enumerate(frames)]


def by_another(path: Path, dataset: Dataset, scratch: Path) -> tuple[str, Values] | None:
    """Read a file with a reader that shares no decoder with the product; None where there is none.

    Raises what the reader raises.
    """
    syntax = dataset.file_meta.TransferSyntaxUID
    if command := BY_DCMTK.get(syntax):
        plain = scratch / "plain.dcm"
        run(command, path, plain)
        other = dcmread(plain)
        return f"DCMTK {command}", meanings(other, decode(other, range(frame_count(other))))
    if syntax in uid.JPEG2000TransferSyntaxes:
        return "pylibjpeg", meanings(dataset, iter_pixels(dataset, decoding_plugin="pylibjpeg"))
    if DECODERS[syntax] != "":
        return None
    return "SimpleITK", by_simpleitk(path, dataset)


def by_simpleitk(path: Path, dataset: Dataset) -> Values:
    """Read a file that is not compressed; (C, H, W) of each frame."""
    image = sitk.ReadImage(str(path), imageIO="GDCMImageIO")
    channels = image.GetNumberOfComponentsPerPixel()
    array = sitk.GetArrayFromImage(image).astype(np.float32)
    frames = array.reshape(-1, dataset.Rows, dataset.Columns, channels)
    highest = 2**dataset.BitsStored - 1 if dataset.SamplesPerPixel == 3 else 255
    scale = np.float32(255 / highest if channels == 3 else 1)
    return [np.moveaxis(frame, -1, 0) * scale for frame in frames]


def why_not_read(path: Path) -> str | None:
    """Say why the product gives no clip for a file, None where it reads it."""
    assembly = assemble([path])
    for left in assembly.unreadable:
        return f"quarantined: {left.reason}"
    for left in assembly.skipped:
        return f"skipped: {left.reason}"
    try:
        for group in assembly.groups:
            read(group)
    except UnreadableImage as error:
        return f"quarantined: {error.reason}"
    return None


def compare(path: Path, scratch: Path) -> Verdict:
    """Read a file twice."""
    if reason := why_not_read(path):
        return Verdict(reason)
    dataset = dcmread(path)
    if "PixelData" not in dataset:
        return Verdict("no independent reader: drawn from samples")
    if DECODERS[dataset.file_meta.TransferSyntaxUID] == PYAV:
        return Verdict("no independent reader: video")
    ours = meanings(dataset, decode(dataset, range(frame_count(dataset))))
    try:
        found = by_another(path, dataset, scratch)
    except (*READ_ERRORS, CalledProcessError) as error:
        return Verdict(f"no independent reader: it fails with {type(error).__name__}")
    if found is None:
        return Verdict("no independent reader")
    reader, theirs = found
    if [v.shape for v in ours] != [v.shape for v in theirs]:
        return Verdict("differ", f"{reader}, in shape", np.inf)
    difference = max(float(np.abs(a - b).max()) for a, b in zip(ours, theirs, strict=True))
    if difference == 0:
        return Verdict("agree exactly", reader)
    lossy = dataset.file_meta.TransferSyntaxUID in LOSSY
    within = difference <= (TOLERANCE if lossy else 1e-3)
    return Verdict("agree within tolerance" if within else "differ", reader, difference)


def files() -> Iterator[Path]:
    """List the DICOM files that came with pydicom and pydicom-data, and those under CORPUS."""
    roots = [Path(str(pydicom.__file__)).parent / "data"]
    if (spec := find_spec("data_store")) and spec.origin:
        roots.append(Path(spec.origin).parent)
    if corpus := os.environ.get("CORPUS"):
        roots.append(Path(corpus))
    for root in roots:
        for path in sorted(root.rglob("*")):
            if path.is_file() and not path.name.startswith("DICOMDIR"):
                with path.open("rb") as file:
                    is_dicom = file.read(132)[128:] == b"DICM"
                if is_dicom or path.suffix == ".dcm":
                    yield path


def main() -> None:
    """Compare all files and print what came out."""
    verdicts: dict[Path, Verdict] = {}
    with tempfile.TemporaryDirectory(prefix="similis-compare-") as name, quiet():
        for path in files():
            verdicts[path] = compare(path, Path(name))
    print(f"{len(verdicts)} files; tolerance {TOLERANCE:g} grey levels where lossy, else 0.001\n")
    for outcome, count in Counter(verdict.outcome for verdict in verdicts.values()).most_common():
        print(f"{count:6}  {outcome}")
    print("\nby reader")
    pairs = Counter((v.reader, v.outcome) for v in verdicts.values() if v.reader)
    for (reader, outcome), count in sorted(pairs.items()):
        print(f"{count:6}  {reader}: {outcome}")
    print("\nnot read, or not compared")
    for path, verdict in verdicts.items():
        if verdict.outcome.startswith(("quarantined", "no independent")):
            print(f"  {path.name}: {verdict.outcome}")
    print("\nwhat differs")
    for path, verdict in verdicts.items():
        if verdict.outcome == "differ":
            known = KNOWN.get(path.name, "not explained")
            print(f"  {path.name}: {verdict.reader}, {verdict.difference:g}; {known}")


if __name__ == "__main__":
    main()
