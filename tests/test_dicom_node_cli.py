"""The commands, each in a process of its own on one data folder."""

import json
import os
import shutil
import sqlite3
import subprocess
import sys
import zipfile
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from pydicom import dcmread
from pydicom.data import get_testdata_file

from dicom_node.config import Config
from dicom_node.parts import open_parts
from dicom_node.receive.header import read_file, with_meta
from dicom_node.receive.store import Store
from index.jobs import JobKind
from index.lookups import Counts
from training import phantoms

AGREE = "Files, rows, vectors and graph agree.\n"


@dataclass(frozen=True, slots=True)
class Library:
    """A data folder that was filled by `similis import`, and from what."""

    data: Path
    source: Path
    said: dict[str, Any]
    ct_uids: tuple[str, ...]
    still_uid: str


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> Library:
    folder = tmp_path_factory.mktemp("library")
    source, data = folder / "source", folder / "data"
    ct_uids = tuple(ct_study(source / "ct", seed) for seed in (1, 2, 3))
    new_uid = phantoms.uid_source(9)
    still = phantoms.still(source / "deep" / "er", new_uid=new_uid, patient_id="STILL")
    shutil.copy(get_testdata_file("MR_truncated.dcm", download=False) or "", source)
    (source / "notes.txt").write_text("no DICOM")
    with zipfile.ZipFile(source / "study.zip", "w") as archive:
        archive.write(still)
    said = similis("import", source, "--json", data=data)
    still_uid = str(dcmread(still).StudyInstanceUID)
    return Library(data, source, json.loads(said.stdout), ct_uids, still_uid)


def test_import_keeps_what_is_dicom_and_says_what_it_left_out(library: Library) -> None:
    files, series = library.said["files"], library.said["series"]
    assert (files["accepted"], files["duplicates"]) == ({"new": 8, "replaced": 0}, 1)
    assert files["skipped"] == {"not a DICOM file": [str(library.source / "notes.txt")]}
    assert library.said["embedded"] is True
    assert (series["indexed"], series["nothing_to_embed"]) == (4, {})
    assert list(series["quarantined"].values()) == [1]
    status = json.loads(similis("status", "--json", data=library.data).stdout)
    assert status["series"] == {"indexed": 4, "quarantined": 1}
    assert (status["instances"], status["clips"]) == (8, 4)
    assert status["jobs"] == {}, "nobody asked for reports"
    (series,) = status["quarantined"]
    assert "pixel data is less than expected" in series["reason"]
    assert list(status["embeddings"]) == [status["encoder"]["model_id"]]


def test_a_second_import_changes_nothing(library: Library) -> None:
    before = rows_of(library.data)

    said = json.loads(similis("import", library.source, "--json", data=library.data).stdout)

    assert said["files"]["accepted"] == {"new": 0, "replaced": 0}
    assert said["files"]["duplicates"] == 9
    assert said["series"] == {"indexed": 0, "nothing_to_embed": {}, "quarantined": {}}
    assert rows_of(library.data) == before


def test_an_import_of_nothing_that_is_dicom_fails(library: Library) -> None:
    said = similis("import", library.source / "notes.txt", data=library.data, expect=1)

    assert "not a DICOM file" in said.stdout


def test_quarantined_series_are_tried_again_on_demand(tmp_path: Path) -> None:
    data, still = tmp_path / "data", phantoms.still(tmp_path, new_uid=phantoms.uid_source(5))
    said = similis("import", still, "--json", data=data, SIMILIS_ENCODER__TIMEOUT_S="0.001")
    ((reason, number),) = json.loads(said.stdout)["series"]["quarantined"].items()
    assert (reason.split(" 0.001")[0], number) == ("the embedding process took longer than", 1)
    uid = str(dcmread(still).SeriesInstanceUID)

    assert "1.2.3 is not known" in similis("retry", uid, "1.2.3", data=data, expect=1).stderr
    assert "ready" not in counts_of(data).jobs, "all are known, or none is tried"
    said = similis("retry", uid, "--json", data=data)

    assert json.loads(said.stdout)["asked"] == [uid]
    assert json.loads(said.stdout)["series"]["indexed"] == 1
    counts = counts_of(data)
    assert (counts.series, counts.quarantined, counts.jobs) == ({"indexed": 1}, (), {})
    assert "No series is quarantined" in similis("retry", data=data).stdout


