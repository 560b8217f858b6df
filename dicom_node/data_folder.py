"""The one folder everything lives in: where each thing is, who owns it, and its secret.

similis-data/
├── catalogue.sqlite     the catalogue, unless a database server holds it
├── store/               the kept files, named by their hash
├── vectors/             the HNSW graph: a cache of the catalogue
├── encoders/            the encoders whose vectors are kept, each named by its model id, with the
│                        text space that a node answered with
├── reports/             the Structured Reports
├── spool/               notes of objects kept while the database was away
├── uploads/             requests over HTTP while they are answered; emptied at start
├── installation.json    this installation's UID and the secret of its pseudonyms
├── node.lock            held by the process that embeds and answers
└── reindex.lock         held by the process that fills another generation of vectors
"""

import fcntl
import json
import os
import secrets
import shutil
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from dicom_node.errors import ConfigError, DataFolderBusy

_SECRET_BYTES = 32


@dataclass(frozen=True, slots=True)
class Installation:
    """What tells this installation from others; the secret never leaves the folder."""

    device_uid: str
    secret: bytes


class DataFolder:
    """Paths below `root`; creates the folders, readable by the owner only.

    Objects and reports lie below `kept`, where nodes that share a catalogue share them.
    """

    def __init__(self, root: Path, kept: Path) -> None:
        self.root = root.absolute()
        self.store = kept.absolute() / "store"
        self.reports = kept.absolute() / "reports"
        self.vectors = self.root / "vectors"
        self.spool = self.root / "spool"
        self.uploads = self.root / "uploads"
        self.encoders = self.root / "encoders"
        self._lock: IO[bytes] | None = None
        try:
            for folder in (self.root, *self._folders()):
                folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        except OSError as error:
            raise ConfigError("data", str(root), error.strerror or "cannot be created") from error

    def _folders(self) -> tuple[Path, ...]:
        return self.store, self.vectors, self.reports, self.spool, self.uploads, self.encoders

    def lock(self) -> None:
        """Become the one process that embeds and answers; raise `DataFolderBusy`."""
        self._lock = self._hold("node.lock", "a running node")

    def unlock(self) -> None:
        """Let another process take over."""
        if self._lock is not None:
            self._lock.close()
            self._lock = None

    @contextmanager
    def reindexing(self) -> Iterator[None]:
        """Be the one process that fills a generation; raise `DataFolderBusy`."""
        with self._hold("reindex.lock", "a running `similis reindex`"):
            yield

    def _hold(self, name: str, holder: str) -> IO[bytes]:
        file = (self.root / name).open("wb")
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            file.close()
            raise DataFolderBusy(self.root, holder) from error
        return file

    def installation(self) -> Installation:
        """Return this installation's identity, made at first use."""
        path = self.root / "installation.json"
        if not path.exists():
            identity = {
                "device_uid": f"2.25.{secrets.randbits(128)}",  # PS3.5 B.2
                "secret": secrets.token_hex(_SECRET_BYTES),
            }
            write_durably(path, json.dumps(identity, indent=2).encode() + b"\n")
        try:
            read = json.loads(path.read_bytes())
            return Installation(read["device_uid"], bytes.fromhex(read["secret"]))
        except (ValueError, KeyError, TypeError) as error:
            raise ConfigError("data", str(path), "is damaged; restore it from a backup") from error


def write_durably(path: Path, content: bytes) -> None:
    """Write a small file, for the owner only, so that a crash leaves the old one or the new one."""
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except OSError:
        temporary.unlink(missing_ok=True)
        raise
    fsync_folder(path.parent)


def keep_files(source: Path, names: Iterable[str], kept: Path) -> None:
    """Copy files of a folder into `kept`, unless that is there; whole or not at all."""
    if kept.is_dir():
        return
    draft = kept.with_name(f"{kept.name}.draft-{os.getpid()}")
    draft.mkdir(mode=0o700)
    try:
        for name in names:
            with (source / name).open("rb") as read, (draft / name).open("xb") as written:
                shutil.copyfileobj(read, written)
                written.flush()
                os.fsync(written.fileno())
        fsync_folder(draft)
        draft.rename(kept)
    finally:
        shutil.rmtree(draft, ignore_errors=True)
    fsync_folder(kept.parent)


def fsync_folder(folder: Path) -> None:
    """Make the names in `folder` durable."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
