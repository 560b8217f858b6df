"""The embedding process: decoding and the network run here, never in the node itself.

A worker is limited in time and memory, and replaced when it dies. Parent and child speak JSON and
raw float32 over a pipe: a worker that a hostile file took over can say nothing that its parent
would execute.
"""

import json
import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from itertools import accumulate, pairwise
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any, TypeVar

import structlog

from dicom_node.config import Encoding
from dicom_node.errors import WorkerFailed, WorkerStopped, WorkerUnavailable
from dicom_node.receive.clips import Embedded, Fault, Region, read_embedded
from dicom_node.receive.launch import launch
from dicom_node.receive.turns import Caller, Turns
from encoder.voi import Look
from index.parts import PartPlace

log = structlog.get_logger()

_START_TIMEOUT_S = 120.0
_STOP_TIMEOUT_S = 5.0
# A reply is one vector and a few dozen UIDs per clip; more is a worker gone mad.
REPLY_BYTES = 256 << 20
# What reading such a reply lets out.
_SENSELESS = (ValueError, TypeError, LookupError, AttributeError, RecursionError)

_Answer = TypeVar("_Answer")
_Understand = Callable[[dict[str, Any], bytes], _Answer]


@dataclass(frozen=True, slots=True)
class Model:
    """What a worker says about the encoder it runs."""

    model_id: str
    name: str
    version: str
    trained: bool
    dim: int
    device: str
    reason: str


@dataclass(frozen=True, slots=True)
class Contact:
    """A contact sheet as PNG, empty where nothing can be shown, and what it shows.

    `clips` are the fields of `encoder.sheet.Seen`; `more` counts clips that are not drawn.
    """

    png: bytes
    clips: tuple[dict[str, Any], ...]
    left_out: tuple[Fault, ...]
    more: int


@dataclass(frozen=True, slots=True)
class Thumbnail:
    """A small picture, RGB by rows; without `pixels` there is a `reason` why none is shown."""

    pixels: bytes
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Frames:
    """Some frames of an instance; without any there is a `reason`."""

    frames: tuple[bytes, ...]
    reason: str = ""


