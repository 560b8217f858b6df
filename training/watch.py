"""What a person sees of a run: lines of JSON, TensorBoard if it is installed, and a way to stop.

Owns: `Journal`. Does not own: the progress bar (the command line).
"""

import importlib
import json
import signal
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any, Self

from training.run import LOG_FILE

Show = Callable[[int, Mapping[str, float]], None]


class Silent:
    """For the processes that do not write: `stop` ends the run after a step."""

    def __init__(self) -> None:
        self._stop = threading.Event()

    def log(self, step: int, values: dict[str, float]) -> None:
        """Do nothing."""

    def stop(self) -> None:
        """Ask for the end after the step that runs."""
        self._stop.set()

    def stopping(self) -> bool:
        """Say whether the end was asked for."""
        return self._stop.is_set()


class Journal(Silent):
    """Writes each logged step to `log.jsonl` and, if it is installed, TensorBoard."""

    def __init__(self, folder: Path, *, peak: float, show: Show) -> None:
        """`peak` is what this machine could do, in FLOP/s: MFU is taken from it."""
        super().__init__()
        folder.mkdir(parents=True, exist_ok=True)
        self._peak = peak
        self._file = (folder / LOG_FILE).open("a", encoding="utf-8", buffering=1)
        self._board = _tensorboard(folder)
        self._show = show

    def log(self, step: int, values: dict[str, float]) -> None:
        """Write one line, one scalar for each value, and show it."""
        if "tflops" in values:
            values = {**values, "mfu": values["tflops"] * 1e12 / self._peak}
        rounded = {key: round(value, 6) for key, value in values.items()}
        self._file.write(json.dumps({"step": step, **rounded}) + "\n")
        if self._board is not None:
            for key, value in values.items():
                self._board.add_scalar(key, value, step)
        self._show(step, values)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self._file.close()
        if self._board is not None:
            self._board.close()


@contextmanager
def stopped_by_signals(watcher: Silent) -> Iterator[None]:
    """While inside, SIGTERM and Ctrl-C save and stop the run instead of killing it.

    Every process of a run needs it: one that dies takes the step of the others with it.
    """

    def stop(number: int, frame: FrameType | None) -> None:
        watcher.stop()

    before = {number: signal.signal(number, stop) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _tensorboard(folder: Path) -> Any:
    try:
        module = importlib.import_module("torch.utils.tensorboard")
    except ImportError:
        return None
    return module.SummaryWriter(str(folder))
