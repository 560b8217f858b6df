"""Damaged files through the real embedding process: every one is accounted for, none ends it all.

    make fuzz                      20,000 files
    make fuzz FUZZ="--count 500 --seed 7 --keep build/killers"

Each series goes the way of the pipeline: its header through the door of intake, its files by path
to a worker process with time and memory limits. A file that ended a worker is kept under --keep.
Fails when the parent meets an error that it does not expect, when a series takes longer than the
limits allow, or when the totals do not add up.
"""

import argparse
import random
import sys
import tempfile
import time
from collections import Counter
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from mutations import mutants, seeds

from dicom_node.config import Encoding
from dicom_node.errors import ObjectRefused, WorkerFailed
from dicom_node.listener import prepare_dicom
from dicom_node.log import start_logging
from dicom_node.receive.header import read_file
from dicom_node.receive.worker import Worker
from encoder import checkpoint
from encoder.config import EncoderConfig, Extent
from encoder.model import initial_weights

TIMEOUT_S = 20.0
MEMORY_MB = 2048
# Both parts of a reply within the limit, a worker that must be killed, and one that starts.
LONGEST_S = 2 * TIMEOUT_S + 30.0
# The files are the point here, not the network.
SMALL = EncoderConfig(
    width=48, depth=1, heads=2,
    still=Extent(1, 32, 32), volume=Extent(8, 32, 32), cine=Extent(4, 32, 32),
)  # fmt: skip


class Outcome(StrEnum):
    """What became of the files of a series in the worker."""

    EMBEDDED = "embedded"
    SKIPPED = "skipped"
    UNREADABLE = "unreadable"
    WORKER_ERROR = "worker error"
    RESTARTED = "worker restarted"
    TIMED_OUT = "timed out"


KILLERS = (Outcome.RESTARTED, Outcome.TIMED_OUT)


@dataclass(slots=True)
class Account:
    """Files by outcome; of all of them, how many intake would have refused before."""

    files: Counter[Outcome] = field(default_factory=Counter)
    refused_at_the_door: int = 0
    reasons: Counter[str] = field(default_factory=Counter)
    longest_s: float = 0.0
    seconds: float = 0.0

    @property
    def total(self) -> int:
        return self.files.total()


def fuzz(count: int, seed: int, scratch: Path, keep: Path) -> Account:
    """Send at least `count` files through one worker and account for all of them."""
    account, sent = Account(), 0
    source = random.Random(seed)
    worker = Worker(_encoding(scratch / "encoder"))
    start = time.perf_counter()
    try:
        for name, files in mutants(source, seeds(scratch / "seeds")):
            if sent >= count:
                break
            paths = _write(scratch, files)
            account.refused_at_the_door += sum(_refused(path) for path in paths)
            outcome, reason, elapsed_s = _embed(worker, paths)
            account.files[outcome] += len(paths)
            account.longest_s = max(account.longest_s, elapsed_s)
            if outcome in (Outcome.WORKER_ERROR, *KILLERS):
                account.reasons[f"{outcome}: {reason}"] += 1
                _keep(keep, f"{sent:06}", f"{name}\n{outcome}: {reason}\n", paths)
            sent += len(paths)
    finally:
        worker.stop()
    account.seconds = time.perf_counter() - start
    if account.total != sent or account.longest_s > LONGEST_S:
        raise SystemExit(f"{sent} sent, {account.total} accounted for: {account}")
    return account


def _encoding(folder: Path) -> Encoding:
    weights = initial_weights(SMALL, 1)
    description = checkpoint.Description(checkpoint.FORMAT, "fuzz", False, 1, SMALL)
    checkpoint.save(folder, checkpoint.Checkpoint(description, weights))
    return Encoding(
        checkpoint=str(folder),
        device="cpu",
        threads=1,
        timeout_s=TIMEOUT_S,
        memory_mb=MEMORY_MB,
    )


def _write(scratch: Path, files: tuple[bytes, ...]) -> tuple[Path, ...]:
    paths = tuple(scratch / f"{number}.dcm" for number in range(len(files)))
    for path, data in zip(paths, files, strict=True):
        path.write_bytes(data)
    return paths


def _refused(path: Path) -> bool:
    """Tell whether intake refuses a file; any other error of the parent ends the run."""
    try:
        read_file(path)
    except ObjectRefused:
        return True
    return False


def _embed(worker: Worker, paths: tuple[Path, ...]) -> tuple[Outcome, str, float]:
    start = time.perf_counter()
    try:
        embedded = worker.embed(paths)
    except WorkerFailed as error:
        outcome, reason = Outcome.WORKER_ERROR, error.reason
        for word, meaning in (("longer than", Outcome.TIMED_OUT), ("died", Outcome.RESTARTED)):
            if word in reason:
                outcome = meaning
        return outcome, reason, time.perf_counter() - start
    outcome = Outcome.SKIPPED
    if embedded.clips:
        outcome = Outcome.EMBEDDED
    elif embedded.unreadable:
        outcome = Outcome.UNREADABLE
    return outcome, "", time.perf_counter() - start


def _keep(folder: Path, name: str, story: str, paths: tuple[Path, ...]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{name}.txt").write_text(story)
    for path in paths:
        (folder / f"{name}-{path.name}").write_bytes(path.read_bytes())


def main() -> None:
    """Run it and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--count", type=int, default=20_000, help="files")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--keep", type=Path, default=Path("build/fuzz"), help="folder for killers")
    chosen = parser.parse_args()
    start_logging("error")
    prepare_dicom()
    with tempfile.TemporaryDirectory(prefix="similis-fuzz-") as name:
        account = fuzz(chosen.count, chosen.seed, Path(name), chosen.keep)
    for outcome in Outcome:
        print(f"{outcome:20}{account.files[outcome]:8}")
    rate = f"{account.seconds:.0f} s, {account.total / account.seconds:.1f} files/s"
    print(f"{'all files':20}{account.total:8}   in {rate}, longest {account.longest_s:.1f} s")
    print(f"{'of them refused':20}{account.refused_at_the_door:8}   by intake, before any worker")
    for reason, number in account.reasons.most_common():
        print(f"{number:6}  {reason}")


if __name__ == "__main__":
    main()
