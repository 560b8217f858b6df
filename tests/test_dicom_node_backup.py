"""A backup while the node goes on, and a data folder from it that answers the same."""

import hashlib
import json
import os
import shutil
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from encoders import image_of, small_encoder, study_of, take_in
from peers import quick_config, wait_for
from scripted import push

from dicom_node.config import Config, Destination
from dicom_node.errors import BackupRefused
from dicom_node.node import Node
from dicom_node.operate.backup import BackedUp, back_up
from dicom_node.operate.check import check
from dicom_node.operate.forget import forget
from dicom_node.operate.restore import restore
from dicom_node.operate.stub_pacs import find_similar
from dicom_node.parts import Parts, open_parts
from index.errors import SchemaMismatch

STUDIES = 4


@pytest.fixture
def parts(tmp_path: Path) -> Iterator[Parts]:
    """A data folder with some studies; no node runs."""
    encoder = {"threads": 1, "checkpoint": str(small_encoder(tmp_path / "encoder", 1))}
    opened = open_parts(quick_config(tmp_path / "data", encoder=encoder))
    take_in(opened, *(image_of(tmp_path, number) for number in range(STUDIES)))
    yield opened
    opened.close()


@pytest.fixture
def backup(parts: Parts, tmp_path: Path) -> Path:
    """A whole backup of it."""
    assert saved(parts, tmp_path / "backup").missing == ()
    return tmp_path / "backup"


def saved(parts: Parts, target: Path, *, link: bool = False) -> BackedUp:
    return back_up(parts, target, link=link, advance=unheard)


def unheard(done: int, total: int) -> None:
    """Hear of progress, and say nothing."""


def elsewhere(parts: Parts, name: str = "restored") -> Config:
    return parts.config.model_copy(update={"data": parts.folder.root.with_name(name)})


