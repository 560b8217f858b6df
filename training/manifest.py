"""The list of what is trained on or judged: one CSV, or a folder as it lies.

Owns: `Item`, the columns, and what is wrong with a row. Does not own: reading images (`reading`).
"""

import csv
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from pydicom import Dataset, dcmread
from pydicom.misc import is_dicom

from encoder.clip import Kind
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
            return tuple(_item(path, reader.line_num, row) for row in reader)
    except (UnicodeDecodeError, csv.Error) as error:
        raise BadManifest(path, 0, f"this is no CSV in UTF-8 ({error})") from error


def _check_columns(path: Path, names: object) -> None:
    found = {str(name) for name in names} if isinstance(names, list) else set()
    if missing := [name for name in REQUIRED if name not in found]:
        raise BadManifest(path, 1, f"columns are missing: {', '.join(missing)}")
    if unknown := sorted(found.difference(REQUIRED, OPTIONAL)):
        raise BadManifest(path, 1, f"columns are unknown: {', '.join(unknown)}")


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
    path = (root / name).resolve()
    if not name or not path.is_relative_to(root):
        raise BadManifest(manifest, line, f"the path {name!r} leads out of the manifest's folder")
    if path.is_file():
        return (path,)
    files = tuple(sorted(file for file in path.glob("*") if file.is_file()))
    if not files:
        raise BadManifest(manifest, line, f"{name} is missing or empty")
    return files


def _folder(folder: Path) -> Iterator[Item]:
    """Take every picture and film as an item, and every DICOM series as one."""
    series: defaultdict[str, list[Path]] = defaultdict(list)
    headers: dict[str, Dataset] = {}
    for path in sorted(p for p in folder.rglob("*") if p.is_file()):
        name = str(path.relative_to(folder))
        if path.suffix.lower() in _SUFFIXES:
            kind = Kind.CINE if path.suffix.lower() in FILM_SUFFIXES else Kind.STILL
            yield Item(name, (path,), Split.TRAIN, kind, modality="OT", source=folder.name)
        elif is_dicom(path):
            header: Dataset = dcmread(
                path,
                specific_tags=["SeriesInstanceUID", "Modality", "BodyPartExamined", "PatientID"],
                stop_before_pixels=True,
            )
            uid = str(header.get("SeriesInstanceUID", name))
            series[uid].append(path)
            headers.setdefault(uid, header)
    for uid, files in series.items():
        header = headers[uid]
        yield Item(
            path=str(files[0].relative_to(folder)),
            files=tuple(files),
            split=Split.TRAIN,
            kind=Kind.VOLUME if len(files) > 1 else Kind.STILL,
            modality=str(header.get("Modality") or "OT"),
            body_part=str(header.get("BodyPartExamined") or ""),
            patient_id=str(header.get("PatientID") or ""),
            source=folder.name,
        )
