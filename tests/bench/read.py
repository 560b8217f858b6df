"""Reading: speed of every transfer syntax, memory of a worker, and time beside SimpleITK.

    make bench-read [CORPUS=folder]

The series are synthetic CT phantoms, 512 x 512, transcoded by DCMTK, pydicom or FFmpeg. HTJ2K is
left out: nothing at hand writes it. CORPUS is a folder with one real CT series, used beside them.
A series is read as the worker does, with two threads. Figures are printed, never asserted.
"""

import os
import sys
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from statistics import median
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))

import SimpleITK
from pydicom import Dataset, dcmread
from syntaxes import SYNTAXES, VIDEOS, write_video

from encoder import checkpoint
from encoder.config import Extent
from encoder.embedder import Embedder
from encoder.series import assemble
from encoder.volume import read_clip
from training.phantoms import ct_series, uid_source

sitk: Any = SimpleITK

SLICES = 60
ROUNDS = 3
THREADS = 2
EXTENT = Extent(32, 128, 128)


def stored_bytes(path: Path) -> int:
    """Count the bytes of the pixels of one file once decoded."""
    header: Dataset = dcmread(path, stop_before_pixels=True)
    samples = header.Rows * header.Columns * header.SamplesPerPixel
    return int(samples * header.BitsAllocated // 8 * int(header.get("NumberOfFrames") or 1))


def read_series(folder: Path, *, threads: int = THREADS) -> float:
    """Assemble and read a folder as the worker does, and return the seconds."""
    start = time.perf_counter()
    assembly = assemble(sorted(folder.iterdir()))
    for group in assembly.groups:
        read_clip(group, EXTENT, threads=threads)
    if assembly.unreadable or not assembly.groups:
        raise SystemExit(f"{folder.name} was not read: {assembly.unreadable}")
    return time.perf_counter() - start


def read_by_simpleitk(folder: Path) -> float:
    """Read a series with ImageSeriesReader and resample it to the extent; return the seconds."""
    start = time.perf_counter()
    reader = sitk.ImageSeriesReader()
    reader.SetFileNames(reader.GetGDCMSeriesFileNames(str(folder)))
    image = sitk.Cast(reader.Execute(), sitk.sitkFloat32)
    size = (EXTENT.width, EXTENT.height, EXTENT.frames)
    old = zip(image.GetSize(), image.GetSpacing(), size, strict=True)
    spacing = [count * step / new for count, step, new in old]
    sitk.Resample(
        image, size, sitk.Transform(), sitk.sitkLinear, image.GetOrigin(), spacing,
        image.GetDirection(),
    )  # fmt: skip
    return time.perf_counter() - start


def peak_mib(folder: Path | None) -> float:
    """Embed a series and return the highest memory of this process."""
    embedder = Embedder(checkpoint.load(), device="cpu", threads=THREADS)
    if folder is not None:
        groups = assemble(sorted(folder.iterdir())).groups
        extent = embedder.config.extent(groups[0].kind)
        embedder.embed([read_clip(group, extent, threads=THREADS) for group in groups])
    status = Path("/proc/self/status").read_text()
    return int(status.split("VmHWM:")[1].split()[0]) / 1024  # ru_maxrss would count the parent's


def in_a_child(folder: Path | None) -> float:
    """Measure in a process that has done nothing else."""
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as executor:
        return executor.submit(peak_mib, folder).result()


def long_series(folder: Path, template: Path, count: int) -> Path:
    """Write the same slice at `count` places."""
    folder.mkdir()
    dataset = dcmread(template)
    for number in range(count):
        dataset.SOPInstanceUID = f"2.25.{number + 1}"
        dataset.file_meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID
        dataset.ImagePositionPatient = [0, 0, number]
        dataset.save_as(folder / f"{number}.dcm")
    return folder


def print_syntaxes(scratch: Path, slices: list[Path]) -> None:
    """Print the speed of each transfer syntax."""
    folders = {name: scratch / name for name in (*SYNTAXES, *VIDEOS)}
    for name, folder in folders.items():
        folder.mkdir()
        if name in VIDEOS:
            write_video(slices[SLICES // 2], folder / "video.dcm", name, frames=SLICES)
            continue
        for path in slices:
            SYNTAXES[name](path, folder / path.with_suffix(".dcm").name)
    print(f"\n{SLICES} slices of 512 x 512, {THREADS} threads, median of {ROUNDS} (range)")
    print(f"{'transfer syntax':32}{'series/s':>10}{'MB/s':>8}{'range':>16}{'1 thread':>10}")
    for name, folder in folders.items():
        megabytes = sum(stored_bytes(path) for path in folder.iterdir()) / 1e6
        times = [read_series(folder) for _ in range(ROUNDS)]
        rates = sorted(megabytes / seconds for seconds in times)
        single = megabytes / median(read_series(folder, threads=1) for _ in range(ROUNDS))
        spread = f"{rates[0]:.0f}-{rates[-1]:.0f}"
        print(f"{name:32}{1 / median(times):10.2f}{median(rates):8.0f}{spread:>16}{single:10.0f}")


def print_beside_simpleitk(series: dict[str, Path]) -> None:
    """Print the time of both readers, measured in turns."""
    print(f"\nseconds to read and bring to {EXTENT}, median of {ROUNDS} (range)")
    for name, folder in series.items():
        ours, theirs = [], []
        for _ in range(ROUNDS):
            ours.append(read_series(folder))
            theirs.append(read_by_simpleitk(folder))
        ratios = sorted(a / b for a, b in zip(ours, theirs, strict=True))
        print(
            f"{name}: Similis {median(ours):.2f} ({min(ours):.2f}-{max(ours):.2f}), "
            f"SimpleITK {median(theirs):.2f} ({min(theirs):.2f}-{max(theirs):.2f}), "
            f"ratio {median(ratios):.2f} ({ratios[0]:.2f}-{ratios[-1]:.2f})"
        )


def main() -> None:
    """Run everything and print the figures."""
    with tempfile.TemporaryDirectory(prefix="similis-bench-") as name:
        scratch = Path(name)
        slices = ct_series(scratch / "plain", new_uid=uid_source(1), slices=SLICES)
        print_syntaxes(scratch, slices)
        series = {
            "synthetic CT, 275 slices, uncompressed": long_series(
                scratch / "275", slices[SLICES // 2], 275
            )
        }
        if corpus := os.environ.get("CORPUS"):
            series["corpus CT as published"] = Path(corpus)
            plain = scratch / "corpus"
            plain.mkdir()
            for path in sorted(Path(corpus).iterdir()):
                dataset = dcmread(path)
                dataset.decompress(decoding_plugin="pylibjpeg")
                dataset.save_as(plain / path.name)
            series["corpus CT, uncompressed"] = plain
        print_beside_simpleitk(series)
        print("\nhighest memory of a worker, MiB")
        print(f"model loaded, nothing read: {in_a_child(None):.0f}")
        thousand = long_series(scratch / "1000", slices[SLICES // 2], 1000)
        for title, folder in {**series, "synthetic CT, 1,000 slices": thousand}.items():
            print(f"{title}: {in_a_child(folder):.0f}")


if __name__ == "__main__":
    main()
