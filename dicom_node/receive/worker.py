"""The embedding process: decoding and the network run here, never in the node itself.

A worker is spawned (never forked: torch and SimpleITK threads do not survive a fork), limited in
time and memory, and replaced when it dies. Parent and child speak JSON and raw float32 over a
pipe: a worker that a hostile file took over can say nothing that its parent would execute.
"""

import json
import multiprocessing
import os
import resource
import signal
from dataclasses import asdict, dataclass
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import numpy as np
import structlog
from numpy.typing import NDArray

from dicom_node.config import Encoding
from dicom_node.errors import WorkerFailed, WorkerStopped
from index.records import ClipRecord

log = structlog.get_logger()

_START_TIMEOUT_S = 120.0
_STOP_TIMEOUT_S = 5.0
# A reply is one vector and a few dozen UIDs per clip; more is a worker gone mad.
_REPLY_BYTES = 256 << 20


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
class Fault:
    """An instance that gave no clip, and why: skipped by its SOP class, or unreadable."""

    sop_instance_uid: str
    reason: str


@dataclass(frozen=True, slots=True)
class Embedded:
    """What became of the files of a series."""

    clips: tuple[ClipRecord, ...]
    skipped: tuple[Fault, ...]
    unreadable: tuple[Fault, ...]


class Worker:
    """The parent's handle of one embedding process; used by one thread at a time."""

    def __init__(self, encoding: Encoding) -> None:
        self._encoding = encoding
        self._process: BaseProcess | None = None
        self._connection: Connection | None = None
        self._interrupted = False
        self.model = self._start()

    def embed(self, paths: tuple[Path, ...]) -> Embedded:
        """Return the clips of a series' files; raise `WorkerFailed` when the process is lost."""
        if self._process is None or not self._process.is_alive():
            self._start()
        self._send([str(path) for path in paths])
        reply = self._receive(self._encoding.timeout_s)
        if "error" in reply:
            raise WorkerFailed(reply["error"])
        vectors = np.frombuffer(self._receive_bytes(self._encoding.timeout_s), np.float32)
        rows = vectors.reshape(-1, self.model.dim)
        return Embedded(
            clips=tuple(
                ClipRecord(clip["kind"], clip["frames"], tuple(clip["sources"]), row)
                for clip, row in zip(reply["clips"], rows, strict=True)
            ),
            skipped=tuple(Fault(**fault) for fault in reply["skipped"]),
            unreadable=tuple(Fault(**fault) for fault in reply["unreadable"]),
        )

    def interrupt(self) -> None:
        """End what the process does, from another thread: `embed` raises `WorkerStopped`."""
        self._interrupted = True
        process = self._process
        if process is not None:
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

    def _start(self) -> Model:
        self.stop()
        if self._interrupted:
            raise WorkerStopped
        context = multiprocessing.get_context("spawn")
        parent, child = context.Pipe()
        process = context.Process(
            target=run, args=(child, self._encoding), name="similis-worker", daemon=True
        )
        process.start()
        child.close()
        self._process, self._connection = process, parent
        hello = self._receive(_START_TIMEOUT_S)
        if "error" in hello:
            self.stop()
            raise WorkerFailed(hello["error"])
        model = Model(**hello)
        log.info("worker_started", pid=process.pid, **asdict(model))
        return model

    def _send(self, message: object) -> None:
        try:
            self._pipe().send_bytes(json.dumps(message).encode())
        except OSError as error:
            raise self._lost("went away") from error

    def _receive(self, timeout_s: float) -> dict[str, Any]:
        reply: dict[str, Any] = json.loads(self._receive_bytes(timeout_s))
        return reply

    def _receive_bytes(self, timeout_s: float) -> bytes:
        connection = self._pipe()
        try:
            if not connection.poll(timeout_s):
                raise self._lost(f"took longer than {timeout_s:g} s and was ended")
            return connection.recv_bytes(_REPLY_BYTES)
        except (EOFError, OSError) as error:
            raise self._lost("died") from error

    def _pipe(self) -> Connection:
        if self._connection is None:
            raise WorkerFailed("the embedding process is not running")
        return self._connection

    def _lost(self, how: str) -> WorkerFailed | WorkerStopped:
        process = self._process
        if process is not None:
            process.join(0.2)
        code = process.exitcode if process is not None else None
        self.stop()
        if self._interrupted:
            return WorkerStopped()
        because = f" (signal {signal.Signals(-code).name})" if code and code < 0 else ""
        return WorkerFailed(f"the embedding process {how}{because}")


def run(connection: Connection, encoding: Encoding) -> None:
    """Serve one parent until it closes the pipe. This is the child's whole life."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's to handle
    if encoding.memory_mb:
        limit = encoding.memory_mb << 20
        resource.setrlimit(resource.RLIMIT_DATA, (limit, limit))
    # Imported here: the node itself stays free of torch.
    from encoder import checkpoint
    from encoder.embedder import Embedder
    from encoder.errors import EncoderError

    try:
        folder = Path(encoding.checkpoint) if encoding.checkpoint else None
        threads = encoding.threads or max(1, (os.cpu_count() or 1) // encoding.workers)
        embedder = Embedder(checkpoint.load(folder), device=encoding.device, threads=threads)
    except EncoderError as error:
        connection.send_bytes(json.dumps({"error": str(error)}).encode())
        return
    connection.send_bytes(json.dumps(asdict(_describe(embedder))).encode())
    while True:
        try:
            paths = json.loads(connection.recv_bytes())
        except (EOFError, OSError):
            return
        reply, vectors = _embed(embedder, [Path(path) for path in paths])
        connection.send_bytes(json.dumps(reply).encode())
        if "error" not in reply:
            connection.send_bytes(vectors.tobytes())


def _describe(embedder: Any) -> Model:
    return Model(
        model_id=embedder.model_id,
        name=embedder.name,
        version=embedder.version,
        trained=embedder.trained,
        dim=embedder.dim,
        device=f"{embedder.choice.device} {embedder.choice.dtype}",
        reason=embedder.choice.reason,
    )


def _embed(embedder: Any, paths: list[Path]) -> tuple[dict[str, Any], NDArray[np.float32]]:
    """Run steps 6 to 10 of the route; whatever goes wrong is an answer, not an end."""
    from encoder.errors import UnreadableImage
    from encoder.pixels import read
    from encoder.series import assemble

    try:
        assembly = assemble(paths)
        clips, unreadable = [], []
        for group in assembly.groups:
            try:
                clips.append(read(group))
            except UnreadableImage as error:
                unreadable.append(asdict(Fault(error.sop_instance_uid, error.reason)))
        vectors = embedder.embed(clips)
    except Exception as error:
        return {"error": f"{type(error).__name__}: {error}"}, np.empty(0, np.float32)
    reply = {
        "clips": [
            {"kind": clip.kind, "frames": clip.array.shape[1], "sources": clip.sources}
            for clip in clips
        ],
        "skipped": [asdict(Fault(s.sop_instance_uid, s.reason)) for s in assembly.skipped],
        "unreadable": unreadable,
    }
    return reply, vectors