def test_a_wait_for_what_another_installation_holds_is_said(tmp_path: Path) -> None:
    data = tmp_path / "data"
    similis("import", phantoms.still(tmp_path, new_uid=phantoms.uid_source(5)), data=data)
    parts = open_parts(Config(data=data))
    parts.jobs.enqueue(JobKind.EMBED, 1)
    assert parts.jobs.claim([JobKind.EMBED], worker="another", lease_s=20.0) is not None
    parts.close()

    said = similis("import", tmp_path, data=data)

    assert "another installation on this catalogue holds a series" in said.stderr
    assert counts_of(data).jobs == {}


def test_only_an_import_that_says_so_asks_for_reports(tmp_path: Path) -> None:
    ct_study(tmp_path / "ct", seed=1)

    similis("import", tmp_path / "ct", "--report", data=tmp_path / "data")

    assert counts_of(tmp_path / "data").jobs == {"ready": 1}


def test_similar_ranks_the_other_studies_by_falling_score(library: Library) -> None:
    cases = cases_of(similis("similar", library.ct_uids[0], "--json", data=library.data))

    assert [case["rank"] for case in cases] == [1, 2, 3]
    scores = [case["score"] for case in cases]
    assert scores == sorted(scores, reverse=True)
    others = {*library.ct_uids[1:], library.still_uid}
    assert {case["study_instance_uid"] for case in cases} == others


@pytest.mark.parametrize(
    ("options", "expected"),
    [(["-k", "1", "--modality", "ct"], ["CT"]), (["--body-part", "KNEE"], [])],
)
def test_similar_keeps_to_the_options(
    library: Library, options: list[str], expected: list[str]
) -> None:
    cases = cases_of(similis("similar", library.ct_uids[0], *options, "--json", data=library.data))

    assert [case["modality"] for case in cases] == expected


def test_similar_takes_files_that_are_not_kept_and_does_not_keep_them(
    library: Library, tmp_path: Path
) -> None:
    before = counts_of(library.data)
    ct_study(tmp_path, seed=1, uid_seed=77, patient_id="STRANGER")

    said = similis("similar", tmp_path, data=library.data).stdout

    lines = [line for line in said.splitlines() if "2.25." in line]
    assert library.ct_uids[0] in lines[0], "its pixels are the same"
    assert "1.0000" in lines[0]
    assert counts_of(library.data) == before


def test_an_unknown_study_is_a_failure_with_one_clear_line(library: Library) -> None:
    said = similis("similar", "1.2.3.4", data=library.data, expect=1)

    assert said.stdout == ""
    assert said.stderr == (
        "similis: study 1.2.3.4 is not known here; `similis import` takes studies in\n"
    )


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["similar"], "give an example, or what the cases are to be"),
        (["similar", "1.2", "-k", "0"], "-k"),
        (["similar", "1.2", "--slice", "1"], "not of a Study Instance UID"),
        (["similar", "1.2", "--box", "1,2,3"], "x,y,width,height"),
        (["similar", "1.2", "--not", "."], "examples that are files"),
        (["import", "/no/such/folder"], "/no/such/folder does not exist"),
        (["serve", "--log-level", "loud"], "--log-level"),
        (["status", "--config", "/no/such.toml"], "/no/such.toml"),
        (["forgive"], "No such command"),
    ],
)
def test_bad_usage_is_exit_code_2_with_the_option_at_fault(
    library: Library, arguments: list[str], complaint: str
) -> None:
    said = similis(*arguments, expect=2)

    assert complaint in said.stderr
    assert "Traceback" not in said.stderr


def test_check_finds_nothing_where_nothing_is_wrong(library: Library) -> None:
    said = similis("check", data=library.data)

    assert said.stdout == AGREE


