"""A process beside the node that answers questions: started, asked, limited in time, replaced.

Owns the pipe and what becomes of a process that is slow, dies or talks nonsense. Parent and child
speak JSON and raw bytes: a child that a hostile file took over can say nothing that its parent
would execute. Does not own what is asked (`worker`, `words.process`).
"""

import json
import signal
import threading
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from typing import Any, TypeVar

from dicom_node.errors import WorkerFailed, WorkerStopped, WorkerUnavailable
from dicom_node.receive.turns import Caller, Turns

_START_TIMEOUT_S = 120.0
_STOP_TIMEOUT_S = 5.0
# A reply is one vector and a few dozen UIDs per clip; more is a child gone mad.
REPLY_BYTES = 256 << 20
DATA = "data"  # in a request: raw bytes follow it
# What reading such a reply lets out.
_SENSELESS = (ValueError, TypeError, LookupError, AttributeError, RecursionError)

Answer = TypeVar("Answer")
Understand = Callable[[dict[str, Any], bytes], Answer]


class Child(ABC):
    """The parent's handle of one process, which answers one thread after the other.

    `what` names it in messages; every answer must come within `limit_s`. A process of which
    `failure` is said is replaced, but one that `lives_on` where it answered with an error.
    """

    def __init__(
        self,
        what: str,
        *,
        limit_s: float,
        failure: type[WorkerFailed] = WorkerFailed,
        lives_on: bool = False,
    ) -> None:
        self._what = what
        self._limit_s = limit_s
        self._failure = failure
        self._lives_on = lives_on
        self._process: BaseProcess | None = None
        self._connection: Connection | None = None
        self._interrupted = False
        self._turns = Turns()

    @abstractmethod
    def _launch(self) -> tuple[BaseProcess, Connection]:
        """Start the process; return it with our end of its pipe; raises `WorkerUnavailable`."""

    @abstractmethod
    def _restart(self) -> None:
        """Start the process again after it was lost, by `_start`."""

    def _ask(
        self,
        request: dict[str, object],
        understand: Understand[Answer],
        caller: Caller | None,
        data: bytes = b"",
    ) -> Answer:
        """Put one question to a living process; end it where no answer comes, or a senseless one.

        `data` goes after the request, if there is any; `understand` takes the two parts of an
        answer.
        """
        asked = request | {DATA: True} if data else request
        messages = [json.dumps(asked).encode(), *([data] if data else [])]
        limit_s = self._limit_s
        if caller is None:
            with self._turns.own():
                return self._ask_in_turn(messages, understand, limit_s)
        with self._turns.caller(caller.wait_s):
            return self._ask_in_turn(messages, understand, min(limit_s, caller.limit_s))

    def _ask_in_turn(
        self, messages: Sequence[bytes], understand: Understand[Answer], limit_s: float
    ) -> Answer:
        if self._process is None or not self._process.is_alive():
            self._restart()
        try:
            with self._conversation(limit_s) as connection:
                for message in messages:
                    connection.send_bytes(message)
                reply = json.loads(connection.recv_bytes(REPLY_BYTES))
                failed = reply.get("error")  # nothing follows it
                data = connection.recv_bytes(REPLY_BYTES) if failed is None else b""
            if failed is None:
                return understand(reply, data)
        except _SENSELESS as error:
            self.stop()
            reason = f"the {self._what} gave an answer without sense"
            raise self._failure(reason, lost=True) from error
        except BaseException:
            self.stop()
            raise
        if not self._lives_on:
            self.stop()
        raise self._failure(str(failed))

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

    def _start(self) -> dict[str, Any]:
        """Start the process in the place of the former one; return what it says of itself."""
        self.stop()
        if self._interrupted:
            raise WorkerStopped
        self._process, self._connection = self._launch()
        try:
            with self._conversation(_START_TIMEOUT_S) as connection:
                hello: dict[str, Any] = json.loads(connection.recv_bytes(REPLY_BYTES))
        except WorkerFailed as error:
            raise WorkerUnavailable(error.reason) from error
        if "error" in hello:
            self.stop()
            raise WorkerUnavailable(hello["error"])
        return hello

    @contextmanager
    def _conversation(self, timeout_s: float) -> Iterator[Connection]:
        """Lend the pipe for `timeout_s`, then kill the process at its other end.

        Nothing less ends a wait: it may take half of a question, or give half of an answer.
        """
        process, connection = self._process, self._connection
        if process is None or connection is None:
            raise self._failure(f"the {self._what} is not running", lost=True)
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
        return self._failure(f"the {self._what} {ended or f'died{because}'}", lost=True)
