"""The files: datasets exactly as they came, named by their own hash.

Owns `store/` in the data folder. A path is the SHA-256 of the dataset bytes and never anything a
peer sent, so a hostile UID cannot name a place; the same bytes sent twice are one file.
"""

import errno
import hashlib
import os
import shutil
import time
from collections.abc import Iterable, Sequence
from io import FileIO
from pathlib import Path

from pydicom.dataset import FileMetaDataset
from pynetdicom.dsutils import encode_file_meta

from dicom_node.data_folder import fsync_folder
from dicom_node.errors import ObjectRefused, OutOfResources
from dicom_node.receive.header import is_guest, is_guest_file, split_file
from index.records import StoredFile

PREAMBLE = b"\x00" * 128 + b"DICM"

# What the kernel says when there is no room: disk, quota, file size limit, read-only remount.
_NO_ROOM = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS})
_LEFTOVER_AGE_S = 3600.0
_SET_ASIDE = ".damaged"


class Store:
    """Writes and finds the kept files below one folder."""

    def __init__(self, folder: Path, *, minimum_free_bytes: int = 0) -> None:
        self.folder = folder
        self._incoming = folder / "incoming"
        self._minimum_free_bytes = minimum_free_bytes
        # Made at once and once, so that keeping a file never has to make a folder durable.
        for name in ("incoming", *(f"{n:02x}" for n in range(256))):
            (folder / name).mkdir(mode=0o700, parents=True, exist_ok=True)
        fsync_folder(folder)

    def sweep(self) -> int:
        """Remove what a crash left half written; return how many files.

        Young ones may belong to an import under way and stay.
        """
        leftovers = self.leftovers()
        for name in leftovers:
            self.path(name).unlink(missing_ok=True)
        return len(leftovers)

    def leftovers(self) -> list[str]:
        """Return what a crash left half written, by relative path."""
        before = time.time() - _LEFTOVER_AGE_S
        return [
            str(path.relative_to(self.folder))
            for path in self._incoming.iterdir()
            if path.stat().st_mtime < before
        ]

    def set_aside(self, relative_path: str) -> str:
        """Rename a damaged file, so that its place is free; return its new relative path."""
        path = self.path(relative_path)
        path.rename(path.with_suffix(_SET_ASIDE))
        fsync_folder(path.parent)
        return str(path.with_suffix(_SET_ASIDE).relative_to(self.folder))

    def files_set_aside(self) -> list[str]:
        """Return the damaged files that were set aside, by relative path."""
        aside = self.folder.glob(f"??/*{_SET_ASIDE}")
        return sorted(str(path.relative_to(self.folder)) for path in aside)

    def is_empty(self) -> bool:
        """Tell whether no file at all is kept, as where a volume is not mounted."""
        return next(self.folder.glob("??/*"), None) is None

    def path(self, stored: str) -> Path:
        """Return the absolute path of a catalogue row's relative path."""
        return self.folder / stored

    def erase(self, relative_paths: Iterable[str]) -> None:
        """Remove files, and those of the same name that were set aside; none need be there."""
        kept = [self.path(relative) for relative in relative_paths]
        named = [*kept, *(path.with_suffix(_SET_ASIDE) for path in kept)]
        folders = {path.parent for path in named if _unlink(path)}
        for folder in folders:
            fsync_folder(folder)

    def digest_of(self, relative_path: str) -> str:
        """Return the digest of a kept file as it is now; empty when it is damaged or gone."""
        try:
            with self.path(relative_path).open("rb") as file:
                meta, dataset = split_file(file)
        except (ObjectRefused, OSError):
            return ""
        return digest(dataset, meta)

    def write(self, dataset: bytes, meta: FileMetaDataset) -> StoredFile:
        """Keep `dataset` (encoded as its transfer syntax says), durable when this returns.

        The bytes after the file meta are the bytes that came. What was sent as a query and comes to
        be kept is written again, since its file says so. Raises `OutOfResources`.
        """
        sha256 = digest(dataset, meta)
        relative = f"{sha256[:2]}/{sha256}.dcm"
        stored = StoredFile(relative_path=relative, sha256=sha256, size_bytes=len(dataset))
        target = self.path(relative)
        try:
            if target.exists() and (is_guest(meta) or not is_guest_file(target)):
                fsync_folder(target.parent)  # a crash may have come between rename and fsync
            else:
                check_room(self.folder, len(dataset), self._minimum_free_bytes)
                self._write_durably(target, part10(dataset, meta))
        except OSError as error:
            if error.errno in _NO_ROOM:
                raise OutOfResources(f"the store is full: {error.strerror}") from error
            raise OutOfResources(f"the store cannot be written: {error.strerror}") from error
        return stored

    def _write_durably(self, target: Path, parts: Sequence[bytes]) -> None:
        """Write beside, fsync, rename, fsync the folder: all of it or nothing is there."""
        temporary = self._incoming / f"{target.name}.{os.urandom(4).hex()}"
        try:
            with temporary.open("xb", buffering=0) as file:
                for part in parts:
                    _write_all(file, part)
                os.fsync(file.fileno())
            temporary.replace(target)
        except OSError:
            temporary.unlink(missing_ok=True)
            raise
        fsync_folder(target.parent)


def check_room(folder: Path, size_bytes: int, minimum_free_bytes: int) -> None:
    """Raise `OutOfResources` where a file of this size would leave less than the minimum free."""
    free = shutil.disk_usage(folder).free
    if free - size_bytes < minimum_free_bytes:
        raise OutOfResources(f"only {free >> 20} MiB of disk are free")


def _write_all(file: FileIO, part: bytes) -> None:
    rest = memoryview(part)
    while rest:
        rest = rest[file.write(rest) or 0 :]


def _unlink(path: Path) -> bool:
    """Remove a file; False when there was none."""
    try:
        path.unlink()
    except FileNotFoundError:
        return False
    return True


def digest(dataset: bytes, meta: FileMetaDataset) -> str:
    """Return the name of a dataset: SHA-256 over its transfer syntax and its bytes, in hex."""
    return hashlib.sha256(meta.TransferSyntaxUID.encode() + b"\n" + dataset).hexdigest()


def part10(dataset: bytes, meta: FileMetaDataset) -> tuple[bytes, bytes, bytes]:
    """Return the three parts of a DICOM file: preamble, file meta, data set (PS3.10 7.1)."""
    return PREAMBLE, encode_file_meta(meta), dataset
