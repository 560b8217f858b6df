"""What was kept while the database was away: notes of files whose rows are still to be made.

Owns `spool/` in the data folder. The object itself lies in the store by then; a note makes sure
that it is catalogued, in order of arrival, also after a restart. Making a row twice is harmless.
A note that cannot be followed is set aside as `*.refused`: under its old name it is tried again.
"""

import fcntl
import json
import os
import secrets
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path

import structlog

from dicom_node.data_folder import write_durably
from dicom_node.errors import ObjectRefused, OutOfResources
from index.records import Receipt

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Note:
    """A file in the store that has no row yet; `source` and `report` are those of its intake."""

    relative_path: str
    source: str
    report: bool


class _BadNote(Exception):
    """A file in the spool that holds no note."""


class Spool:
    """Notes in the order in which they were put; safe for many threads, and for two processes.

    Each process counts on from what it found: between two the order is not kept. Putting one and
    `standing` keep each other waiting, also between a node and a command.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._lock = threading.Lock()
        self._last: int | None = None  # number of the newest note; None before the first put

    def __bool__(self) -> bool:
        """Tell whether any wait."""
        with os.scandir(self._folder) as entries:
            return any(entry.name.endswith(".json") for entry in entries)

    def waiting(self) -> dict[str, str]:
        """Return the file that each note is of, by the note's own name."""
        found = {}
        for path in sorted(self._folder.glob("*.json")):
            with suppress(FileNotFoundError, _BadNote):  # its row was made meanwhile, or none will
                found[path.name] = _read(path).relative_path
        return found

    @contextmanager
    def standing(self) -> Iterator[set[str]]:
        """Lend the files that notes are of; until it is given back none is put."""
        with self._alone():
            yield set(self.waiting().values())

    def put(self, note: Note) -> Receipt:
        """Keep a note, durable when this returns; raises OutOfResources."""
        with self._alone():
            if self._last is None:
                numbers = (int(path.name[:12]) for path in self._folder.glob("*.json"))
                self._last = max(numbers, default=0)
            self._last += 1
            path = self._folder / f"{self._last:012}-{secrets.token_hex(4)}.json"
            try:
                write_durably(path, json.dumps(asdict(note)).encode())
            except OSError as error:
                raise OutOfResources(f"the spool cannot be written: {error.strerror}") from error
        return Receipt.NEW

    @contextmanager
    def _alone(self) -> Iterator[None]:
        """Keep the other threads and processes waiting that put notes or need them to stand.

        Raises OutOfResources.
        """
        with self._lock:
            try:
                folder = os.open(self._folder, os.O_RDONLY | os.O_DIRECTORY)
            except OSError as error:
                raise OutOfResources(f"the spool cannot be locked: {error.strerror}") from error
            try:
                fcntl.flock(folder, fcntl.LOCK_EX)
                yield
            finally:
                os.close(folder)

    def drain(self, take: Callable[[Note], object]) -> bool:
        """Let `take` make the rows, oldest first; tell whether there were any.

        What it refuses or cannot read is logged and its note set aside: the file stays in the
        store. When it raises anything else, or OutOfResources, the rest waits.
        """
        paths = sorted(self._folder.glob("*.json"))
        for path in paths:
            try:
                take(_read(path))
            except OutOfResources:
                raise
            except (ObjectRefused, OSError, _BadNote) as error:
                _set_aside(path, error)
            else:
                path.unlink(missing_ok=True)
        if paths:
            log.warning("spool_drained", objects=len(paths))
        return bool(paths)


def _read(path: Path) -> Note:
    try:
        return Note(**json.loads(path.read_bytes()))
    except (ValueError, TypeError) as error:
        raise _BadNote(f"it is no note: {error}") from error


def _set_aside(path: Path, error: Exception) -> None:
    """Let the notes behind this one through, and keep it: its object was acknowledged."""
    aside = path.with_suffix(".refused")
    with suppress(FileNotFoundError):  # another process was faster
        path.rename(aside)
        log.error("spooled_object_refused", note=aside.name, reason=str(error))
