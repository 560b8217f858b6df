"""What an import finds: files below folders, and members of zip archives.

Owns the walk and the archives. Only regular files are opened, nothing is unpacked to disk, and no
name in an archive is ever used as a path. Does not own what is DICOM (`receive.header`).
"""

import stat
import struct
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path, PureWindowsPath
from typing import IO, BinaryIO
from zipfile import ZIP_DEFLATED, ZIP_STORED, BadZipFile, ZipFile, ZipInfo

# PS3.10 7.1: 128 bytes of preamble, then this. A preamble may be anything, even that of a zip file.
_HEAD_BYTES, _PREFIX = 132, b"DICM"
_ZIP_BEGINS = (b"PK\x03\x04", b"PK\x05\x06")
_LOCAL_HEADER_BYTES = 30
# No other method can be read in bounded memory: zipfile inflates bzip2 and LZMA without a limit.
_METHODS = frozenset({ZIP_STORED, ZIP_DEFLATED})
# Images of one grey value shrink to a 1000th as well, but are small.
_BOMB_RATIO, _BOMB_BYTES = 200, 64 << 20
_ENCRYPTED = 0x1

# Everything that zipfile lets out on a damaged archive.
_ZIP_ERRORS = (
    BadZipFile, EOFError, OSError, ValueError, struct.error, zlib.error, RuntimeError,
    LookupError, OverflowError,
)  # fmt: skip

ARCHIVED = "in a damaged zip file"
NESTED = "a zip file in a zip file; unpack it first"
OVERLAPPING = "a zip file whose members overlap, as in a zip bomb"
TOO_LARGE = "larger than storage.maximum_object_mb"


@dataclass(frozen=True, slots=True)
class Source:
    """Something that may be DICOM: read it before the next one is asked for."""

    name: str
    stream: BinaryIO


@dataclass(frozen=True, slots=True)
class LeftOut:
    """Something that is not even looked into, and why."""

    name: str
    reason: str


def files_below(paths: Sequence[Path], *, data: Path | None = None) -> Iterator[Path | LeftOut]:
    """Yield the regular files named and those in the folders named, in a stable order.

    Links to files are followed. Links to folders are not, unless named: they may lead in circles.
    The data folder itself is left out.
    """
    own = data.resolve() if data is not None else None
    waiting = list(reversed(paths))
    while waiting:
        path = waiting.pop()
        try:
            mode = path.stat().st_mode
            if stat.S_ISREG(mode):
                yield path
            elif not stat.S_ISDIR(mode):
                yield LeftOut(str(path), "not a regular file")
            elif path.is_symlink() and path not in paths:
                yield LeftOut(str(path), "a link to a folder; name the folder to take it in")
            elif path.resolve() == own:
                yield LeftOut(str(path), "the data folder itself")
            else:
                waiting += sorted(path.iterdir(), reverse=True)
        except OSError as error:
            yield LeftOut(str(path), _said(error))


def sources(path: Path, *, largest_bytes: int) -> Iterator[Source | LeftOut]:
    """Yield a file itself, or each member of a zip archive as `archive.zip!member`.

    A member is in memory while it is read; what is no DICOM is not read beyond its first bytes.
    """
    try:
        with path.open("rb") as file:
            head = file.read(_HEAD_BYTES)
            file.seek(0)
            if _is_zip(head):
                yield from _members(path, file, largest_bytes)
            elif _is_dicom(head) and path.stat().st_size > largest_bytes:
                yield LeftOut(str(path), TOO_LARGE)
            else:
                yield Source(str(path), file)
    except OSError as error:
        yield LeftOut(str(path), _said(error))


def _members(path: Path, file: IO[bytes], largest_bytes: int) -> Iterator[Source | LeftOut]:
    try:
        with ZipFile(file) as archive:
            members = [member for member in archive.infolist() if not member.is_dir()]
            if _overlap(archive, members):
                yield LeftOut(str(path), OVERLAPPING)
                return
            for member in members:
                name = f"{path}!{member.filename}"
                if reason := _why_not(member, largest_bytes):
                    yield LeftOut(name, reason)
                else:
                    yield _member(archive, member, name)
    except _ZIP_ERRORS:
        yield LeftOut(str(path), "a damaged zip file")


def _member(archive: ZipFile, member: ZipInfo, name: str) -> Source | LeftOut:
    try:
        with archive.open(member) as stream:
            head = stream.read(_HEAD_BYTES)
            if _is_zip(head):
                return LeftOut(name, NESTED)
            # With a count, for without one zipfile inflates 2 GiB before it looks at the size.
            rest = stream.read(member.file_size) if _is_dicom(head) else b""
            return Source(name, BytesIO(head + rest))
    except _ZIP_ERRORS:
        return LeftOut(name, ARCHIVED)


def _why_not(member: ZipInfo, largest_bytes: int) -> str:
    """Return why a member is not read, from what the archive says about it."""
    path = PureWindowsPath(member.filename)  # knows both kinds of separators
    size, packed = member.file_size, member.compress_size
    reasons = {
        "an encrypted member of a zip file": member.flag_bits & _ENCRYPTED,
        "packed in a way that is not read here": member.compress_type not in _METHODS,
        "a name that leads out of its zip file": path.anchor or ".." in path.parts,
        "grows like a zip bomb": size > _BOMB_BYTES and size > _BOMB_RATIO * packed,
        TOO_LARGE: size > largest_bytes,
    }
    return next((reason for reason, holds in reasons.items() if holds), "")


def _overlap(archive: ZipFile, members: Sequence[ZipInfo]) -> bool:
    """Tell whether members share bytes: such an archive can unpack to more than any disk holds."""
    starts = sorted((each.header_offset, each.compress_size) for each in members)
    ends = [*(start for start, _ in starts[1:]), archive.start_dir]
    return any(
        start + _LOCAL_HEADER_BYTES + packed > end
        for (start, packed), end in zip(starts, ends, strict=False)  # no members, one end
    )


def _is_dicom(head: bytes) -> bool:
    return head.endswith(_PREFIX) and len(head) == _HEAD_BYTES


def _is_zip(head: bytes) -> bool:
    return head.startswith(_ZIP_BEGINS) and not _is_dicom(head)


def _said(error: OSError) -> str:
    return error.strerror or "cannot be read"
