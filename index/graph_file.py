"""The HNSW graph on disk: a cache beside the catalogue that may be thrown away at any time.

`<model_id>.json` names the one good graph file by its sha256; both are written beside and renamed,
so a crash at any moment leaves the old pair or the new one. hnswlib itself neither checks what it
loads (a flipped bit may crash the process) nor notices a full disk, hence the care here.
"""

from __future__ import annotations

import hashlib
import json
import os
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import hnswlib

from index.errors import IndexNotSaved
from index.vectors import Effort

FORMAT = 2
SPACE = "ip"  # unit vectors: the inner product is the cosine, and vectors stay as they are


@dataclass(frozen=True, slots=True, kw_only=True)
class GraphHeader:
    """What a graph file is: who made its vectors, how it was built, what it holds.

    `nodes` counts its elements, `deleted` are the labels that are marked so. `efforts` is how many
    nodes a search must ask for, by effort, as measured when `measured` vectors were there.
    """

    model_id: str
    dim: int
    m: int
    ef_construction: int
    nodes: int
    deleted: tuple[int, ...]
    efforts: dict[str, int]
    measured: int
    sha256: str = ""
    format: int = FORMAT
    space: str = SPACE

    def built_like(self, other: GraphHeader) -> bool:
        """Tell whether two graphs are of one kind, whatever they hold."""
        return _kind(self) == _kind(other)


def _kind(header: GraphHeader) -> tuple[Any, ...]:
    return (
        header.format,
        header.space,
        header.model_id,
        header.dim,
        header.m,
        header.ef_construction,
    )


class UnusableGraph(Exception):
    """The graph on disk cannot be trusted, for `reason`; it is to be rebuilt."""

    def __init__(self, reason: str) -> None:
        self.reason = reason
        super().__init__(reason)


def save_graph(folder: Path, graph: Any, header: GraphHeader) -> None:
    """Write a graph so that it is whole or not there; raises IndexNotSaved.

    The graph must not change meanwhile.
    """
    path, draft = _header_path(folder, header.model_id), folder / f"{header.model_id}.draft"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        _tidy(folder, header.model_id)
        graph.save_index(str(draft))
        # On a full disk hnswlib returns as if all were well.
        if draft.stat().st_size != graph.index_file_size():
            raise IndexNotSaved(path, "the disk is full")
        sha256 = _sha256(draft)
        _sync(draft)
        draft.replace(_graph_path(folder, header.model_id, sha256))
        text = json.dumps(asdict(header) | {"sha256": sha256}, indent=1)
        draft.write_text(text, encoding="utf-8")
        _sync(draft)
        draft.replace(path)
        _sync(folder)
    except (OSError, RuntimeError) as error:  # hnswlib raises RuntimeError
        raise IndexNotSaved(path, str(error)) from error
    finally:
        with suppress(OSError):  # tried again by the next save
            _tidy(folder, header.model_id)


def _tidy(folder: Path, model_id: str) -> None:
    """Remove what the header of a model does not name: old graphs, and half-written files."""
    try:
        header = _read_header(_header_path(folder, model_id))
        named = _graph_path(folder, model_id, header.sha256)
    except UnusableGraph:
        named = None
    for old in (folder / f"{model_id}.draft", *folder.glob(f"{model_id}-*.hnsw")):
        if old != named:
            old.unlink(missing_ok=True)


def load_graph(folder: Path, expected: GraphHeader) -> tuple[Any, GraphHeader]:
    """Return the graph in `folder` after checking every byte; raises UnusableGraph."""
    header = _read_header(_header_path(folder, expected.model_id))
    if not header.built_like(expected):
        raise UnusableGraph("it was made by another model or with other settings")
    path = _graph_path(folder, header.model_id, header.sha256)
    try:
        damaged = _sha256(path) != header.sha256
    except OSError as error:
        raise UnusableGraph(f"it cannot be read: {error.strerror}") from error
    if damaged:
        raise UnusableGraph("it is damaged: its checksum differs")
    graph = hnswlib.Index(SPACE, header.dim)
    try:
        graph.load_index(str(path), max_elements=max(header.nodes, 1))
    except RuntimeError as error:
        raise UnusableGraph(f"it cannot be loaded: {error}") from error
    if graph.get_current_count() != header.nodes:
        raise UnusableGraph("it holds another number of vectors than its header says")
    return graph, header


def saved_graph(folder: Path, model_id: str) -> os.stat_result | None:
    """Return size and age of a model's graph file; None where there is none."""
    try:
        header = _read_header(_header_path(folder, model_id))
        return _graph_path(folder, model_id, header.sha256).stat()
    except (UnusableGraph, OSError):
        return None


def _read_header(path: Path) -> GraphHeader:
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
        checked = {
            "deleted": tuple(map(int, values["deleted"])),
            "efforts": {str(Effort(key)): int(ef) for key, ef in values["efforts"].items()},
            "measured": int(values["measured"]),
        }
        return GraphHeader(**values | checked)
    except FileNotFoundError:
        raise UnusableGraph("there is none yet") from None
    except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
        raise UnusableGraph("its header cannot be read") from error


def _header_path(folder: Path, model_id: str) -> Path:
    return folder / f"{model_id}.json"


def _graph_path(folder: Path, model_id: str, sha256: str) -> Path:
    return folder / f"{model_id}-{sha256[:16]}.hnsw"


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _sync(path: Path) -> None:
    """Wait until a file, or the names in a folder, are on the disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
