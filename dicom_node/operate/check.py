"""Do files, rows, vectors and the graph agree? Only looks; `repair` does what can be done."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from dicom_node.config import Engine
from dicom_node.generation import answering_model, bring_encoder
from dicom_node.parts import Maker, Parts, open_index
from dicom_node.receive.header import is_guest_file
from dicom_node.receive.spool import Spool
from dicom_node.words.kept import kept_space, trouble_with
from index.hnsw import HnswIndex
from index.records import StoredFile
from index.repairs import Unfit
from index.vectors import VectorIndex


class Trouble(StrEnum):
    """What can be wrong."""

    FILE_MISSING = "a row whose file is gone"
    FILE_DAMAGED = "a file that is not what was received"
    FILE_UNKNOWN = "a whole file without a row"
    FILE_TORN = "a damaged file without a row"
    FILE_OF_GUEST = "a file without a row that was sent as a query"
    FILE_LEFT_OVER = "half of a file, left over by a crash"
    FILE_SET_ASIDE = "a damaged file that was set aside"
    REPORT_MISSING = "a report whose file is gone"
    REPORT_UNKNOWN = "a file among the reports without a row"
    SERIES_WITHOUT_VECTOR = "an indexed series without a vector of the encoder that answers"
    VECTOR_UNFIT = "a vector that cannot be compared with"
    VECTOR_STRAY = "vectors of no series"
    GRAPH_UNUSABLE = "a vector graph that has to be built again"
    ENCODER_MISSING = "an encoder that answers and is not kept"
    WORDS_UNANSWERED = "an encoder that answers and has no text space"


_GROUP_LENGTH_END = 144  # preamble, prefix, and the element (0002,0000) that counts the rest

# What is only told of: nothing is lost or wrong by it, and nothing but a person may change it.
HARMLESS = frozenset({Trouble.FILE_SET_ASIDE, Trouble.WORDS_UNANSWERED})


@dataclass(frozen=True, slots=True)
class Finding:
    """One disagreement: what is wrong, with which file, series or model.

    `subject` names it and nothing else, "" for several; `detail` says more. `key` is the series'
    row, `unfit` the vector's.
    """

    trouble: Trouble
    subject: str
    detail: str = ""
    key: int = 0
    unfit: Unfit | None = None


def check(parts: Parts, advance: Callable[[int], None], *, read: bool = False) -> Iterator[Finding]:
    """Compare files, rows, vectors and graph; with `read` every kept file is read and hashed.

    `advance(n)` is told after every n files.
    """
    makers = makers_of(parts)
    yield from _files(parts, advance, read=read)
    yield from _reports(parts)
    yield from _lacking(parts, makers[0])
    for maker in makers:
        yield from _vectors(parts, maker)
    if stray := parts.catalogue.stray_vectors():
        yield Finding(Trouble.VECTOR_STRAY, "", f"{len(stray)} vectors")
    for maker in makers:
        if maker is makers[0] or not _is_to_come(parts, maker):
            yield from _graph(parts, maker)
    generation = parts.catalogue.answering_generation()
    if generation is not None and not (parts.folder.encoders / generation.model_id).is_dir():
        model_id = generation.model_id
        yield Finding(Trouble.ENCODER_MISSING, model_id, bring_encoder(parts.folder, model_id))
    yield from _words(parts, makers[0])


def _files(parts: Parts, advance: Callable[[int], None], *, read: bool) -> Iterator[Finding]:
    """Yield where kept files and rows differ."""
    known = set()
    suspects: list[Finding] = []
    for kept in parts.catalogue.kept_files():
        known.add(kept.relative_path)
        if (trouble := _trouble_of(parts, kept, read=read)) is not None:
            suspects.append(Finding(trouble, kept.relative_path))
        advance(1)
    unknown = [
        str(path.relative_to(parts.folder.store))
        for path in sorted(parts.folder.store.glob("??/*.dcm"))
        if str(path.relative_to(parts.folder.store)) not in known
    ]
    # Looked at twice: one that was being written has a row by now, one that was forgotten has none.
    late: set[str] = set()
    if suspects or unknown:
        late = set(Spool(parts.folder.spool).waiting().values())  # before rows: it gets one
        late |= {kept.relative_path for kept in parts.catalogue.kept_files()}
    yield from (finding for finding in suspects if finding.subject in late)
    for relative in unknown:
        if relative not in late and parts.store.path(relative).exists():
            yield Finding(_kind_of(parts, relative), relative)
    yield from (Finding(Trouble.FILE_LEFT_OVER, name) for name in parts.store.leftovers())
    yield from (Finding(Trouble.FILE_SET_ASIDE, name) for name in parts.store.files_set_aside())


def _trouble_of(parts: Parts, kept: StoredFile, *, read: bool) -> Trouble | None:
    path = parts.store.path(kept.relative_path)
    try:
        damaged = path.stat().st_size != _before_data_set(path) + kept.size_bytes
    except FileNotFoundError:
        return Trouble.FILE_MISSING
    if read and not damaged:
        damaged = parts.store.digest_of(kept.relative_path) != kept.sha256
    return Trouble.FILE_DAMAGED if damaged else None


def _before_data_set(path: Path) -> int:
    """Read where the data set begins: after preamble and file meta (PS3.10 section 7.1)."""
    with path.open("rb") as file:
        head = file.read(_GROUP_LENGTH_END)
    return _GROUP_LENGTH_END + int.from_bytes(head[-4:], "little")


def _kind_of(parts: Parts, relative: str) -> Trouble:
    """Tell what a file is that no row points to: a crash came between file and row."""
    path = parts.store.path(relative)
    if parts.store.digest_of(relative) != path.stem:
        return Trouble.FILE_TORN
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


def makers_of(parts: Parts) -> list[Maker]:
    """Return whose vectors answer: the encoder's, and those of its text space if there is one."""
    space = parts.catalogue.answering_space()
    return [answering_model(parts), *([space] if space else [])]


