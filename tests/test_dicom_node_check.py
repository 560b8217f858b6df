"""What disagrees is found, told and put right, and a second look finds nothing."""

import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from encoders import image_of, small_encoder, study_of, take_in
from peers import quick_config
from pydicom import dcmread
from sqlalchemy import text
from test_dicom_node_cli import similis

from dicom_node.generation import bring_encoder
from dicom_node.operate.check import Finding, Trouble, check
from dicom_node.operate.forget import forget
from dicom_node.operate.repair import Done, Outcome, repair
from dicom_node.parts import Parts, open_parts

STUDIES = 3


@pytest.fixture
def parts(tmp_path: Path) -> Iterator[Parts]:
    """A data folder with some studies; no node runs."""
    encoder = {"threads": 1, "checkpoint": str(small_encoder(tmp_path / "encoder", 1))}
    opened = open_parts(quick_config(tmp_path / "data", encoder=encoder))
    take_in(opened, *(image_of(tmp_path, number) for number in range(STUDIES)))
    assert found(opened) == []
    yield opened
    opened.close()


def found(parts: Parts, *, read: bool = False) -> list[Finding]:
    return list(check(parts, lambda number: None, read=read))


def repaired(parts: Parts, trouble: Trouble, *, read: bool = False) -> Done:
    """Repair the one thing that is found."""
    (finding,) = found(parts, read=read)
    assert finding.trouble is trouble
    return repair(parts, finding)


def kept_file(parts: Parts, series_id: int = 1) -> Path:
    (file,) = parts.catalogue.series_files(series_id).files
    return parts.store.path(file.relative_path)


def series_uid(parts: Parts, series_id: int = 1) -> str:
    return parts.catalogue.series_files(series_id).series_instance_uid


def change(parts: Parts, statement: str, **values: object) -> None:
    with parts.catalogue.writing() as connection:
        connection.execute(text(statement), values)


def embed(parts: Parts) -> None:
    """Let what is queued be embedded, as the next start would."""
    take_in(parts)


def test_a_lost_file_is_lost_with_its_row_and_may_be_sent_again(
    parts: Parts, tmp_path: Path
) -> None:
    kept_file(parts).unlink()

    done = repaired(parts, Trouble.FILE_MISSING)

    uid = study_of(image_of(tmp_path / "same", 0))
    assert done.outcome is Outcome.BEYOND
    assert done.what.endswith(f"of study {uid}; let the PACS send it again")
    embed(parts)
    assert found(parts) == []
    assert parts.catalogue.counts().series == {"indexed": STUDIES - 1, "skipped": 1}
    take_in(parts, image_of(tmp_path / "again", 0))
    assert found(parts) == []
    assert parts.catalogue.counts().series == {"indexed": STUDIES}


def test_an_older_version_does_not_come_back(parts: Parts, tmp_path: Path) -> None:
    """It may have been rejected: what code 113038 takes out is replaced, and not remembered."""
    first = kept_file(parts)
    later = dcmread(image_of(tmp_path / "later", 0))
    later.SeriesDescription = "corrected"
    later.save_as(tmp_path / "later.dcm")
    take_in(parts, tmp_path / "later.dcm")
    assert kept_file(parts) != first
    kept_file(parts).unlink()

    done = repaired(parts, Trouble.FILE_MISSING)

    assert done.outcome is Outcome.BEYOND
    assert done.what.endswith("let the PACS send it again")
    assert parts.catalogue.series_files(1).files == ()
    embed(parts)
    assert found(parts) == []
    assert parts.catalogue.counts().series == {"indexed": STUDIES - 1, "skipped": 1}
    take_in(parts, tmp_path / "later.dcm")
    assert parts.catalogue.counts().series == {"indexed": STUDIES}


def test_no_row_is_let_go_of_where_the_store_is_not_mounted(parts: Parts) -> None:
    parts.folder.store.rename(parts.folder.root / "away")
    unmounted = open_parts(parts.config)
    missing = found(unmounted)

    done = [repair(unmounted, finding) for finding in missing]
    unmounted.close()

    assert [each.outcome for each in done] == [Outcome.BEYOND] * STUDIES
    assert all("holds no file at all" in each.what for each in done)
    shutil.rmtree(parts.folder.store)
    (parts.folder.root / "away").rename(parts.folder.store)
    assert found(parts) == []


@pytest.mark.parametrize("change", [-300, -1, 1, 100])
def test_a_file_of_another_size_is_found(parts: Parts, change: int) -> None:
    path = kept_file(parts)
    os.truncate(path, path.stat().st_size + change)

    assert [each.trouble for each in found(parts)] == [Trouble.FILE_DAMAGED]


def test_a_truncated_file_is_found_by_its_size_and_set_aside(parts: Parts) -> None:
    path = kept_file(parts)
    os.truncate(path, path.stat().st_size - 2000)

    done = repaired(parts, Trouble.FILE_DAMAGED)

    aside = path.with_suffix(".damaged")
    assert done.what.startswith(f"set aside as {path.parent.name}/{aside.name}; lost: ")
    embed(parts)
    assert repaired(parts, Trouble.FILE_SET_ASIDE, read=True).outcome is Outcome.LEFT
    assert aside.exists()


def test_what_was_set_aside_and_sent_again_is_forgotten_with_its_study(
    parts: Parts, tmp_path: Path
) -> None:
    path = kept_file(parts)
    os.truncate(path, path.stat().st_size - 2000)
    repaired(parts, Trouble.FILE_DAMAGED)
    again = image_of(tmp_path / "again", 0)
    take_in(parts, again)
    assert path.with_suffix(".damaged").exists()

    forget(parts, study_of(again))

    assert found(parts) == []
    assert not path.with_suffix(".damaged").exists()


