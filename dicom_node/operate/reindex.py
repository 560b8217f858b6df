"""Another encoder for everything that is kept: filled beside what answers, verified, swapped.

What has a vector by the new model is not embedded again, so that a run that was killed goes on
where it was. A running node goes on with the old vectors until the swap, and follows it by itself.
"""

import random
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from dicom_node.config import Encoding
from dicom_node.errors import DataFolderBusy, GenerationUnfit, NotKnown, WorkerFailed
from dicom_node.generation import delete_dropped, delete_files, keep_encoder, made_by, source_of
from dicom_node.parts import Parts, open_index
from dicom_node.receive.clips import Embedded
from dicom_node.receive.worker import Worker
from dicom_node.words.kept import kept_space
from index.errors import UnknownKey
from index.generation import Gap, GenerationRow, GenerationState
from index.records import SeriesFiles

_ATTEMPTS = 2  # a series that takes the worker down twice is left, with the reason
_SAMPLES = 8  # series that are embedded once more before the swap
_SAME = 0.999  # cosine of a clip with itself; threads and devices round otherwise

Advance = Callable[[int, int], None]


@dataclass(slots=True)
class Reindexed:
    """What a run did."""

    encoder: str
    former: str = ""  # the encoder that answered before, empty when it is the same
    embedded: int = 0  # series
    gaps: tuple[Gap, ...] = ()
    verified: int = 0  # clips embedded once more and found equal
    dropped: tuple[str, ...] = ()