def _lacking(parts: Parts, model: Maker) -> Iterator[Finding]:
    """Yield series that lack vectors; what the text space lacks is made at each start."""
    for series_id in parts.catalogue.series_lacking(model.model_id):
        uid = parts.catalogue.series_files(series_id).series_instance_uid
        yield Finding(Trouble.SERIES_WITHOUT_VECTOR, uid, key=series_id)


def _vectors(parts: Parts, maker: Maker) -> Iterator[Finding]:
    """Yield vectors that cannot serve."""
    for unfit in parts.catalogue.unfit_vectors(maker.model_id, maker.dim):
        uid, reason = unfit.series_instance_uid, unfit.reason
        yield Finding(Trouble.VECTOR_UNFIT, uid, reason, unfit=unfit)


def _graph(parts: Parts, maker: Maker) -> Iterator[Finding]:
    """Yield why the graph on disk cannot serve; what it only lacks is added at each start."""
    if next(parts.catalogue.unfit_vectors(maker.model_id, maker.dim), None) is not None:
        return  # they are put right first: no graph takes them
    index = open_index(parts, maker, read_only=True)
    reason, vectors = _why_unusable(index), len(index)
    index.close()
    if vectors and reason:
        yield Finding(Trouble.GRAPH_UNUSABLE, maker.model_id, reason)


def _words(parts: Parts, model: Maker) -> Iterator[Finding]:
    """Yield why cases are not searched by words, where they are meant to be."""
    text, model_id = parts.config.text, model.model_id
    trouble = trouble_with(parts.folder, text, model_id)
    if text.enabled and trouble and kept_space(parts.folder, model_id) is None:
        detail = f"{trouble}; where words are not wanted, set `text.enabled` to false"
        yield Finding(Trouble.WORDS_UNANSWERED, model_id, detail)


def _is_to_come(parts: Parts, space: Maker) -> bool:
    """Tell whether no node has saved the graph of a text space yet: commands only read it."""
    is_saved = any(parts.folder.vectors.glob(f"{space.model_id}*"))
    return parts.config.engine is Engine.HNSWLIB and not is_saved


def _why_unusable(index: VectorIndex) -> str:
    """Return why the graph does not serve; "" if it does."""
    return index.opened.rebuilt_because if isinstance(index, HnswIndex) else index.health()