def test_check_names_what_is_wrong_and_repairs_what_it_can(
    library: Library, tmp_path: Path
) -> None:
    data = tmp_path / "data"
    shutil.copytree(library.data, data)
    store = data / "store"
    gone, damaged, *_ = sorted(path.relative_to(store) for path in store.rglob("*.dcm"))
    (store / gone).unlink()
    with (store / damaged).open("r+b") as file:
        file.seek(-10, os.SEEK_END)
        file.write(b"\xff" * 10)
    meta, dataset, header = read_file(Path(get_testdata_file("CT_small.dcm", download=False) or ""))
    # Written, and then the power fails before there is a row.
    orphan = Store(store).write(dataset, with_meta(header, meta)).relative_path

    torn = store / "00" / f"{'0' * 64}.dcm"
    torn.write_bytes(b"half of a fi")

    found = findings(similis("check", "--json", "--read", data=data, expect=1))
    assert found == {
        str(gone): "a row whose file is gone",
        str(damaged): "a file that is not what was received",
        orphan: "a whole file without a row",
        str(torn.relative_to(store)): "a damaged file without a row",
    }

    repaired = similis("check", "--json", "--read", "--repair", data=data, expect=1)
    outcomes = {row["subject"]: row["outcome"] for row in json.loads(repaired.stdout)}
    assert outcomes == {
        str(gone): "beyond repair",
        str(damaged): "beyond repair",
        orphan: "repaired",
        str(torn.relative_to(store)): "repaired",
    }
    assert counts_of(data).instances == 7
    similis("import", library.source, data=data)  # what was lost is sent again
    left = findings(similis("check", "--json", "--read", "--repair", data=data))
    assert set(left.values()) == {"a damaged file that was set aside"}  # for people to look at
    assert findings(similis("check", "--json", "--read", data=data)) == left
    assert counts_of(data).instances == 9


def test_config_says_where_every_value_came_from(tmp_path: Path) -> None:
    file = tmp_path / "similis.toml"
    file.write_text('[dicom]\nae_title = "FROM_FILE"\nport = 1\n')

    said = similis(
        "config", "--json", "--config", file, data=tmp_path / "d", SIMILIS_DICOM__PORT="104"
    )

    settings = json.loads(said.stdout)
    assert settings["dicom.ae_title"] == {"value": "FROM_FILE", "source": str(file)}
    assert settings["dicom.port"] == {"value": 104, "source": "environment"}
    assert settings["data"] == {"value": str(tmp_path / "d"), "source": "flag"}
    assert settings["dicom.query_port"] == {"value": 11113, "source": "default"}
    assert not (tmp_path / "d").exists()


def similis(
    *arguments: object, data: Path | None = None, expect: int = 0, **environment: str
) -> subprocess.CompletedProcess[str]:
    """Run a command to its end; fail unless its exit code is the one to expect."""
    options = ["--data", data] if data else []
    said = subprocess.run(
        [sys.executable, "-m", "dicom_node", *map(str, (*arguments, *options))],
        capture_output=True,
        env={**os.environ, "COLUMNS": "100", **environment},
        text=True,
        timeout=120,
        check=False,
    )
    assert said.returncode == expect, said.stderr
    return said


def counts_of(data: Path) -> Counts:
    parts = open_parts(Config(data=data))
    counts = parts.catalogue.counts()
    parts.close()
    return counts


def rows_of(data: Path) -> dict[str, list[Any]]:
    """Return every row of every table of the catalogue."""
    with closing(sqlite3.connect(data / "catalogue.sqlite")) as connection:
        tables = connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")
        names = [name for (name,) in tables.fetchall()]
        return {name: connection.execute(f'SELECT * FROM "{name}"').fetchall() for name in names}


def cases_of(said: subprocess.CompletedProcess[str]) -> Any:
    return json.loads(said.stdout)["cases"]


def findings(said: subprocess.CompletedProcess[str]) -> dict[str, str]:
    return {row["subject"]: row["trouble"] for row in json.loads(said.stdout)}


def ct_study(folder: Path, seed: int, *, uid_seed: int | None = None, patient_id: str = "") -> str:
    """Write a CT study of two slices; return its Study Instance UID."""
    paths = phantoms.ct_series(
        folder,
        new_uid=phantoms.uid_source(uid_seed or seed),
        slices=2,
        size=64,
        seed=seed,
        patient_id=patient_id or f"PATIENT {seed}",
    )
    return str(dcmread(paths[0]).StudyInstanceUID)