class Reindex:
    """Fills one generation with one worker.

    `share` is the part of the time that it works, the rest is left to the node; `advance(done,
    total)` is told of the progress.
    """

    def __init__(
        self,
        parts: Parts,
        worker: Worker,
        *,
        share: float,
        advance: Advance,
        sleep: Callable[[float], None] = time.sleep,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._parts = parts
        self._catalogue = parts.catalogue
        self._worker = worker
        self._model_id = worker.model.model_id
        self._share = share
        self._advance = advance
        self._sleep = sleep
        self._clock = clock
        self._done = 0

    def run(self, source: Path) -> Reindexed:
        """Fill, verify and swap; `source` is the folder that the worker's encoder was read from.

        Raises `GenerationUnfit` when the new vectors do not hold; then the old ones go on.
        """
        catalogue, model = self._catalogue, self._worker.model
        former = catalogue.answering_generation()
        if former is None:
            catalogue.adopt_generation(made_by(model))
        catalogue.begin_generation(made_by(model))
        keep_encoder(self._parts.folder, self._model_id, source)
        catalogue.forget_gaps(self._model_id)  # another run may have had a worker without memory
        answers = former is None or former.model_id == self._model_id
        verified: int | None = None  # not yet
        while True:
            seen = self._fill()
            if answers:
                break
            if verified is None:
                self._build_graph()
                verified = self._verify()
            elif catalogue.swap_generation(self._model_id, seen):
                break
        return Reindexed(
            encoder=model.version,
            former="" if answers or former is None else former.version,
            embedded=self._done,
            gaps=catalogue.gaps(self._model_id),
            verified=verified or 0,
        )

    def _fill(self) -> int:
        """Embed until nothing is lacking; return up to which vector that was seen."""
        while True:
            lacking = self._catalogue.lacking_series(self._model_id)
            if not lacking.series_ids:
                return lacking.seen
            total = self._done + len(lacking.series_ids)
            for series_id in lacking.series_ids:
                started = self._clock()
                self._embed(series_id)
                self._done += 1
                self._advance(self._done, total)
                self._sleep((self._clock() - started) * (1.0 / self._share - 1.0))

    def _embed(self, series_id: int) -> None:
        try:
            series = self._catalogue.series_files(series_id)
            embedded, reason = self._clips_of(series)
            if embedded is not None and embedded.clips:
                self._catalogue.fill_clips(
                    series_id, series.revision, self._model_id, embedded.clips
                )
            if reason:
                self._catalogue.note_gap(self._model_id, series_id, series.revision, reason)
        except UnknownKey:
            return  # it was forgotten meanwhile

    def _clips_of(self, series: SeriesFiles) -> tuple[Embedded | None, str]:
        """Return what the worker makes of a series, and why that is not all of it."""
        paths = tuple(self._parts.store.path(file.relative_path) for file in series.files)
        if lost := sum(not path.exists() for path in paths):
            return None, f"{lost} of its {len(paths)} files are lost"
        reason = ""
        for _ in range(_ATTEMPTS):
            try:
                embedded = self._worker.embed(paths)
            except WorkerFailed as error:
                reason = error.reason
                continue
            faults = [fault.reason for fault in embedded.unreadable]
            if not embedded.clips:
                faults += [fault.reason for fault in embedded.skipped] or ["no files"]
            return embedded, faults[0] if faults else ""
        return None, reason

    def _build_graph(self) -> None:
        """Leave a graph for the node, which then opens it in a moment."""
        index = open_index(self._parts, self._worker.model)
        index.save()
        index.close()

    def _verify(self) -> int:
        """Compare the new vectors with the old ones in number, some with themselves; count."""
        model_id, dim = self._model_id, self._worker.model.dim
        for unfit in self._catalogue.unfit_vectors(model_id, dim):
            raise GenerationUnfit(model_id, f"{unfit.series_instance_uid}: {unfit.reason}")
        for uid in self._catalogue.incomplete_series(model_id):
            raise GenerationUnfit(model_id, f"{uid} has fewer vectors than before")
        embedded = self._catalogue.embedded_series(self._model_id)
        chosen = random.Random(0).sample(embedded, min(_SAMPLES, len(embedded)))
        return sum(map(self._compare, chosen))

    def _compare(self, series_id: int) -> int:
        try:
            series = self._catalogue.series_files(series_id)
        except UnknownKey:
            return 0
        kept = self._catalogue.series_vectors(series_id, self._model_id, series.revision)
        embedded, reason = self._clips_of(series)
        if not len(kept):
            return 0  # it changed since: it is filled in the next round
        made = embedded.clips if embedded is not None else ()
        if reason:  # its files were damaged or lost since
            with suppress(UnknownKey):  # or it was forgotten
                self._catalogue.note_gap(self._model_id, series_id, series.revision, reason)
            return 0
        if len(made) != len(kept):
            uid = series.series_instance_uid
            raise GenerationUnfit(self._model_id, f"{uid} gives another number of clips")
        cosines = (np.stack([clip.vector for clip in made]) * kept).sum(axis=1)
        if (cosines < _SAME).any():
            uid = series.series_instance_uid
            raise GenerationUnfit(self._model_id, f"{uid} gives other vectors than are kept")
        return len(kept)


def reindex(parts: Parts, encoder: Path | None, *, share: float, advance: Advance) -> Reindexed:
    """Fill, verify and swap in the vectors of an encoder, the configured one for None.

    Raises `DataFolderBusy` beside another run, `WorkerUnavailable` for a bad encoder, else as
    `Reindex.run`.
    """
    encoding = parts.config.encoder
    if encoder is not None:
        encoding = encoding.model_copy(update={"checkpoint": str(encoder)})
    with parts.folder.reindexing():
        return _run(parts, encoding, share=share, advance=advance)


def _run(parts: Parts, encoding: Encoding, *, share: float, advance: Advance) -> Reindexed:
    # One process beside those of the node, which share its cores.
    worker = Worker(encoding.model_copy(update={"workers": encoding.workers + 1}))
    try:
        run = Reindex(parts, worker, share=share, advance=advance)
        return run.run(source_of(encoding))
    finally:
        worker.stop()


def former_encoder(parts: Parts) -> tuple[GenerationRow, Path]:
    """Return the generation that answered before, and its encoder; raises `NotKnown`."""
    # FILLING after having answered: a way back that was interrupted.
    gone = (GenerationState.ANSWERING, GenerationState.DROPPED)
    answered = [
        (row.answered_at, row)
        for row in parts.catalogue.generations()
        if row.answered_at is not None and row.state not in gone
    ]
    _, former = max(answered, key=lambda pair: pair[0], default=(0.0, None))
    if former is None:
        raise NotKnown("generation", "before this one", "there is nothing to go back to")
    kept = parts.folder.encoders / former.model_id
    if not kept.is_dir():
        raise NotKnown("encoder", former.model_id, "bring it back from a backup")
    return former, kept


def drop_old(parts: Parts) -> tuple[str, ...]:
    """Delete all generations but the one that answers; a running node does it by itself.

    Of several text spaces of that one all but the newest go. Returns the ids of models and spaces.
    Raises `DataFolderBusy` beside a run that fills one.
    """
    with parts.folder.reindexing():
        dropped = (*parts.catalogue.drop_generations(), *_drop_spaces(parts))
        try:
            parts.folder.lock()
        except DataFolderBusy:
            return dropped
        try:
            delete_dropped(parts)
            delete_files(parts)
        finally:
            parts.folder.unlock()
        return dropped


def _drop_spaces(parts: Parts) -> tuple[str, ...]:
    """Delete the text spaces that a newer one of the same generation has replaced.

    Not the one that the node in this folder keeps: of nodes that share a catalogue each may have
    another.
    """
    catalogue = parts.catalogue
    used = catalogue.answering_space()
    if used is None:
        return ()
    kept = kept_space(parts.folder, used.image_model_id)
    replaced = [
        space.space_id
        for space in catalogue.spaces()
        if space.image_model_id == used.image_model_id
        and space.space_id not in (used.space_id, kept and kept.name)
    ]
    for space_id in replaced:
        while catalogue.delete_words(space_id):
            pass
    return tuple(replaced)
