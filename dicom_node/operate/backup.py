"""A copy of a data folder as it is at one moment, while the node goes on.

First the catalogue, by SQLite's own online backup, then the files that this copy names: they were
on disk before their rows. What is there already is not copied again. The graph of the vectors is
left out: it is made of the catalogue's.
"""

import fcntl
import hashlib
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from dicom_node.config import Config
from dicom_node.data_folder import fsync_folder
from dicom_node.errors import BackupRefused
from dicom_node.generation import ENCODER_FILES
from dicom_node.operate.manifest import (
    FOLDERS,
    IDENTITY_FILE,
    MANIFEST_FILE,
    Manifest,
    belongs,
    catalogue_name,
    read_files,
    read_manifest,
    root_of,
    roots,
    write_files,
    write_manifest,
)
from dicom_node.parts import Parts, utc_now
from dicom_node.receive.spool import Spool
from dicom_node.words.kept import SPACE_FILES, kept_space
from index.catalogue import Catalogue
from index.db import connect, copy_database, newest_schema
from index.errors import DatabaseUnavailable

_ROUNDS = 3  # a study may be forgotten between its row and its files
_CHUNK = 1 << 20
_DRAFT = ".draft"

Advance = Callable[[int, int], None]


@dataclass(frozen=True, slots=True)
class BackedUp:
    """What a backup holds now; `missing` are files that the node itself lacks."""

    files: int
    copied: int
    removed: int
    missing: tuple[str, ...]
    catalogue: bool


def back_up(parts: Parts, target: Path, *, link: bool, advance: Advance) -> BackedUp:
    """Bring the backup in `target` up to date, making it at first; `advance` hears of the files.

    `link` makes hard links where that works. Raises `BackupRefused` for a folder that is none of
    ours, and when there is no room; then the former backup holds.
    """
    for root in roots(parts.config):
        _refuse_odd(root, target)
    try:
        return _back_up(parts, target, link=link, advance=advance)
    except (OSError, DatabaseUnavailable) as error:
        reason = getattr(error, "strerror", "") or str(error)
        raise BackupRefused(target, f"{reason}; what it held before, it holds") from error


def _back_up(parts: Parts, target: Path, *, link: bool, advance: Advance) -> BackedUp:
    target.mkdir(mode=0o700, parents=True, exist_ok=True)
    with _alone(target):
        copy = _Copy(parts.config, target, _known(target), link=link)
        for left in reversed(range(_ROUNDS)):
            named, catalogue = _snapshot(parts, target)
            missing = copy.all(named, advance)
            if not missing or not left:
                break
        files = {path: copy.sha256[path] for path in named if path in copy.sha256}
        if catalogue is not None:
            files[catalogue] = copy.hash(catalogue)
        name, sha256 = write_files(target, files)
        write_manifest(
            target,
            Manifest(
                complete=True,
                made_at=utc_now().isoformat(timespec="seconds"),
                schema=newest_schema(),
                catalogue=catalogue or "",
                files=name,
                sha256=sha256,
            ),
        )
        removed = _remove_all_but(target, {*files, name})
    return BackedUp(len(files), copy.copied, removed, tuple(missing), catalogue is not None)


class _Copy:
    """Copies files of a node to a backup; `sha256` is told of all that are there."""

    def __init__(self, config: Config, target: Path, known: dict[str, str], *, link: bool) -> None:
        self._config = config
        self._target = target
        self._known = known
        self._link = link
        self.sha256: dict[str, str] = {}
        self.copied = 0

    def all(self, paths: list[str], advance: Advance) -> list[str]:
        """Copy what is not there yet; return what the node lacks, of which an older copy stays."""
        missing = []
        for number, path in enumerate(paths, start=1):
            try:
                self._one(path)
            except FileNotFoundError:
                if self._source(path).exists():
                    raise
                if path in self._known and (self._target / path).exists():
                    self.sha256[path] = self._known[path]  # the only one there is now
                missing.append(path)
            advance(number, len(paths))
        for folder in sorted({(self._target / path).parent for path in self.sha256}):
            fsync_folder(folder)
        return missing

    def hash(self, path: str) -> str:
        """Return the SHA-256 of a file that was written here."""
        with (self._target / path).open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()

    def _source(self, path: str) -> Path:
        return root_of(path, self._config) / path

    def _one(self, path: str) -> None:
        source, target = self._source(path), self._target / path
        found = source.stat()
        if path in self._known and target.exists():
            there = target.stat()
            if (there.st_size, there.st_mtime_ns) == (found.st_size, found.st_mtime_ns):
                self.sha256[path] = self._known[path]
                return
        target.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        draft = target.with_name(target.name + _DRAFT)
        draft.unlink(missing_ok=True)
        self.sha256[path] = self._known[path] = self._linked(source, draft) or copy_hashed(
            source, draft
        )
        draft.replace(target)
        self.copied += 1

    def _linked(self, source: Path, draft: Path) -> str:
        """Link instead of copying; empty where that is not wanted or not possible."""
        if not self._link:
            return ""
        try:
            os.link(source, draft)
        except FileNotFoundError:
            raise
        except OSError:  # another file system, or one without links
            return ""
        with draft.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()


