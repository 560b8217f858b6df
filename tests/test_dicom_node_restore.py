"""What lies outside the catalogue, or outside the data folder, comes back to its place."""

import shutil
from pathlib import Path
from typing import Any

import pytest
from encoders import image_of, small_encoder, take_in
from peers import quick_config

from dicom_node.config import Config
from dicom_node.errors import BackupRefused
from dicom_node.operate.backup import BackedUp, back_up
from dicom_node.operate.check import Finding, check
from dicom_node.operate.restore import restore
from dicom_node.parts import Parts, open_parts
from dicom_node.receive.header import read_header, split_file, with_meta
from dicom_node.receive.spool import Note, Spool


def configured(folder: Path, **sections: Any) -> Config:
    encoder = {"threads": 1, "checkpoint": str(small_encoder(folder / "encoder", 1))}
    return quick_config(folder / "data", encoder=encoder, **sections)


def saved(parts: Parts, target: Path) -> BackedUp:
    return back_up(parts, target, link=False, advance=unheard)


def findings(parts: Parts) -> list[Finding]:
    return list(check(parts, unheard))


def unheard(*_: int) -> None:
    """Hear of progress, and say nothing."""


def names(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


@pytest.mark.parametrize("folder", ["shared", "data/shared"])
def test_a_shared_folder_is_backed_up_and_restored_to_its_place(
    tmp_path: Path, folder: str
) -> None:
    config = configured(tmp_path, storage={"folder": str(tmp_path / folder)})
    parts = open_parts(config)
    take_in(parts, image_of(tmp_path, 1))
    before = names(tmp_path / folder / "store")
    with pytest.raises(BackupRefused, match="beside the data folder"):
        saved(parts, tmp_path / folder / "backup")
    assert saved(parts, tmp_path / "backup").missing == ()
    parts.close()

    with pytest.raises(BackupRefused, match="into an empty folder only"):
        empty = config.model_copy(update={"data": tmp_path / "other"})
        restore(tmp_path / "backup", empty, unheard)
    shutil.rmtree(tmp_path / "data")
    shutil.rmtree(tmp_path / folder, ignore_errors=True)
    restore(tmp_path / "backup", config, unheard)

    restored = open_parts(config)
    assert findings(restored) == []
    restored.close()
    assert len(before) == 1
    assert names(tmp_path / folder / "store") == before


def test_what_waits_for_its_row_is_backed_up_with_its_note(tmp_path: Path) -> None:
    config = configured(tmp_path)
    parts = open_parts(config)
    take_in(parts, image_of(tmp_path, 1))
    path = waiting_file(parts, image_of(tmp_path, 9))
    saved(parts, tmp_path / "backup")
    parts.close()
    shutil.rmtree(tmp_path / "data")

    restore(tmp_path / "backup", config, unheard)

    restored = open_parts(config)
    assert list(Spool(restored.folder.spool).waiting().values()) == [path]
    assert restored.store.path(path).exists()
    assert findings(restored) == []
    restored.close()


def waiting_file(parts: Parts, image: Path) -> str:
    """Keep an image as while the database is away; return its path in the store."""
    with image.open("rb") as file:
        meta, dataset = split_file(file)
    header = read_header(dataset, str(meta.TransferSyntaxUID))
    path = parts.store.write(dataset, with_meta(header, meta, guest=False)).relative_path
    Spool(parts.folder.spool).put(Note(path, source="PACS", report=False))
    return path
