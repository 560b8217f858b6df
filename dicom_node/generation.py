"""The generation of vectors that answers: its encoder, its index, and the change to another.

Which one it is says the catalogue; its encoder and text space are kept in the data folder, so that
the configured ones may go. A running node follows the catalogue: it opens the other index, answers
with it, then changes its embedding processes. Every answer is made with one `Answering` from end to
end.
"""

import filecmp
import re
import shutil
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from importlib.resources import files
from pathlib import Path

import structlog

from dicom_node.config import Encoding
from dicom_node.data_folder import DataFolder, keep_files
from dicom_node.errors import DataFolderBusy, WorkerUnavailable
from dicom_node.parts import Maker, Parts, configured_encoder, open_index
from dicom_node.receive.worker import Model, Worker
from dicom_node.words.processes import TextProcesses
from dicom_node.words.space import Words, WordSearch, row_of
from index.generation import GenerationRow, Made
from index.search import Search
from index.vectors import VectorIndex

log = structlog.get_logger()

ENCODER_FILES = ("checkpoint.json", "model.safetensors")
_WORKER_AGAIN_S = 60.0
# The encoder of a model, its graph and the header of that; not an encoder that is being copied.
_OF_MODEL = re.compile(r"[0-9a-f]{16}(?=$|\.json$|\.draft$|-)")


@dataclass(frozen=True, slots=True)
class Answering:
    """A generation, opened: whoever answers takes one of these and keeps to it.

    `words` is the text space of its vectors; None where there is none.
    """

    model: Model
    index: VectorIndex
    search: Search
    words: WordSearch | None = None

    @property
    def searches(self) -> tuple[tuple[VectorIndex, Search], ...]:
        """All that is searched."""
        words = self.words
        return (self.index, self.search), *([(words.index, words.search)] if words else [])


Current = Callable[[], Answering]


class Generation:
    """The generation that a running node answers with; `now` may be called from any thread."""

    def __init__(
        self, parts: Parts, workers: Sequence[Worker], texts: TextProcesses | None = None
    ) -> None:
        self._parts = parts
        self._workers = workers
        self._texts = texts
        self._worker_again_at = 0.0
        found = parts.catalogue.answering_generation()
        model = workers[0].model if found is None else model_of(found)
        self._answering = self._open(model)

    def now(self) -> Answering:
        """Return what to answer with."""
        return self._answering

    def follow(self) -> None:
        """Answer with the generation that the catalogue names, and delete what it dropped."""
        wanted = self._parts.catalogue.answering_generation()
        if wanted is None:
            return
        if wanted.model_id != self._answering.model.model_id:
            opened = self._answering = self._open(model_of(wanted))
            if self._texts is not None:
                self._texts.end_former()
            log.info("generation_changed", encoder=wanted.version, vectors=len(opened.index))
            self._worker_again_at = 0.0
        self._change_workers(wanted)
        delete_dropped(self._parts)

    def _open(self, model: Model) -> Answering:
        words = None if self._texts is None else self._texts.of(model.model_id)
        return open_answering(self._parts, model, words, background=True)

    def _change_workers(self, wanted: GenerationRow) -> None:
        """Let the workers embed with the encoder of a generation; one that cannot is told of."""
        wrong = [w for w in self._workers if w.model.model_id != wanted.model_id]
        if not wrong or time.monotonic() < self._worker_again_at:
            return
        self._worker_again_at = time.monotonic() + _WORKER_AGAIN_S
        for worker in wrong:
            try:
                worker.change(encoding_of(self._parts, wanted))
            except WorkerUnavailable as error:  # it is tried again
                log.error("worker_unavailable", reason=error.reason)
        warn_of_another_encoder(self._parts.folder, wanted, self._workers)


def start_workers(parts: Parts, number: int) -> list[Worker]:
    """Start embedding processes with the encoder whose vectors answer.

    In a new catalogue that is the configured one. Raises `WorkerUnavailable`.
    """
    found = parts.catalogue.answering_generation()
    workers: list[Worker] = []
    try:
        for _ in range(number):
            workers.append(Worker(encoding_of(parts, found)))
        if found is None:
            found = parts.catalogue.adopt_generation(made_by(workers[0].model))
        if workers[0].model.model_id == found.model_id:
            keep_encoder(parts.folder, found.model_id, source_of(parts.config.encoder))
            for worker in workers:
                worker.restart_from(encoding_of(parts, found))
    except BaseException:
        for worker in workers:
            worker.stop()
        raise
    warn_of_another_encoder(parts.folder, found, workers)
    _warn_of_configured(parts, found)
    return workers


def open_answering(
    parts: Parts,
    model: Model,
    words: Words | None = None,
    *,
    read_only: bool = False,
    background: bool = False,
) -> Answering:
    """Open the index of one model for answers, and that of a text space of this model.

    `background` as `open_index` has it.
    """
    images = _opened(parts, model, read_only=read_only, background=background)
    space = None
    if words is not None:
        opened = open_space(parts, words, read_only=read_only, background=background)
        space = replace(opened, images=images[0])
    return Answering(model, *images, space)