class Worker:
    """The parent's handle of one embedding process, which answers one thread after the other."""

    def __init__(self, encoding: Encoding) -> None:
        self._encoding = encoding
        self._process: BaseProcess | None = None
        self._connection: Connection | None = None
        self._interrupted = False
        self._turns = Turns()
        self.model = self._start()

    def embed(
        self, paths: tuple[Path, ...], *, region: Region | None = None, caller: Caller | None = None
    ) -> Embedded:
        """Return the clips of a series' files, or of a region of them.

        Raises `WorkerFailed` when the process is lost over them, `WorkerUnavailable` when none can
        be started, `WorkerBusy` when a `caller` has waited long enough. After any failure the
        process is a new one: no late answer can be taken for that of the next series.
        """
        question: dict[str, object] = {"embed": [str(path) for path in paths]}
        question["region"] = region and asdict(region)

        def understand(reply: dict[str, Any], data: bytes) -> Embedded:
            return read_embedded(reply, data, model_id=self.model.model_id, dim=self.model.dim)

        return self._ask(question, understand, caller)

    def show(self, series: Sequence[Sequence[Path]]) -> Contact:
        """Draw what the encoder sees of some series, each given as its files; raises as `embed`."""
        return self._ask(
            {"show": [[str(path) for path in paths] for paths in series]}, _contact, None
        )

    def thumbnail(
        self,
        path: Path,
        side_px: int,
        *,
        of_another: bool,
        part: PartPlace | None = None,
        caller: Caller | None = None,
    ) -> Thumbnail:
        """Return the middle frame of an instance, `side_px` wide and high; raises as `embed`.

        Or the frame of a `part`, with a box drawn around it. Of another patient nothing is shown
        into which a name may be burnt.
        """
        pixels = side_px * side_px * 3

        def understand(reply: dict[str, Any], data: bytes) -> Thumbnail:
            if len(data) != (0 if reply["reason"] else pixels):
                raise ValueError("a picture of another size")
            return Thumbnail(data, str(reply["reason"]))

        question = {
            "thumbnail": str(path),
            "side_px": side_px,
            "of_another": of_another,
            "part": part and asdict(part),
        }
        return self._ask(question, understand, caller)

    def frames(
        self, path: Path, numbers: Sequence[int], *, decoded: bool, caller: Caller | None = None
    ) -> Frames:
        """Return the bytes of some frames of an instance, counted from 1; raises as `embed`."""
        question = {"frames": str(path), "numbers": list(numbers), "decoded": decoded}
        return self._ask(question, _frames, caller)

    def render(
        self, path: Path, numbers: Sequence[int], look: Look, *, caller: Caller | None = None
    ) -> Frames:
        """Return some frames of an instance as files of pictures; raises as `embed`."""
        question: dict[str, object] = {
            "render": str(path),
            "numbers": list(numbers),
            "look": asdict(look),
        }
        return self._ask(question, _frames, caller)

    def _ask(
        self, request: dict[str, object], understand: _Understand[_Answer], caller: Caller | None
    ) -> _Answer:
        """Put one question to a living process; end it where no answer comes, or a senseless one.

        `understand` takes the two parts of an answer.
        """
        limit_s = self._encoding.timeout_s
        if caller is None:
            with self._turns.own():
                return self._ask_in_turn(request, understand, limit_s)
        with self._turns.caller(caller.wait_s):
            return self._ask_in_turn(request, understand, min(limit_s, caller.limit_s))

    def _ask_in_turn(
        self, request: dict[str, object], understand: _Understand[_Answer], limit_s: float
    ) -> _Answer:
        if self._process is None or not self._process.is_alive():
            self._restart()
        try:
            with self._conversation(limit_s) as connection:
                connection.send_bytes(json.dumps(request).encode())
                reply = json.loads(connection.recv_bytes(REPLY_BYTES))
                if "error" in reply:
                    raise WorkerFailed(reply["error"])
                data = connection.recv_bytes(REPLY_BYTES)
            return understand(reply, data)
        except _SENSELESS as error:
            self.stop()
            raise WorkerFailed("the embedding process gave an answer without sense") from error
        except BaseException:
            self.stop()
            raise

    def change(self, encoding: Encoding) -> None:
        """Run another encoder from now on; raises `WorkerUnavailable`, and runs the same, then."""
        with self._turns.own():
            former = self._encoding
            self._encoding = encoding
            try:
                self.model = self._start()
            except BaseException:
                self._encoding = former
                raise

    def restart_from(self, encoding: Encoding) -> None:
        """Start from another copy of the same encoder, when it has to be started again."""
        self._encoding = encoding

    def interrupt(self) -> None:
        """End what the process does, from another thread: `embed` raises `WorkerStopped`."""
        self._interrupted = True
        process = self._process
        if process is not None:
            with suppress(ValueError):  # it ended by itself just now
                process.terminate()

    def stop(self) -> None:
        """End the process, by force when it does not go; not while `embed` runs."""
        process, connection = self._process, self._connection
        self._process = self._connection = None
        if connection is not None:
            connection.close()
        if process is None:
            return
        process.terminate()
        process.join(_STOP_TIMEOUT_S)
        if process.is_alive():
            process.kill()
            process.join()
        process.close()

    def _restart(self) -> None:
        """Start the process again; the vectors of one node must all be of one model."""
        model = self._start()
        if model.model_id != self.model.model_id:
            self.stop()
            raise WorkerUnavailable("the checkpoint has been replaced; restart the node")

    def _start(self) -> Model:
        self.stop()
        if self._interrupted:
            raise WorkerStopped
        process, self._connection = launch(_run, self._encoding)
        self._process = process
        try:
            with self._conversation(_START_TIMEOUT_S) as connection:
                hello = json.loads(connection.recv_bytes(REPLY_BYTES))
        except WorkerFailed as error:
            raise WorkerUnavailable(error.reason) from error
        if "error" in hello:
            self.stop()
            raise WorkerUnavailable(hello["error"])
        model = Model(**hello)
        log.info("worker_started", pid=process.pid, **asdict(model))
        return model

    @contextmanager
    def _conversation(self, timeout_s: float) -> Iterator[Connection]:
        """Lend the pipe for `timeout_s`, then kill the process at its other end.

        Nothing less ends a wait: it may take half of a question, or give half of an answer.
        """
        process, connection = self._process, self._connection
        if process is None or connection is None:
            raise WorkerFailed("the embedding process is not running")
        late = threading.Event()

        def end() -> None:
            late.set()
            process.kill()

        timer = threading.Timer(timeout_s, end)
        timer.start()
        try:
            try:
                yield connection
            finally:
                timer.cancel()
                timer.join()
                if late.is_set():  # the next question must not meet a dying process
                    process.join()
        except (EOFError, OSError) as error:
            ended = f"took longer than {timeout_s:g} s and was ended" if late.is_set() else ""
            raise self._lost(ended) from error

    def _lost(self, ended: str) -> WorkerFailed | WorkerStopped:
        process = self._process
        if process is not None:
            process.join(0.2)
        code = process.exitcode if process is not None else None
        self.stop()
        if self._interrupted:
            return WorkerStopped()
        because = f" (signal {signal.Signals(-code).name})" if code and code < 0 else ""
        return WorkerFailed(f"the embedding process {ended or f'died{because}'}")


def _contact(reply: dict[str, Any], png: bytes) -> Contact:
    left_out = tuple(Fault(**fault) for fault in reply["left_out"])
    return Contact(png, tuple(reply["clips"]), left_out, reply["more"])


def _frames(reply: dict[str, Any], data: bytes) -> Frames:
    ends = list(accumulate(reply["lengths"]))
    if len(data) != (ends[-1] if ends else 0) or sorted(ends) != ends:
        raise ValueError("frames of another length")
    frames = (data[start:end] for start, end in pairwise([0, *ends]))
    return Frames(tuple(frames), str(reply["reason"]))


def _run(connection: Connection, encoding: Encoding) -> None:
    """Become the child. Its module is imported here, so that the node itself is free of torch."""
    from dicom_node.receive.embedding import serve

    serve(connection, encoding)
