"""What a backup says of itself: the form of its folder, and every file with its SHA-256.

`manifest.json` names a list of files in the form of sha256sum, so that `sha256sum -c` checks a
backup without Similis. It is renamed into place last: until then the former backup holds.
"""

import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path, PurePosixPath

from dicom_node.config import Config
from dicom_node.data_folder import write_durably
from dicom_node.errors import BackupRefused

FORMAT = 1
MANIFEST_FILE = "manifest.json"
IDENTITY_FILE = "installation.json"
FOLDERS = ("store", "reports", "encoders", "spool")
_SHARED = ("store", "reports")  # they lie where `storage.folder` says
_LIST, _CATALOGUE = "files-", "catalogue-"
_SUFFIX = {_LIST: ".sha256", _CATALOGUE: ".sqlite"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Manifest:
    """A backup; without `catalogue` the database is on a server and backed up there.

    `files` names the list of files, which its name and `sha256` prove; `complete` is False until
    a first backup has come to its end.
    """

    format: int = FORMAT
    complete: bool
    made_at: str = ""
    schema: str = ""
    catalogue: str = ""
    files: str = ""
    sha256: str = ""


def read_manifest(folder: Path) -> Manifest:
    """Read what a backup is; raises `BackupRefused`."""
    try:
        said = json.loads((folder / MANIFEST_FILE).read_bytes())
        found = said["format"]
    except FileNotFoundError:
        raise BackupRefused(folder, "it is no backup: it has no manifest.json") from None
    except (ValueError, KeyError, TypeError) as error:
        raise BackupRefused(folder, "its manifest.json cannot be read") from error
    if found != FORMAT:
        reason = f"it has format {found}, this version reads {FORMAT}; use the one that wrote it"
        raise BackupRefused(folder, reason)
    try:
        return Manifest(**said)
    except TypeError as error:
        raise BackupRefused(folder, "its manifest.json cannot be read") from error


def write_manifest(folder: Path, manifest: Manifest) -> None:
    """Make the backup be this one from now on."""
    text = json.dumps(asdict(manifest), indent=2)
    write_durably(folder / MANIFEST_FILE, text.encode() + b"\n")


def read_files(folder: Path, manifest: Manifest) -> dict[str, str]:
    """Return the SHA-256 of each file by its relative path; raises `BackupRefused`."""
    try:
        content = (folder / manifest.files).read_bytes()
    except OSError as error:
        raise BackupRefused(folder, f"{manifest.files}: {error.strerror}") from error
    if hashlib.sha256(content).hexdigest() != manifest.sha256:
        raise BackupRefused(folder, f"{manifest.files} is damaged: its checksum differs")
    return dict(_parsed(folder, content.decode()))


def write_files(folder: Path, files: Mapping[str, str]) -> tuple[str, str]:
    """Write the list of files; return its name and its SHA-256."""
    lines = (f"{sha256}  {path}\n" for path, sha256 in sorted(files.items()))
    content = "".join(lines).encode()
    sha256 = hashlib.sha256(content).hexdigest()
    name = list_name(sha256)
    write_durably(folder / name, content)
    return name, sha256


def list_name(sha256: str) -> str:
    """Return what a list of files is called."""
    return f"{_LIST}{sha256[:16]}{_SUFFIX[_LIST]}"


def catalogue_name(sha256: str) -> str:
    """Return what a copy of the catalogue is called."""
    return f"{_CATALOGUE}{sha256[:16]}{_SUFFIX[_CATALOGUE]}"


def belongs(path: str) -> bool:
    """Tell whether a relative path is one that a backup may hold, which never leads out of it."""
    parts = PurePosixPath(path).parts
    if len(parts) == 1:
        return path == IDENTITY_FILE or any(
            path.startswith(kind) and path.endswith(suffix) for kind, suffix in _SUFFIX.items()
        )
    return len(parts) <= 5 and parts[0] in FOLDERS and ".." not in parts


def roots(config: Config) -> tuple[Path, ...]:
    """Return the folders that a backup is of, each once."""
    return tuple(sorted({config.data.absolute(), config.kept.absolute()}))


def root_of(path: str, config: Config) -> Path:
    """Return the folder in which the node has what a backup has at this relative path."""
    shared = PurePosixPath(path).parts[0] in _SHARED
    return (config.kept if shared else config.data).absolute()


def _parsed(folder: Path, text: str) -> Iterator[tuple[str, str]]:
    for line in text.splitlines():
        sha256, _, path = line.partition("  ")
        if not belongs(path):
            raise BackupRefused(folder, "its list names a file that no backup holds")
        yield path, sha256
