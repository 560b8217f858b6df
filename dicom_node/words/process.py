"""The text process: it alone has the text space, so that the node stays free of torch.

A process of its own, since an embedding one may be at one series for minutes and a sentence takes
milliseconds. The sentence is in no message and no log.
"""

from collections.abc import Callable, Sequence
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import structlog
from numpy.typing import NDArray

from dicom_node.errors import WordsFailed, WorkerUnavailable
from dicom_node.receive.child import Child
from dicom_node.receive.launch import launch
from dicom_node.receive.turns import Caller
from encoder.errors import BadText
from encoder.lexicon import Understood
from index.vectors import Vectors

log = structlog.get_logger()

_T = TypeVar("_T")

_LIMIT_S = 60.0
_SENTENCE = Caller(wait_s=5.0, limit_s=10.0)


class TextProcess(Child):
    """The parent's handle of the text process: a `Words`, as that of `encoder.text_space`."""

    def __init__(self, folder: Path, *, memory_mb: int = 0) -> None:
        """Start it; raises `WorkerUnavailable` for a folder that holds no text space."""
        super().__init__("text process", limit_s=_LIMIT_S, failure=WordsFailed, lives_on=True)
        self._folder = folder
        self._memory_mb = memory_mb
        self._is_replaced = False
        said = self._start()
        self.space_id = str(said["space_id"])
        self.image_model_id = str(said["image_model_id"])
        self.name = str(said["name"])
        self.version = str(said["version"])
        self.dim = int(said["dim"])
        self.floor = float(said["floor"])
        self.near = float(said["near"])
        log.info("text_process_started", space=self.version)

    def texts(self, sentences: Sequence[str]) -> Vectors:
        """Turn sentences into unit rows (N, D).

        Raises `BadText`, `WorkerBusy` beside too many others, else as any `Child`.
        """
        request: dict[str, object] = {"texts": list(sentences)}
        return self._read(request, lambda _, data: _rows(data, len(sentences), self.dim))

    def understanding(self, sentence: str) -> Understood:
        """Say which words of a sentence were learned; raises as `texts`."""

        def understand(reply: dict[str, Any], _: bytes) -> Understood:
            words = {
                name: tuple(map(str, reply[name]))
                for name in ("known", "unknown", "negated", "elsewhere", "unlike")
            }
            together, unread = bool(reply["together"]), int(reply["unread"])
            return Understood(**words, together=together, unread=unread)

        return self._read({"understanding": sentence}, understand)

    def _read(
        self, request: dict[str, object], understand: Callable[[dict[str, Any], bytes], _T]
    ) -> _T:
        def told(reply: dict[str, Any], data: bytes) -> _T | BadText:
            return BadText(**reply["refused"]) if "refused" in reply else understand(reply, data)

        found = self._ask(request, told, _SENTENCE)
        if isinstance(found, BadText):
            raise found
        return found

    def images(self, vectors: Vectors, modalities: Sequence[str]) -> Vectors:
        """Turn vectors (N, C) of the image encoder into unit rows (N, D)."""
        if not len(vectors):
            return np.empty((0, self.dim), np.float32)
        request: dict[str, object] = {"images": list(modalities)}
        data = np.ascontiguousarray(vectors, np.float32).tobytes()
        return self._ask(request, lambda _, rows: _rows(rows, len(vectors), self.dim), None, data)

    def alike(self, cosines: NDArray[np.floating]) -> Vectors:
        """Turn cosines of text and image into those of two images that are as rare."""
        request: dict[str, object] = {"alike": np.asarray(cosines, float).tolist()}
        rows = self._ask(request, lambda _, data: _rows(data, len(cosines), 1), _SENTENCE)
        return rows[:, 0]

    def restart_from(self, folder: Path) -> None:
        """Start from another copy of the same space, when it has to be started again."""
        self._folder = folder

    def end(self) -> None:
        """Answer nothing more; from another thread than those that ask."""
        self.interrupt()
        with self._turns.own():
            self.stop()

    def _launch(self) -> tuple[BaseProcess, Connection]:
        return launch(_run, (self._folder, self._memory_mb), name="similis-words")

    def _restart(self) -> None:
        # A folder that holds another space is not looked into again: that takes seconds.
        self._is_replaced = self._is_replaced or self._start()["space_id"] != self.space_id
        if self._is_replaced:
            self.stop()
            raise WorkerUnavailable("the text space has been replaced; restart the node")


def _rows(data: bytes, count: int, dim: int) -> Vectors:
    return np.frombuffer(data, np.float32).reshape(count, dim)


def _run(connection: Connection, settings: tuple[Path, int]) -> None:
    """Become the child. Its module is imported here, so that the node itself is free of torch."""
    from dicom_node.words.serving import serve

    folder, memory_mb = settings
    serve(connection, folder, memory_mb=memory_mb)