def open_space(
    parts: Parts, words: Words, *, read_only: bool = False, background: bool = False
) -> WordSearch:
    """Open the vectors in a text space for answers."""
    opened = _opened(parts, row_of(words), read_only=read_only, background=background)
    return WordSearch(words, *opened)


def _opened(
    parts: Parts, maker: Maker, *, read_only: bool, background: bool
) -> tuple[VectorIndex, Search]:
    index = open_index(parts, maker, read_only=read_only, background=background)
    search = Search(parts.catalogue, index)
    search.follow()
    return index, search


def answering_model(parts: Parts) -> Model:
    """Return whose vectors answer, without starting a worker; the configured encoder at first."""
    found = parts.catalogue.answering_generation()
    return configured_encoder(parts.config.encoder) if found is None else model_of(found)


def encoding_of(parts: Parts, generation: GenerationRow | None) -> Encoding:
    """Return how to run the encoder of a generation: the kept one, or the configured one."""
    kept = parts.folder.encoders / (generation.model_id if generation else "")
    if generation is None or not kept.is_dir():
        return parts.config.encoder
    return parts.config.encoder.model_copy(update={"checkpoint": str(kept)})


def source_of(encoding: Encoding) -> Path:
    """Return the folder of the configured encoder."""
    return Path(encoding.checkpoint or str(files("encoder") / "weights"))


def keep_encoder(folder: DataFolder, model_id: str, source: Path) -> None:
    """Copy an encoder into the data folder, unless it is there; whole or not at all."""
    keep_files(source, ENCODER_FILES, folder.encoders / model_id)


def delete_dropped(parts: Parts) -> None:
    """Delete the vectors of dropped generations, then the files of all that are not known.

    Another node may have dropped those, or one that was killed before it came to the files. The
    files wait while a generation is begun in this folder: it may be one of these again.
    """
    deleted = 0
    while some := parts.catalogue.delete_dropped():
        deleted += some
    if deleted:
        log.info("generations_deleted", rows=deleted)
    if unknown_files(parts):
        with suppress(DataFolderBusy), parts.folder.reindexing():
            delete_files(parts)


def delete_files(parts: Parts) -> None:
    """Delete the files of generations and spaces that are not known; `reindexing` must be held."""
    for path in unknown_files(parts):
        if path.is_dir():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)


def unknown_files(parts: Parts) -> list[Path]:
    """Return files and folders of generations and spaces that the catalogue does not know."""
    # Looked for before the rows are read: a generation or space has its row before it has files.
    found = [*parts.folder.encoders.iterdir(), *parts.folder.vectors.iterdir()]
    known = {row.model_id for row in parts.catalogue.generations()}
    known |= {space.space_id for space in parts.catalogue.spaces()}
    named = ((path, _OF_MODEL.match(path.name)) for path in found)
    return [path for path, of in named if of is not None and of[0] not in known]


def model_of(generation: Made) -> Model:
    """Return an encoder as the catalogue remembers it."""
    return Model(
        model_id=generation.model_id,
        name=generation.name,
        version=generation.version,
        trained=generation.trained,
        dim=generation.dim,
        device="",
        reason="",
    )


def made_by(model: Model) -> Made:
    """Return what the catalogue remembers of an encoder."""
    return Made(
        model_id=model.model_id,
        name=model.name,
        version=model.version,
        trained=model.trained,
        dim=model.dim,
    )


def warn_of_another_encoder(
    folder: DataFolder, generation: GenerationRow, workers: Sequence[Worker]
) -> None:
    """Say that nothing can be embedded, where the encoder of a generation is not to be had."""
    if any(worker.model.model_id != generation.model_id for worker in workers):
        log.error(
            "encoder_missing",
            answering=generation.version,
            found=workers[0].model.version,
            missing=str(folder.encoders / generation.model_id),
            advice=f"new series wait: {bring_encoder(folder, generation.model_id)}",
        )


def bring_encoder(folder: DataFolder, model_id: str) -> str:
    """Return what to do where the encoder of a generation is not kept."""
    return (
        f"copy {folder.encoders / model_id} from the data folder of another node that shares the "
        "catalogue, or from a backup; or run `similis reindex`, which embeds all with the "
        "configured encoder"
    )


def _warn_of_configured(parts: Parts, generation: GenerationRow) -> None:
    """Say that the configured encoder is not the one whose vectors answer."""
    kept, source = parts.folder.encoders / generation.model_id, source_of(parts.config.encoder)
    if not kept.is_dir() or not source.is_dir():
        return
    _, differing, unreadable = filecmp.cmpfiles(kept, source, ENCODER_FILES, shallow=False)
    if differing or unreadable:
        log.warning(
            "configured_encoder_unused",
            answering=generation.version,
            configured=str(source),
            advice="its vectors are not there yet: run `similis reindex` to change over to it",
        )
