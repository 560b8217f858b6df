"""The parent's side of a worker: whatever its process does, it costs one limit and one process."""

import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import hostile_workers
import pytest
from pydicom import dcmread
from pydicom.uid import MRImageStorage

from dicom_node.config import Encoding
from dicom_node.errors import WorkerFailed
from dicom_node.receive import worker as worker_module
from dicom_node.receive.worker import Worker

TIMEOUT_S = 1.0
Bundled = Callable[[str], Path]


@contextmanager
def started(timeout_s: float = TIMEOUT_S) -> Iterator[tuple[Worker, int]]:
    """Lend a worker and the process id of its process."""
    worker = Worker(Encoding(device="cpu", threads=1, timeout_s=timeout_s))
    try:
        assert worker._process is not None and worker._process.pid is not None
        yield worker, worker._process.pid
    finally:
        worker.stop()


@pytest.mark.parametrize(
    ("behaviour", "files"), [(hostile_workers.stalling, 1), (hostile_workers.deaf, 50_000)]
)
def test_a_process_that_stops_in_the_middle_of_a_message_is_killed_at_the_limit(
    monkeypatch: pytest.MonkeyPatch, behaviour: Callable[..., None], files: int
) -> None:
    monkeypatch.setattr(worker_module, "_run", behaviour)
    with started() as (worker, pid):
        start = time.monotonic()
        with pytest.raises(WorkerFailed, match="took longer than 1 s and was ended"):
            worker.embed((Path("file"),) * files)
        assert time.monotonic() - start < 10 * TIMEOUT_S
        with pytest.raises(ProcessLookupError):
            os.kill(pid, 0)


@pytest.mark.parametrize(
    "answer",
    [
        "no JSON",
        "[" * 100_000,
        "1",
        "[]",
        "{}",
        '{"clips": 1, "skipped": [], "unreadable": []}',
        '{"clips": [{}], "skipped": [], "unreadable": []}',
        '{"clips": [], "skipped": [{"a": 1}], "unreadable": []}',
        '{"clips": [], "skipped": [], "unreadable": ["a"]}',
    ],
)
def test_a_process_that_answers_without_sense_is_ended(
    monkeypatch: pytest.MonkeyPatch, answer: str
) -> None:
    monkeypatch.setattr(worker_module, "_run", hostile_workers.parrot)
    with started(timeout_s=20.0) as (worker, pid):
        with pytest.raises(WorkerFailed, match="gave an answer without sense"):
            worker.embed((Path(answer),))
        with pytest.raises(ProcessLookupError):
            os.kill(pid, 0)


def test_an_answer_that_makes_sense_keeps_its_process(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(worker_module, "_run", hostile_workers.parrot)
    with started(timeout_s=20.0) as (worker, pid):
        embedded = worker.embed((Path('{"clips": [], "skipped": [], "unreadable": []}'),))
        assert embedded.clips == ()
        os.kill(pid, 0)


def test_what_a_codec_prints_is_not_heard(
    bundled: Bundled, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    dataset = dcmread(bundled("JPEG-lossy.dcm"))  # 12 bits a pixel
    dataset.SOPClassUID, dataset.Modality = MRImageStorage, "MR"  # a screen is passed over
    dataset.ImageType = ["ORIGINAL", "PRIMARY"]
    dataset.save_as(tmp_path / "12-bit.dcm")
    with started(timeout_s=60.0) as (worker, _):
        assert len(worker.embed((tmp_path / "12-bit.dcm",)).clips) == 1
    assert "JPEG" not in capfd.readouterr().err
