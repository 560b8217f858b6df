"""The parent's side of a worker: whatever its process does, it costs one limit and one process."""

import os
import resource
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager
from multiprocessing import forkserver
from pathlib import Path

import hostile_workers
import peers
import pytest
from pydicom import dcmread
from pydicom.uid import MRImageStorage

from dicom_node.config import Encoding
from dicom_node.errors import WorkerBusy, WorkerFailed, WorkerUnavailable
from dicom_node.receive import worker as worker_module
from dicom_node.receive.turns import MAXIMUM_CALLERS, Caller, Turns
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


def test_a_worker_starts_though_the_socket_of_the_server_to_fork_from_is_gone(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(worker_module, "_run", hostile_workers.parrot)
    with started(timeout_s=20.0):
        socket = Path(forkserver._forkserver._forkserver_address)
    away = socket.rename(socket.with_suffix(".away"))
    try:
        for _ in range(2):
            with started(timeout_s=20.0) as (worker, _):
                embedded = worker.embed((Path('{"clips": [], "skipped": [], "unreadable": []}'),))
                assert embedded.clips == ()
    finally:
        away.rename(socket)


def test_a_worker_that_cannot_be_started_is_nobodys_fault(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(worker_module, "_run", hostile_workers.parrot)
    with started(timeout_s=20.0) as (worker, _):
        worker.stop()
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (3, hard))
        try:
            with pytest.raises(WorkerUnavailable, match="Too many open files"):
                worker.embed((Path("file"),))
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        assert worker.embed((Path('{"clips": [], "skipped": [], "unreadable": []}'),)).clips == ()


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


def test_the_nodes_own_work_goes_before_what_callers_ask() -> None:
    turns = Turns()
    order: list[str] = []

    def take(turn: AbstractContextManager[None], name: str) -> None:
        with turn:
            order.append(name)

    with ThreadPoolExecutor(8) as pool:
        with turns.own():
            callers = [pool.submit(take, turns.caller(20.0), "caller") for _ in range(3)]
            peers.wait_for("the callers", lambda: turns.waiting_callers == 3)
            own = [pool.submit(take, turns.own(), "own") for _ in range(3)]
            peers.wait_for("the others", lambda: turns.waiting_own == 3)
        for each in (*callers, *own):
            each.result(20)

    assert order == ["own"] * 3 + ["caller"] * 3


def test_a_caller_is_put_off_when_its_turn_does_not_come_or_too_many_wait() -> None:
    turns = Turns()
    with turns.own():
        started = time.monotonic()
        with pytest.raises(WorkerBusy), turns.caller(0.2):
            pytest.fail("it has the turn")
        assert time.monotonic() - started < 5
        with ThreadPoolExecutor(MAXIMUM_CALLERS) as pool:
            waiting = [pool.submit(turns.caller(2.0).__enter__) for _ in range(MAXIMUM_CALLERS)]
            peers.wait_for("the callers", lambda: turns.waiting_callers == MAXIMUM_CALLERS)
            with pytest.raises(WorkerBusy), turns.caller(60.0):
                pytest.fail("there is room for it")
            assert all(isinstance(each.exception(20), WorkerBusy) for each in waiting)
    with turns.caller(0.2):
        assert turns.waiting_callers == 0


def test_a_picture_for_a_caller_has_a_limit_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(worker_module, "_run", hostile_workers.stalling)
    with started(timeout_s=60.0) as (worker, _):
        start = time.monotonic()
        with pytest.raises(WorkerFailed, match=r"took longer than 0\.5 s and was ended"):
            worker.thumbnail(Path("file"), 64, of_another=False, caller=Caller(1.0, limit_s=0.5))
        assert time.monotonic() - start < 10
