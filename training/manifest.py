"""The list of what is trained on or judged: one CSV, or a folder as it lies.

Owns: `Item`, the columns, and what is wrong with a row. Does not own: reading images (`reading`).
"""

import csv
import math
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from pathlib import Path

from pydicom import Dataset, dcmread
from pydicom.misc import is_dicom

from encoder.clip import Kind
from encoder.headers import READ_ERRORS, frame_count, quiet, raise_if_missing
from encoder.plain import FILM_SUFFIXES, PICTURE_SUFFIXES
from index.catalogue import Catalogue
from training.errors import BadManifest


class Split(StrEnum):
    """What an item is for."""

    TRAIN = "train"
    EVAL = "eval"


@dataclass(frozen=True, slots=True)
class Item:
    """One row: a still, a volume (its files) or a cine, and what is known of it.

    `path` is as the manifest has it; `files` are where it lies now. An empty `patient_id` means
    unknown, an empty `label` that the source has none.
    """

    path: str
    files: tuple[Path, ...]
    split: Split
    kind: Kind
    modality: str
    body_part: str = ""
    label: str = ""
    patient_id: str = ""
    caption: str = ""
    frame_time_ms: float = 0.0
    source: str = ""
    licence: str = ""


REQUIRED = ("path", "split", "kind", "modality", "body_part", "label", "patient_id", "source")
OPTIONAL = ("caption", "frame_time_ms", "licence")
_KEYWORDS = ("SeriesInstanceUID", "Modality", "BodyPartExamined", "PatientID", "NumberOfFrames")
_SUFFIXES = PICTURE_SUFFIXES | FILM_SUFFIXES


def read_items(data: Path) -> tuple[Item, ...]:
    """Read a manifest (.csv) or take a folder as it lies, all of it for training.

    Raises BadManifest naming the line: unknown or missing columns, an unknown split or kind,
    a number that is none, a file that is missing or outside the manifest's folder, no row at all.
    """
    if data.is_dir():
        manifest = data / "manifest.csv"
        items = _read_csv(manifest) if manifest.exists() else tuple(_folder(data))
    elif data.exists():
        items = _read_csv(data)
    else:
        raise BadManifest(data, 0, "there is no such file or folder")
    if not items:
        raise BadManifest(data, 0, "it names no image")
    return items


def catalogue_items(catalogue: Catalogue, store: Path) -> tuple[Item, ...]:
    """Take the first clip of every series that a node has embedded, all of them for training.

    `store` is the folder that the catalogue's paths are relative to.
    """
    return tuple(
        Item(
            path=clip.series_instance_uid,
            files=tuple(
                store / file.relative_path for file in catalogue.series_files(clip.series_id).files
            ),
            split=Split.TRAIN,
            kind=Kind(clip.kind),
            modality=clip.modality or "OT",
            body_part=clip.body_part,
            patient_id=clip.patient_id,
            source="catalogue",
        )
        for clip in catalogue.embedded_clips()
        if clip.position == 0
    )


def _read_csv(path: Path) -> tuple[Item, ...]:
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.DictReader(file, strict=True)
            _check_columns(path, reader.fieldnames or ())
            lines: dict[str, int] = {}
            items: list[Item] = []
            for row in reader:
                item = _item(path, reader.line_num, row)
                # An item twice would be its own nearest neighbour.
                if (first := lines.setdefault(item.path, reader.line_num)) != reader.line_num:
                    raise BadManifest(path, reader.line_num, f"{item.path} is on line {first} too")
                items.append(item)
            return tuple(items)
    except (UnicodeDecodeError, csv.Error) as error:
        raise BadManifest(path, 0, f"this is no CSV in UTF-8 ({error})") from error
    except OSError as error:
        raise BadManifest(path, 0, f"it cannot be read ({error.strerror})") from error


def _check_columns(path: Path, names: Sequence[str]) -> None:
    found = set(names)
    if missing := [name for name in REQUIRED if name not in found]:
        raise BadManifest(path, 1, f"columns are missing: {', '.join(missing)}")
    if unknown := sorted(found.difference(REQUIRED, OPTIONAL)):
        raise BadManifest(path, 1, f"columns are unknown: {', '.join(unknown)}")
    if len(names) != len(found):
        raise BadManifest(path, 1, "a column is there twice")


