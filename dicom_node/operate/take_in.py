"""Takes files in as if they had been pushed, and embeds what waits when no node is running."""

import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from dicom_node.config import Lifecycle
from dicom_node.errors import DataFolderBusy, NotUnderstood, ObjectRefused, OutOfResources
from dicom_node.parts import Parts, open_index
from dicom_node.pipeline import EmbedStep
from dicom_node.receive.lifecycle import close_what_is_quiet
from dicom_node.receive.worker import Worker
from dicom_node.runner import Runner
from index.jobs import JobKind

_EMBED = (JobKind.EMBED,)
# A running node need not wait long for the rest of a series: it lies in the same folder.
QUICK = Lifecycle(series_quiet_s=10.0, study_quiet_s=20.0, quiet_s_by_modality={})


@dataclass(slots=True)
class Tally:
    """What became of the files: how many by receipt, and which were left out, by reason."""

    receipts: Counter[str] = field(default_factory=Counter)
    left_out: dict[str, list[str]] = field(default_factory=lambda: defaultdict(list))

    @property
    def kept(self) -> int:
        """Files that the catalogue now has, known before or not."""
        return self.receipts.total()


def files_below(paths: Sequence[Path]) -> Iterator[Path]:
    """Yield the files named and those in the folders named, in a stable order."""
    for path in paths:
        if path.is_dir():
            yield from sorted(p for p in path.rglob("*") if p.is_file())
        else:
            yield path


def take_in(parts: Parts, path: Path, tally: Tally) -> None:
    """Take one file in and count what became of it; raise `OutOfResources` when nothing fits."""
    try:
        receipt = parts.intake.take_file(path, source="import")
    except OutOfResources:
        raise
    except NotUnderstood as error:
        tally.left_out[error.reason].append(str(path))
    except ObjectRefused as error:
        tally.left_out[f"refused: {error.reason}"].append(str(path))
    except OSError as error:
        tally.left_out[error.strerror or "cannot be read"].append(str(path))
    else:
        tally.receipts["own report" if receipt is None else receipt] += 1


def embed_waiting(parts: Parts, advance: Callable[[int, int], None]) -> bool:
    """Embed everything that waits, timers aside; False when a running node will do it.

    `advance(done, total)` is told of the progress.
    """
    try:
        parts.folder.lock()
    except DataFolderBusy:
        return False
    try:
        parts.jobs.release(parts.name)
        close_what_is_quiet(parts.catalogue, force=True)
        total = parts.jobs.pending(_EMBED)
        if total:
            _embed(parts, total, advance)
    finally:
        parts.folder.unlock()
    return True


def _embed(parts: Parts, total: int, advance: Callable[[int, int], None]) -> None:
    worker = Worker(parts.config.encoder)
    try:
        index = open_index(parts, worker.model)
        step = EmbedStep(
            worker,
            catalogue=parts.catalogue,
            store=parts.store,
            index=index,
            timeout_s=parts.config.encoder.timeout_s,
        )
        runner = Runner(parts.jobs, parts.name)
        while remaining := parts.jobs.pending(_EMBED):
            advance(total - remaining, total)
            if not runner.next(step):  # one that failed waits to be tried again
                time.sleep(parts.jobs.next_due_s(_EMBED) or 0.0)
        advance(total, total)
        close_what_is_quiet(parts.catalogue, force=True)
        index.save()
        index.close()
    finally:
        worker.stop()
