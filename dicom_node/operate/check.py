"""Do files, rows and vectors agree? And what can be done where they do not."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from dicom_node.errors import ObjectRefused
from dicom_node.parts import Parts, open_index
from dicom_node.receive.header import split_file
from dicom_node.receive.store import digest
from dicom_node.receive.worker import Model


class Trouble(StrEnum):
    """What can be wrong."""

    FILE_MISSING = "a row whose file is gone"
    FILE_DAMAGED = "a file that is not what was received"
    FILE_UNKNOWN = "a file without a row"
    SERIES_WITHOUT_VECTOR = "an indexed series without a vector of the current encoder"
    VECTORS_DIFFER = "vectors of the graph that are not those of the catalogue"


@dataclass(frozen=True, slots=True)
class Finding:
    """One disagreement: what is wrong, and with which file, series or count."""

    trouble: Trouble
    subject: str


def check(parts: Parts, model: Model, advance: Callable[[int], None]) -> Iterator[Finding]:
    """Compare files, rows and vectors; every kept file is read and hashed.

    `advance(n)` is told after every n files.
    """
    known = set()
    for kept in parts.catalogue.kept_files():
        known.add(kept.relative_path)
        trouble = _file_trouble(parts.store.path(kept.relative_path), kept.sha256)
        if trouble is not None:
            yield Finding(trouble, kept.relative_path)
        advance(1)
    for path in unknown_files(parts, known):
        yield Finding(Trouble.FILE_UNKNOWN, str(path.relative_to(parts.folder.store)))
    for series_id in parts.catalogue.series_lacking(model.model_id):
        series = parts.catalogue.series_files(series_id)
        yield Finding(Trouble.SERIES_WITHOUT_VECTOR, series.series_instance_uid)
    yield from _vector_findings(parts, model)


def repair(parts: Parts, finding: Finding) -> str:
    """Do what can be done about a finding; return it as a sentence.

    Nothing is deleted but the vector graph, which is a cache.
    """
    if finding.trouble is Trouble.FILE_UNKNOWN:
        return _take_in(parts, parts.folder.store / finding.subject)
    if finding.trouble is Trouble.SERIES_WITHOUT_VECTOR:
        return "`similis import` of the same files, or the running node, embeds it again"
    return "nothing: bring the file back from a backup, or ask the PACS to send it again"


def unknown_files(parts: Parts, known: set[str]) -> Iterator[Path]:
    """Yield the kept files that no row points to: a crash came between file and row."""
    for path in sorted(parts.folder.store.glob("??/*.dcm")):
        if str(path.relative_to(parts.folder.store)) not in known:
            yield path


def _take_in(parts: Parts, path: Path) -> str:
    try:
        with path.open("rb") as file:
            meta, dataset = split_file(file)
        parts.intake.take(dataset, meta, source="check")
    except ObjectRefused as error:
        return f"left alone: {error.reason}"
    return "taken in again"


def _file_trouble(path: Path, sha256: str) -> Trouble | None:
    try:
        with path.open("rb") as file:
            meta, dataset = split_file(file)
    except FileNotFoundError:
        return Trouble.FILE_MISSING
    except (ObjectRefused, OSError):
        return Trouble.FILE_DAMAGED
    return None if digest(dataset, meta) == sha256 else Trouble.FILE_DAMAGED


def _vector_findings(parts: Parts, model: Model) -> Iterator[Finding]:
    """Compare the graph, as a node would open it, with the rows it must hold."""
    index = open_index(parts, model, read_only=True)
    rows = set(parts.catalogue.embedding_ids(model.model_id).tolist())
    graph = set(index.ids().tolist())
    index.close()
    if rows != graph:
        subject = f"{len(rows - graph)} missing, {len(graph - rows)} too many"
        yield Finding(Trouble.VECTORS_DIFFER, subject)
