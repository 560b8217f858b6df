"""Takes files in as if they had been pushed, and embeds what waits when no node is running."""

import time
from collections import Counter, defaultdict
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from dicom_node.config import Lifecycle
from dicom_node.errors import DataFolderBusy, NotUnderstood, ObjectRefused, OutOfResources
from dicom_node.generation import Generation, start_workers
from dicom_node.operate.sources import LeftOut, Source
from dicom_node.parts import Parts
from dicom_node.pipeline import EmbedStep
from dicom_node.receive.lifecycle import close_what_is_quiet
from dicom_node.runner import Runner
from index.jobs import JobKind, Jobs
from index.records import Receipt
from index.states import State

_EMBED = (JobKind.EMBED,)
_OWN_REPORT = "own report"
# A running node need not wait long for the rest of a series: it lies in the same folder.
QUICK = Lifecycle(series_quiet_s=10.0, study_quiet_s=20.0, quiet_s_by_modality={})

# A pause after a failure is shorter; where another installation holds a job, a lease is minutes.
_UNSAID_S, _LOOK_EVERY_S = 5.0, 1.0

Settled = Callable[[State, str], None]
Waiting = Callable[[float], None]


@dataclass(slots=True)
class Tally:
    """What became of the files, and of the series that were embedded in the same run."""

    receipts: Counter[str] = field(default_factory=Counter)
    left_out: dict[str, list[str]] = field(default_factory=lambda: defaultdict(list))
    series: dict[State, Counter[str]] = field(default_factory=lambda: defaultdict(Counter))

    @property
    def kept(self) -> int:
        """Files that the catalogue now has, known before or not."""
        return self.receipts.total()

    @property
    def seen(self) -> int:
        """All files, and members of archives, that were met."""
        return self.kept + sum(len(names) for names in self.left_out.values())

    def settled(self, state: State, reason: str) -> None:
        """Count a series that was indexed, passed over or quarantined."""
        self.series[state][reason] += 1

    def files(self) -> dict[str, Any]:
        """Return the files by what became of them; those skipped by reason, with their names."""
        return {
            "accepted": {key: self.receipts[key] for key in (Receipt.NEW, Receipt.REPLACED)},
            "duplicates": self.receipts[Receipt.DUPLICATE],
            "own_reports": self.receipts[_OWN_REPORT],
            "skipped": dict(sorted(self.left_out.items())),
        }

    def outcomes(self) -> dict[str, Any]:
        """Return the series by what became of them; those put aside by reason."""
        return {
            "indexed": self.series[State.INDEXED].total(),
            "nothing_to_embed": dict(self.series[State.SKIPPED].most_common()),
            "quarantined": dict(self.series[State.QUARANTINED].most_common()),
        }


def take_in(parts: Parts, found: Source | LeftOut, tally: Tally, *, report: bool) -> None:
    """Take one file in and count what became of it; raise `OutOfResources` when nothing fits."""
    if isinstance(found, LeftOut):
        tally.left_out[found.reason].append(found.name)
        return
    try:
        receipt = parts.intake.take_file(found.stream, source="import", report=report)
    except OutOfResources:
        raise
    except NotUnderstood as error:
        tally.left_out[error.reason].append(found.name)
    except ObjectRefused as error:
        tally.left_out[f"refused: {error.reason}"].append(found.name)
    except OSError as error:
        tally.left_out[error.strerror or "cannot be read"].append(found.name)
    else:
        tally.receipts[_OWN_REPORT if receipt is None else receipt] += 1


def embed_waiting(
    parts: Parts, advance: Callable[[int, int], None], *, settled: Settled, waiting: Waiting
) -> bool:
    """Embed everything that waits, timers aside; False when a running node will do it.

    `advance(done, total)` is told of the progress, `settled` of every series, `waiting` of the
    seconds for which nothing can be done.
    """
    try:
        parts.folder.lock()
    except DataFolderBusy:
        return False
    try:
        parts.jobs.release(parts.name)
        parts.intake.make_up()
        close_what_is_quiet(parts.catalogue, force=True)
        total = parts.jobs.pending(_EMBED)
        if total:
            _embed(parts, total, advance, settled=settled, waiting=waiting)
    finally:
        parts.folder.unlock()
    return True


def _embed(
    parts: Parts,
    total: int,
    advance: Callable[[int, int], None],
    *,
    settled: Settled,
    waiting: Waiting,
) -> None:
    (worker,) = start_workers(parts, 1)
    try:
        generation = Generation(parts, [worker])
        step = EmbedStep(
            worker,
            catalogue=parts.catalogue,
            store=parts.store,
            current=generation.now,
            timeout_s=parts.config.encoder.timeout_s,
            settled=settled,
        )
        runner = Runner(parts.jobs, parts.name)
        while remaining := parts.jobs.pending(_EMBED):
            advance(total - remaining, total)
            if not runner.next(step):
                _wait(parts.jobs, waiting)
        advance(total, total)
        close_what_is_quiet(parts.catalogue, force=True)
        index = generation.now().index
        index.save()
        index.close()
    finally:
        worker.stop()


def _wait(jobs: Jobs, waiting: Waiting) -> None:
    """Wait until a job is due or none is left: one that failed, or that another process holds."""
    due_s = jobs.next_due_s(_EMBED)
    if due_s is not None and due_s > _UNSAID_S:
        waiting(due_s)
    while due_s:
        time.sleep(min(due_s, _LOOK_EVERY_S))
        due_s = jobs.next_due_s(_EMBED)
