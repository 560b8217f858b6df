"""A data folder from a backup: every file is hashed on its way, the catalogue comes last."""

import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from dicom_node.config import CATALOGUE_FILE, Config
from dicom_node.data_folder import fsync_folder
from dicom_node.errors import BackupRefused
from dicom_node.generation import model_of
from dicom_node.operate.backup import copy_hashed
from dicom_node.operate.manifest import (
    FOLDERS,
    IDENTITY_FILE,
    Manifest,
    read_files,
    read_manifest,
    root_of,
    roots,
)
from dicom_node.parts import open_index, open_parts
from index.db import check_schema

_STAGING = "restoring"

Advance = Callable[[int, int], None]


@dataclass(frozen=True, slots=True)
class Restored:
    """What was brought back; without `catalogue` the database must be, by its own means."""

    files: int
    made_at: str
    vectors: int
    catalogue: bool


def restore(source: Path, config: Config, advance: Advance) -> Restored:
    """Bring a backup back into the data folder; `advance` hears of the files.

    It must be empty, and so must `storage.folder`, which objects and reports go to.

    Raises `BackupRefused` for a backup that is damaged or of another format, and
    `index.errors.SchemaMismatch` for one of a newer version; then the data folder stays empty.
    """
    manifest = read_manifest(source)
    if not manifest.complete:
        raise BackupRefused(source, "it never came to its end: run `similis backup` again")
    check_schema(manifest.schema)
    files = read_files(source, manifest)
    _stage(source, config)
    try:
        _copy_all(source, config, files, advance)
        _move_in(config, manifest)
    except OSError as error:
        reason = f"{error.strerror or error}; nothing was restored into {config.data.absolute()}"
        raise BackupRefused(source, reason) from error
    finally:
        for root in roots(config):
            shutil.rmtree(root / _STAGING, ignore_errors=True)
    vectors = _open(config) if manifest.catalogue else 0
    return Restored(len(files), manifest.made_at, vectors, bool(manifest.catalogue))


def _stage(source: Path, config: Config) -> None:
    """Make a fresh folder in each that is restored: they may be volumes of their own."""
    empty = roots(config)
    for root in empty:
        root.mkdir(mode=0o700, parents=True, exist_ok=True)
        expected = (root / _STAGING, *empty)
        if any(path not in expected for path in root.iterdir()):
            raise BackupRefused(source, f"it is restored into an empty folder only, not {root}")
    for root in empty:
        shutil.rmtree(root / _STAGING, ignore_errors=True)  # of a restore that was killed
        (root / _STAGING).mkdir(mode=0o700)


def _copy_all(source: Path, config: Config, files: dict[str, str], advance: Advance) -> None:
    for number, (path, sha256) in enumerate(files.items(), start=1):
        target = root_of(path, config) / _STAGING / path
        target.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        try:
            found = copy_hashed(source / path, target)
        except FileNotFoundError:
            raise BackupRefused(source, f"{path} is missing") from None
        if found != sha256:
            raise BackupRefused(source, f"{path} is damaged: its checksum differs")
        advance(number, len(files))


def _move_in(config: Config, manifest: Manifest) -> None:
    """Move all into place, the catalogue last: without it no command takes the folder for whole."""
    for name in (*FOLDERS, IDENTITY_FILE):
        root = root_of(name, config)
        if (root / _STAGING / name).exists():
            (root / _STAGING / name).rename(root / name)
    for root in roots(config):
        fsync_folder(root)
    if manifest.catalogue:
        data = config.data.absolute()
        (data / _STAGING / manifest.catalogue).rename(data / CATALOGUE_FILE)
        fsync_folder(data)


def _open(config: Config) -> int:
    """Migrate what was brought back and build its graph; return the number of vectors."""
    local = config.storage.model_copy(update={"database_url": ""})
    parts = open_parts(config.model_copy(update={"storage": local}))
    try:
        answering = parts.catalogue.answering_generation()
        if answering is None:
            return 0
        index = open_index(parts, model_of(answering))
        index.save()
        vectors = len(index)
        index.close()
        return vectors
    finally:
        parts.close()