def copy_hashed(source: Path, target: Path) -> str:
    """Copy a file with its time, durably; return the SHA-256 of what was read."""
    digest = hashlib.sha256()
    with source.open("rb") as read, target.open("xb") as written:
        while part := read.read(_CHUNK):
            digest.update(part)
            written.write(part)
        written.flush()
        os.fsync(written.fileno())
    shutil.copystat(source, target)
    return digest.hexdigest()


def _refuse_odd(data: Path, target: Path) -> None:
    """Refuse a folder that lies in the data folder, holds it, or holds something else."""
    data, target = data.resolve(), target.resolve()
    if target == data or data in target.parents or target in data.parents:
        raise BackupRefused(target, "it must lie beside the data folder, not in or around it")
    if target.exists() and not target.is_dir():
        raise BackupRefused(target, "it is no folder")
    if target.is_dir() and any(target.iterdir()) and not (target / MANIFEST_FILE).exists():
        raise BackupRefused(target, "it is not empty, and no backup")


def _known(target: Path) -> dict[str, str]:
    """Return what the backup in `target` holds; begin one where there is none."""
    if not (target / MANIFEST_FILE).exists():
        write_manifest(target, Manifest(complete=False))
    manifest = read_manifest(target)
    return read_files(target, manifest) if manifest.complete else {}


@contextmanager
def _alone(target: Path) -> Iterator[None]:
    folder = os.open(target, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(folder, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(folder)
        raise BackupRefused(target, "another backup into it is under way") from None
    try:
        yield
    finally:
        os.close(folder)


def _snapshot(parts: Parts, target: Path) -> tuple[list[str], str | None]:
    """Copy the catalogue; return the files to go with it, and the copy's name, None on a server."""
    if parts.catalogue.engine.dialect.name != "sqlite":
        return list(_named(parts, parts.catalogue)), None
    draft = target / f"catalogue{_DRAFT}"
    draft.unlink(missing_ok=True)
    copy_database(parts.catalogue.engine, draft)
    engine = connect(f"sqlite:///{draft}")
    try:
        named = list(_named(parts, Catalogue(engine, utc_now)))
    finally:
        engine.dispose()
    with draft.open("rb") as file:
        os.fsync(file.fileno())
        name = catalogue_name(hashlib.file_digest(file, "sha256").hexdigest())
    draft.replace(target / name)
    return named, name


def _named(parts: Parts, catalogue: Catalogue) -> Iterator[str]:
    """Yield the files of a catalogue, by their paths in the data folder."""
    parts.folder.installation()  # made at first use
    yield IDENTITY_FILE
    spooled = Spool(parts.folder.spool).waiting()
    yield from (f"spool/{name}" for name in spooled)
    kept = {*spooled.values(), *(kept.relative_path for kept in catalogue.kept_files())}
    yield from sorted(f"store/{path}" for path in kept)
    yield from (f"reports/{name}" for name in catalogue.report_files())
    for generation in catalogue.generations():
        if (parts.folder.encoders / generation.model_id).is_dir():
            yield from (f"encoders/{generation.model_id}/{name}" for name in ENCODER_FILES)
        if (space := kept_space(parts.folder, generation.model_id)) is not None:
            within = space.relative_to(parts.folder.root)
            yield from (str(within / name) for name in SPACE_FILES)


def _remove_all_but(target: Path, kept: set[str]) -> int:
    """Remove what the backup no longer holds: what was forgotten is forgotten here too."""
    found = [path for folder in FOLDERS for path in (target / folder).rglob("*")]
    found += [path for path in target.iterdir() if belongs(path.name)]
    old = [p for p in found if p.is_file() and p.relative_to(target).as_posix() not in kept]
    for path in old:
        path.unlink()
    return len(old)
