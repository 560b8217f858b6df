"""The embedding process: decoding and the network run here, never in the node itself.

A worker is limited in time and memory, and replaced when it dies (`child`).
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from itertools import accumulate, pairwise
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import structlog

from dicom_node.config import Encoding
from dicom_node.errors import WorkerUnavailable
from dicom_node.receive.child import Child
from dicom_node.receive.clips import Embedded, Fault, Region, read_embedded
from dicom_node.receive.launch import launch
from dicom_node.receive.turns import Caller
from encoder.voi import Look
from index.parts import PartPlace

log = structlog.get_logger()


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


class Worker(Child):
    """The parent's handle of one embedding process, which answers one thread after the other."""

    def __init__(self, encoding: Encoding) -> None:
        super().__init__("embedding process", limit_s=encoding.timeout_s)
        self._encoding = encoding
        self.model = self._describe()

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

    def change(self, encoding: Encoding) -> None:
        """Run another encoder from now on; raises `WorkerUnavailable`, and runs the same, then."""
        with self._turns.own():
            former = self._encoding
            self._encoding = encoding
            try:
                self.model = self._describe()
            except BaseException:
                self._encoding = former
                raise

    def restart_from(self, encoding: Encoding) -> None:
        """Start from another copy of the same encoder, when it has to be started again."""
        self._encoding = encoding

    def _restart(self) -> None:
        """Start the process again; the vectors of one node must all be of one model."""
        model = self._describe()
        if model.model_id != self.model.model_id:
            self.stop()
            raise WorkerUnavailable("the checkpoint has been replaced; restart the node")

    def _launch(self) -> tuple[BaseProcess, Connection]:
        return launch(_run, self._encoding, name="similis-embed")

    def _describe(self) -> Model:
        model = Model(**self._start())
        log.info("worker_started", pid=self._process and self._process.pid, **asdict(model))
        return model


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