def names(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


@pytest.mark.slow
def test_a_backup_made_during_a_push_is_restored_and_answers_the_same(
    parts: Parts, tmp_path: Path
) -> None:
    target, asked = tmp_path / "backup", image_of(tmp_path, 50)
    images = [image_of(tmp_path, number) for number in range(100, 130)]
    node = Node(parts.config)
    node.start()
    try:
        push(node.port, asked)
        pushing = threading.Thread(target=push, args=(node.port, *images))
        pushing.start()
        during = saved(parts, target)
        pushing.join()
        assert during.missing == ()
        restore(target, elsewhere(parts, "early"), unheard)
        wait_for("all", lambda: parts.catalogue.counts().series == {"indexed": STUDIES + 31})
        saved(parts, target)
        before = answers(node, study_of(asked))
    finally:
        node.stop()

    assert findings(open_parts(elsewhere(parts, "early"))) == []
    restored = elsewhere(parts)
    restore(target, restored, unheard)
    assert findings(open_parts(restored)) == []
    other = Node(restored)
    other.start()
    try:
        assert len(before) == 10
        assert answers(other, study_of(asked)) == before
    finally:
        other.stop()


def answers(node: Node, study: str) -> list[tuple[str, float]]:
    """Ask by C-FIND; return the studies by rank, with their scores."""
    peer = Destination(ae_title="SIMILIS_FIND", host="127.0.0.1", port=node.query_port)
    found = find_similar(study, peer, k=10)
    return [(each.study_instance_uid, each.score) for each in found]


def findings(parts: Parts) -> list[object]:
    try:
        return list(check(parts, unheard_of))
    finally:
        parts.close()


def unheard_of(done: int) -> None:
    """Hear of progress, and say nothing."""


def test_a_second_backup_copies_what_is_new_and_removes_what_was_forgotten(
    parts: Parts, backup: Path, tmp_path: Path
) -> None:
    again = saved(parts, backup)
    assert (again.copied, again.removed) == (0, 0)

    take_in(parts, image_of(tmp_path, 9))
    forget(parts, study_of(image_of(tmp_path / "again", 0)))
    later = saved(parts, backup)

    assert later.copied == 1
    assert later.removed == 3, "the image, the former catalogue, the former list"
    listed = subprocess.run(
        ["sha256sum", "--check", "--quiet", *backup.glob("files-*")], cwd=backup, check=False
    )
    assert listed.returncode == 0


def test_links_take_no_room(parts: Parts, tmp_path: Path) -> None:
    saved(parts, tmp_path / "linked", link=True)

    for path in (tmp_path / "linked" / "store").rglob("*.dcm"):
        there = parts.folder.root / path.relative_to(tmp_path / "linked")
        assert path.samefile(there)


def test_a_file_that_the_node_lost_is_told_of(parts: Parts, tmp_path: Path) -> None:
    lost = parts.catalogue.series_files(1).files[0].relative_path
    parts.store.path(lost).unlink()

    assert saved(parts, tmp_path / "backup").missing == (f"store/{lost}",)
    restore(tmp_path / "backup", elsewhere(parts), unheard)


def test_the_last_copy_of_a_file_that_the_node_lost_stays(
    parts: Parts, backup: Path, tmp_path: Path
) -> None:
    lost = parts.catalogue.series_files(1).files[0].relative_path
    content = parts.store.path(lost).read_bytes()
    parts.store.path(lost).unlink()

    for _ in range(2):
        assert saved(parts, backup).missing == (f"store/{lost}",)

    restore(backup, elsewhere(parts), unheard)
    assert (elsewhere(parts).data / "store" / lost).read_bytes() == content


@pytest.mark.parametrize("where", [".", "backup", ".."])
def test_a_backup_lies_beside_the_data_folder(parts: Parts, where: str) -> None:
    with pytest.raises(BackupRefused, match="beside the data folder"):
        saved(parts, parts.folder.root / where)


def test_a_folder_with_other_things_in_it_is_left_alone(parts: Parts, tmp_path: Path) -> None:
    (tmp_path / "letters").mkdir()
    (tmp_path / "letters" / "dear.txt").write_text("Dear,")

    with pytest.raises(BackupRefused, match="not empty, and no backup"):
        saved(parts, tmp_path / "letters")
    assert names(tmp_path / "letters") == ["dear.txt"]


def test_a_backup_that_was_stopped_is_no_backup_and_goes_on(parts: Parts, tmp_path: Path) -> None:
    def halt(done: int, total: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        back_up(parts, tmp_path / "backup", link=False, advance=halt)
    with pytest.raises(BackupRefused, match="never came to its end"):
        restore(tmp_path / "backup", elsewhere(parts), unheard)

    saved(parts, tmp_path / "backup")
    restore(tmp_path / "backup", elsewhere(parts), unheard)


def test_a_later_backup_that_was_stopped_leaves_the_former_one(
    parts: Parts, backup: Path, tmp_path: Path
) -> None:
    def halt(done: int, total: int) -> None:
        if done == total:
            raise KeyboardInterrupt

    take_in(parts, image_of(tmp_path, 9))
    with pytest.raises(KeyboardInterrupt):
        back_up(parts, backup, link=False, advance=halt)

    restore(backup, elsewhere(parts), unheard)
    restored = open_parts(elsewhere(parts))
    assert restored.catalogue.counts().instances == STUDIES
    restored.close()


def test_a_full_disk_leaves_the_former_backup(
    parts: Parts, backup: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> str:
        raise OSError(28, os.strerror(28), "backup")

    take_in(parts, image_of(tmp_path, 9))
    monkeypatch.setattr("dicom_node.operate.backup.copy_hashed", full)
    with pytest.raises(BackupRefused, match="No space left on device; what it held before"):
        saved(parts, backup)

    restore(backup, elsewhere(parts), unheard)


def test_the_command_says_in_one_line_that_there_is_no_room(parts: Parts, tmp_path: Path) -> None:
    limited = ["prlimit", "--fsize=20000", sys.executable, "-m", "dicom_node"]
    said = subprocess.run(
        [*limited, "backup", tmp_path / "backup", "--data", parts.folder.root],
        capture_output=True,
        text=True,
        check=False,
    )

    assert said.returncode == 1
    assert said.stderr.splitlines()[-1].startswith(f"similis: backup {tmp_path / 'backup'}: ")
    assert "Traceback" not in said.stderr


@pytest.mark.parametrize(
    ("what", "refusal"),
    [
        ("store/*/*.dcm", "is damaged: its checksum differs"),
        ("catalogue-*.sqlite", "is damaged: its checksum differs"),
        ("files-*.sha256", "is damaged: its checksum differs"),
        ("manifest.json", "cannot be read"),
    ],
)
def test_a_truncated_file_is_refused_and_nothing_is_left(
    parts: Parts, backup: Path, what: str, refusal: str
) -> None:
    path = next(backup.glob(what))
    os.truncate(path, path.stat().st_size - 3)

    with pytest.raises(BackupRefused, match=refusal):
        restore(backup, elsewhere(parts), unheard)
    assert not list(elsewhere(parts).data.glob("*"))


def test_a_missing_file_is_refused(parts: Parts, backup: Path) -> None:
    next(backup.glob("store/*/*.dcm")).unlink()

    with pytest.raises(BackupRefused, match="is missing"):
        restore(backup, elsewhere(parts), unheard)


@pytest.mark.parametrize("escape", ["../../evil", "/etc/evil", "store/../../evil", "other/x"])
def test_a_list_that_leads_elsewhere_is_refused(parts: Parts, backup: Path, escape: str) -> None:
    manifest = json.loads((backup / "manifest.json").read_text())
    content = f"{'0' * 64}  {escape}\n".encode()
    (backup / manifest["files"]).write_bytes(content)
    manifest["sha256"] = hashlib.sha256(content).hexdigest()
    (backup / "manifest.json").write_text(json.dumps(manifest))

    with pytest.raises(BackupRefused, match="names a file that no backup holds"):
        restore(backup, elsewhere(parts), unheard)


@pytest.mark.parametrize(
    ("key", "value", "refusal"),
    [("format", 2, BackupRefused), ("schema", "9999", SchemaMismatch)],
)
def test_a_backup_of_a_newer_version_is_refused(
    parts: Parts, backup: Path, key: str, value: object, refusal: type[Exception]
) -> None:
    manifest = json.loads((backup / "manifest.json").read_text())
    (backup / "manifest.json").write_text(json.dumps(manifest | {key: value}))

    with pytest.raises(refusal, match=str(value)):
        restore(backup, elsewhere(parts), unheard)


def test_only_an_empty_folder_is_restored_into(parts: Parts, backup: Path) -> None:
    before = names(parts.folder.root)

    with pytest.raises(BackupRefused, match="into an empty folder only"):
        restore(backup, parts.config, unheard)
    assert names(parts.folder.root) == before


def test_the_copy_of_the_catalogue_is_whole(backup: Path) -> None:
    with closing(sqlite3.connect(next(backup.glob("catalogue-*.sqlite")))) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]


def test_a_lost_data_folder_comes_back_with_its_identity(parts: Parts, backup: Path) -> None:
    identity = parts.folder.installation()
    parts.close()
    shutil.rmtree(parts.folder.root)

    restored = restore(backup, parts.config, unheard)

    assert (restored.vectors, restored.catalogue) == (STUDIES, True)
    again = open_parts(parts.config)
    assert again.folder.installation() == identity
    again.close()
