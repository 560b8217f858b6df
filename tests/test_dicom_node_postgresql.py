"""The node on PostgreSQL: from a push to an answer, and a catalogue that moves there."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from peers import wait_for
from postgres import Server, closed_connections
from sqlalchemy import text
from test_dicom_node_cli import similis

from dicom_node.cli.migrate_database import migrate_database
from dicom_node.config import Config
from dicom_node.node import Node
from training import phantoms


@pytest.fixture
def url(postgresql: Server) -> Iterator[str]:
    with postgresql.database() as url, closed_connections():
        yield url


@pytest.fixture
def images(tmp_path: Path) -> Path:
    """A folder of three studies."""
    folder = tmp_path / "images"
    folder.mkdir()
    for number in range(3):
        uids = phantoms.uid_source(number)
        still = phantoms.still(tmp_path, new_uid=uids, size=(64, 48))
        still.rename(folder / f"{number}.dcm")
    return folder


def test_a_study_is_indexed_in_the_table_of_its_encoder(
    url: str, start_node: Callable[..., Node], images: Path
) -> None:
    node = start_node(storage={"database_url": url})
    for path in sorted(images.iterdir()):
        with path.open("rb") as file:
            node._parts.intake.take_file(file, source="test")
    model = node.model.model_id
    wait_for("indexing", lambda: node.catalogue.counts().embeddings.get(model) == 3)
    table = f'"vector_{model}"'

    def indexed() -> bool:
        with node.catalogue.reading() as connection:
            return connection.execute(text(f"SELECT count(*) FROM {table}")).scalar() == 3

    wait_for("its vectors in the table", indexed)


def test_a_catalogue_that_moved_answers_as_before(url: str, images: Path, tmp_path: Path) -> None:
    data = tmp_path / "data"
    similis("import", images, data=data)
    example = sorted(images.iterdir())[0]
    question = ("similar", example, "--json", "--same-patient")
    before = json.loads(similis(*question, data=data).stdout)

    moved = json.loads(similis("migrate-database", url, "--json", data=data).stdout)
    assert moved["instance"]["rows"] == 3

    after = similis(*question, data=data, SIMILIS_STORAGE__DATABASE_URL=url)
    assert json.loads(after.stdout) == before
    refused = similis("migrate-database", url, data=data, expect=1)
    assert "not empty" in refused.stderr


def test_a_catalogue_moved_to_where_pgvector_is_not_says_so(
    url: str,
    images: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    data = tmp_path / "data"
    similis("import", images, data=data)
    missing = text("CREATE EXTENSION no_such_extension")
    monkeypatch.setattr("index.pgvector_table._EXTENSION", missing)

    migrate_database(url, data=data)

    told = capsys.readouterr()
    assert "the copy is whole, but before it can answer: PostgreSQL's extension" in told.err
    assert "Copied and verified" in told.out


def test_pgvector_needs_postgresql() -> None:
    with pytest.raises(ValueError, match="PostgreSQL"):
        Config.model_validate({"index": {"engine": "pgvector"}})
    assert Config.model_validate({"index": {"engine": "auto"}}).engine == "hnswlib"
    on_server = {"storage": {"database_url": "postgresql://db/similis"}}
    assert Config.model_validate(on_server).engine == "pgvector"
    kept = on_server | {"index": {"engine": "hnswlib"}}
    assert Config.model_validate(kept).engine == "hnswlib"
