"""Threads that repeat a step: they outlive its errors and end when told."""

import threading
import time
from pathlib import Path

import pytest
from peers import wait_for

from dicom_node import loops
from dicom_node.log import fault_of
from index.errors import DatabaseUnavailable


@pytest.fixture(autouse=True)
def _short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loops, "_AFTER_FAULT_S", 0.01)


@pytest.mark.parametrize("error", [ValueError("oops"), DatabaseUnavailable("sqlite://", "locked")])
def test_a_thread_outlives_the_errors_of_its_step(error: Exception) -> None:
    calls = []

    def step() -> bool:
        calls.append(1)
        raise error

    running = loops.Loops()
    running.repeat("faulty", step)

    wait_for("a third try", lambda: len(calls) >= 3)
    running.stop()
    running.join(5)


def test_work_found_by_one_is_news_to_the_others() -> None:
    found, woken = threading.Event(), threading.Event()
    running = loops.Loops()
    asleep = threading.Event()

    def sleeper() -> bool:
        if found.is_set():
            woken.set()
        asleep.set()
        return False

    running.repeat("sleeper", sleeper)
    asleep.wait(5)
    running.repeat("finder", lambda: not found.is_set() and (found.set() or True))

    assert woken.wait(5)
    running.stop()
    running.join(5)


def test_a_timed_step_keeps_its_time_whatever_the_others_find() -> None:
    calls = []
    running = loops.Loops()
    running.every("slow", 0.5, lambda: calls.append(1))
    running.repeat("busy", lambda: True)

    time.sleep(0.3)
    running.stop()
    running.join(5)

    assert calls == []


def test_stopping_does_not_wait_for_the_next_look() -> None:
    running = loops.Loops()
    running.every("hourly", 3600, lambda: None)
    running.repeat("idle", lambda: False)
    started = time.monotonic()

    running.stop()
    running.join(5)

    assert time.monotonic() - started < 1


def test_a_fault_is_named_without_the_text_of_the_error() -> None:
    try:
        raise ValueError("Doe^John is no valid name")
    except ValueError as error:
        fault = fault_of(error)

    assert fault.startswith(f"ValueError at {Path(__file__).name}:")
    assert "Doe" not in fault
