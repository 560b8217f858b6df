"""Do files, rows and vectors agree? And what can be done where they do not."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from dicom_node.errors import ObjectRefused
from dicom_node.parts import Parts, open_index
from dicom_node.receive.header import is_guest_file
from dicom_node.receive.worker import Model
from index.hnsw import HnswIndex
from index.jobs import JobKind
from index.vectors import VectorIndex


class Trouble(StrEnum):
    """What can be wrong."""

    FILE_MISSING = "a row whose file is gone"
    FILE_DAMAGED = "a file that is not what was received"
    FILE_UNKNOWN = "a whole file without a row"
    FILE_TORN = "a damaged file without a row"
    FILE_OF_GUEST = "a file without a row that was sent as a query"
    REPORT_MISSING = "a report whose file is gone"
    REPORT_UNKNOWN = "a file among the reports without a row"
    SERIES_WITHOUT_VECTOR = "an indexed series without a vector of the configured encoder"
    GRAPH_UNUSABLE = "a vector graph that the next start will build again"


@dataclass(frozen=True, slots=True)
class Finding:
    """One disagreement: what is wrong, with which file or series; `key` is the series' row."""

    trouble: Trouble
    subject: str
    key: int = 0


def check(parts: Parts, model: Model, advance: Callable[[int], None]) -> Iterator[Finding]:
    """Compare files, rows and vectors; every kept file is read and hashed.

    `advance(n)` is told after every n files.
    """
    known = set()
    for kept in parts.catalogue.kept_files():
        known.add(kept.relative_path)
        if not parts.store.path(kept.relative_path).exists():
            yield Finding(Trouble.FILE_MISSING, kept.relative_path)
        elif parts.store.digest_of(kept.relative_path) != kept.sha256:
            yield Finding(Trouble.FILE_DAMAGED, kept.relative_path)
        advance(1)
    yield from _unknown_files(parts, known)
    yield from _reports(parts)
    for series_id in parts.catalogue.series_lacking(model.model_id):
        uid = parts.catalogue.series_files(series_id).series_instance_uid
        yield Finding(Trouble.SERIES_WITHOUT_VECTOR, uid, series_id)
    index = open_index(parts, model, read_only=True)
    if len(index) and (reason := _why_unusable(index)):
        yield Finding(Trouble.GRAPH_UNUSABLE, reason)
    index.close()


def _why_unusable(index: VectorIndex) -> str:
    """Return why the graph does not serve; "" if it does."""
    return index.opened.rebuilt_because if isinstance(index, HnswIndex) else index.health()


def repair(parts: Parts, finding: Finding) -> str:
    """Do what can be done about a finding and return it as a sentence; nothing is deleted."""
    return _REPAIRS[finding.trouble](parts, finding)


def _unknown_files(parts: Parts, known: set[str]) -> Iterator[Finding]:
    """Yield the files that no row points to: a crash came between file and row."""
    for path in sorted(parts.folder.store.glob("??/*.dcm")):
        relative = str(path.relative_to(parts.folder.store))
        if relative not in known:
            whole = parts.store.digest_of(relative) == path.stem
            yield Finding(_kind_of(path) if whole else Trouble.FILE_TORN, relative)


def _kind_of(path: Path) -> Trouble:
    return Trouble.FILE_OF_GUEST if is_guest_file(path) else Trouble.FILE_UNKNOWN


def _reports(parts: Parts) -> Iterator[Finding]:
    """Yield where files and rows of reports differ."""
    reports = parts.folder.reports
    found = {path.name for path in reports.iterdir()}
    known = set(parts.catalogue.report_files())
    # Looked at twice: one that was being written has a row by now, one that was forgotten is gone.
    late = set(parts.catalogue.report_files())
    for name in sorted(found - known - late):
        if (reports / name).exists():
            yield Finding(Trouble.REPORT_UNKNOWN, name)
    for name in sorted(known & late - found):
        if not (reports / name).exists():
            yield Finding(Trouble.REPORT_MISSING, name)


def _bring_back(parts: Parts, finding: Finding) -> str:
    return "nothing: bring it back from a backup, or let the PACS send it again"


def _take_in(parts: Parts, finding: Finding) -> str:
    try:
        with parts.store.path(finding.subject).open("rb") as file:
            parts.intake.take_file(file, source="check")
    except ObjectRefused as error:
        return f"left alone: {error.reason}"
    return "taken in"


def _leave(parts: Parts, finding: Finding) -> str:
    return "nothing: no sender was told that it is kept, it may be deleted"


def _leave_guest(parts: Parts, finding: Finding) -> str:
    return "nothing: it was sent to be compared; `similis import` takes it in, if it is to be kept"


def _bring_report_back(parts: Parts, finding: Finding) -> str:
    return "nothing: bring it back from a backup"


def _leave_report(parts: Parts, finding: Finding) -> str:
    return "nothing: no report has it; where no node is running, it may be deleted"


def _embed_again(parts: Parts, finding: Finding) -> str:
    parts.jobs.enqueue(JobKind.EMBED, finding.key)
    return "queued: a running node, or the next `similis import`, embeds it"


def _wait(parts: Parts, finding: Finding) -> str:
    return "nothing to do: the catalogue holds the vectors"


_REPAIRS: dict[Trouble, Callable[[Parts, Finding], str]] = {
    Trouble.FILE_MISSING: _bring_back,
    Trouble.FILE_DAMAGED: _bring_back,
    Trouble.FILE_UNKNOWN: _take_in,
    Trouble.FILE_TORN: _leave,
    Trouble.FILE_OF_GUEST: _leave_guest,
    Trouble.REPORT_MISSING: _bring_report_back,
    Trouble.REPORT_UNKNOWN: _leave_report,
    Trouble.SERIES_WITHOUT_VECTOR: _embed_again,
    Trouble.GRAPH_UNUSABLE: _wait,
}