def _item(manifest: Path, line: int, row: dict[str, str | None]) -> Item:
    """Make an item of one row, or say what is wrong with it."""
    if None in row.values() or None in row:
        raise BadManifest(manifest, line, "it has not as many fields as the first line")
    text = {key: value.strip() for key, value in row.items() if value is not None}
    try:
        split, kind = Split(text["split"]), Kind(text["kind"])
        frame_time_ms = float(text.get("frame_time_ms") or 0.0)
    except ValueError as error:
        raise BadManifest(manifest, line, str(error)) from error
    if not 0.0 <= frame_time_ms < math.inf:
        raise BadManifest(manifest, line, f"{frame_time_ms} is no frame_time_ms")
    if not text["modality"]:
        raise BadManifest(manifest, line, "the modality is empty")
    return Item(
        path=text["path"],
        files=_files(manifest, line, text["path"]),
        split=split,
        kind=kind,
        modality=text["modality"],
        body_part=text["body_part"],
        label=text["label"],
        patient_id=text["patient_id"],
        caption=text.get("caption", ""),
        frame_time_ms=frame_time_ms,
        source=text["source"],
        licence=text.get("licence", ""),
    )


def _files(manifest: Path, line: int, name: str) -> tuple[Path, ...]:
    root = manifest.parent.resolve()
    path = (root / name.replace("\0", "")).resolve()
    if not name or "\0" in name or not path.is_relative_to(root):
        raise BadManifest(manifest, line, f"the path {name!r} leads out of the manifest's folder")
    if path.is_file():
        return (path,)
    files = tuple(sorted(file for file in path.glob("[!.]*") if file.is_file()))
    if not files:
        raise BadManifest(manifest, line, f"{name} is missing or empty")
    return files


def items_below(paths: Sequence[Path]) -> tuple[Item, ...]:
    """Take files, and all files of folders, as they lie; an item is named as its path is given.

    Raises BadManifest for a path that is not there, or where none of them holds an image.
    """
    files: list[Path] = []
    for path in paths:
        if not path.exists():
            raise BadManifest(path, 0, "there is no such file or folder")
        files += [path] if path.is_file() else _files_of(path)
    items = tuple(_as_they_lie(list(dict.fromkeys(files)), source=""))
    if not items:
        raise BadManifest(paths[0], 0, "it names no image")
    return items


def _folder(folder: Path) -> Iterator[Item]:
    """Take a folder as it lies; items are named by their paths in it."""
    for item in _as_they_lie(_files_of(folder), source=folder.name):
        yield replace(item, path=str(Path(item.path).relative_to(folder)))


def _files_of(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.is_file())


def _as_they_lie(files: Sequence[Path], *, source: str) -> Iterator[Item]:
    """Take every picture and film as an item, and every DICOM series as one; leave the rest."""
    series: defaultdict[str, list[Path]] = defaultdict(list)
    headers: dict[str, Dataset] = {}
    for path in files:
        suffix = path.suffix.lower()
        if suffix in _SUFFIXES:
            kind = Kind.CINE if suffix in FILM_SUFFIXES else Kind.STILL
            yield Item(str(path), (path,), Split.TRAIN, kind, modality="OT", source=source)
        elif (header := _header(path)) is not None:
            uid = str(header.get("SeriesInstanceUID") or path)
            series[uid].append(path)
            headers.setdefault(uid, header)
    for uid, members in series.items():
        header = headers[uid]
        yield Item(
            path=str(members[0]),
            files=tuple(members),
            split=Split.TRAIN,
            kind=_kind(header, len(members)),
            modality=str(header.get("Modality") or "OT"),
            body_part=str(header.get("BodyPartExamined") or ""),
            patient_id=str(header.get("PatientID") or ""),
            source=source,
        )


def _header(path: Path) -> Dataset | None:
    """Read what an item needs of a DICOM file; None where it is none.

    A damaged one has an empty header: it stays an item of its own, so that it is counted.
    """
    if not is_dicom(path):
        return None
    with quiet():
        try:
            header = dcmread(path, specific_tags=list(_KEYWORDS), stop_before_pixels=True)
            frame_count(header)
        except READ_ERRORS as error:
            raise_if_missing(error)
            return Dataset()
    return header


def _kind(header: Dataset, files: int) -> Kind:
    """Guess what a series is; what it is read as is for the encoder to say."""
    if files > 1:
        return Kind.VOLUME
    return Kind.STILL if frame_count(header) == 1 else Kind.CINE