def test_a_flipped_bit_is_found_by_reading(parts: Parts) -> None:
    path = kept_file(parts)
    with path.open("r+b") as file:
        file.seek(-100, os.SEEK_END)
        byte = file.read(1)
        file.seek(-100, os.SEEK_END)
        file.write(bytes([byte[0] ^ 1]))

    assert found(parts) == []
    assert repaired(parts, Trouble.FILE_DAMAGED, read=True).outcome is Outcome.BEYOND
    embed(parts)
    assert repaired(parts, Trouble.FILE_SET_ASIDE, read=True).outcome is Outcome.LEFT


def test_a_file_that_comes_back_before_the_repair_is_not_lost(parts: Parts) -> None:
    path = kept_file(parts)
    path.rename(path.with_suffix(".away"))
    (finding,) = found(parts)
    path.with_suffix(".away").rename(path)

    assert repair(parts, finding).outcome is Outcome.REPAIRED
    assert found(parts) == []


def test_what_a_crash_left_half_written_is_removed(parts: Parts) -> None:
    half = parts.folder.store / "incoming" / "half"
    half.write_bytes(b"half of a fi")
    assert found(parts) == [], "a young one may be under way"
    os.utime(half, (0, 0))

    assert repaired(parts, Trouble.FILE_LEFT_OVER).outcome is Outcome.REPAIRED
    assert not half.exists()


@pytest.mark.parametrize(
    ("spoilt", "reason"),
    [
        (b"\x00\x00\xc0\x7f" * 96, "not finite"),
        (b"\x00" * 384, "not of unit length"),
        (b"\x00" * 380, "380 bytes, not 384"),
    ],
)
def test_a_vector_that_cannot_serve_is_made_anew(parts: Parts, spoilt: bytes, reason: str) -> None:
    shutil.rmtree(parts.folder.vectors)
    parts.folder.vectors.mkdir()
    change(parts, "UPDATE embedding SET vector = :spoilt WHERE id = 1", spoilt=spoilt)

    (finding,) = found(parts)
    assert (finding.subject, reason in finding.detail) == (series_uid(parts), True)
    assert repair(parts, finding).outcome is Outcome.REPAIRED
    assert [each.trouble for each in found(parts)] == [
        Trouble.SERIES_WITHOUT_VECTOR,
        Trouble.GRAPH_UNUSABLE,
    ]
    embed(parts)
    assert found(parts) == []


def test_a_series_without_a_vector_is_embedded(parts: Parts) -> None:
    change(parts, "DELETE FROM embedding WHERE id = 2")
    embed(parts)  # the graph is level again, nothing else is done

    assert repaired(parts, Trouble.SERIES_WITHOUT_VECTOR).outcome is Outcome.REPAIRED
    embed(parts)
    assert found(parts) == []


def test_vectors_of_nothing_are_deleted(parts: Parts) -> None:
    with parts.catalogue.engine.connect() as connection:
        connection.exec_driver_sql("COMMIT")
        connection.exec_driver_sql("PRAGMA foreign_keys = OFF")
        connection.exec_driver_sql("BEGIN")
        connection.exec_driver_sql(
            "INSERT INTO embedding (clip_id, model_id, revision, decoder, vector) "
            "VALUES (999, 'another', 1, '', x'00')"
        )
        connection.commit()
        connection.invalidate()

    assert [each.detail for each in found(parts)] == ["1 vectors"]
    assert repaired(parts, Trouble.VECTOR_STRAY).what == "1 deleted"
    assert found(parts) == []


@pytest.mark.parametrize("damage", ["missing", "flipped", "of another model"])
def test_a_graph_that_cannot_serve_is_built_again(parts: Parts, damage: str) -> None:
    (graph,) = parts.folder.vectors.glob("*.hnsw")
    (header,) = parts.folder.vectors.glob("*.json")
    model_id = header.stem
    if damage == "missing":
        graph.unlink()
    elif damage == "flipped":
        content = bytearray(graph.read_bytes())
        content[-1] ^= 1
        graph.write_bytes(content)
    else:
        other = graph.name.replace(header.stem, "0" * 16)
        header.write_text(header.read_text().replace(header.stem, "0" * 16))
        graph.rename(graph.with_name(other))

    (finding,) = found(parts)
    assert (finding.trouble, finding.subject) == (Trouble.GRAPH_UNUSABLE, model_id)
    assert finding.detail
    assert repair(parts, finding).outcome is Outcome.REPAIRED
    assert found(parts) == []


def test_an_encoder_that_is_gone_is_copied_or_told_to_be_beyond_repair(
    parts: Parts, tmp_path: Path
) -> None:
    shutil.rmtree(parts.folder.encoders)
    parts.folder.encoders.mkdir()
    assert repaired(parts, Trouble.ENCODER_MISSING).outcome is Outcome.REPAIRED
    assert found(parts) == []

    shutil.rmtree(parts.folder.encoders)
    parts.folder.encoders.mkdir()
    small_encoder(tmp_path / "encoder", 2)
    assert repaired(parts, Trouble.ENCODER_MISSING).outcome is Outcome.BEYOND


def test_an_encoder_that_is_gone_is_told_by_its_model_id(parts: Parts) -> None:
    (kept,) = parts.folder.encoders.iterdir()
    shutil.rmtree(kept)

    said = similis(
        "check", "--json", data=parts.config.data, expect=1, SIMILIS_TEXT__ENABLED="false"
    )

    (finding,) = json.loads(said.stdout)
    assert finding == {
        "trouble": "an encoder that answers and is not kept",
        "subject": kept.name,
        "detail": bring_encoder(parts.folder, kept.name),
        "outcome": "",
        "done": "",
    }
