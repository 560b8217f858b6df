import threading
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from postgres import Server, closed_connections
from sqlalchemy import text
from sqlalchemy.engine import Engine

from index.db import Database, connect, migrate, newest_schema
from index.errors import DatabaseUnavailable, SchemaMismatch
from index.tables import METADATA


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request: pytest.FixtureRequest, tmp_path: Path, postgresql: Server) -> Iterator[str]:
    """A database without tables, of each kind."""
    if request.param == "sqlite":
        yield f"sqlite:///{tmp_path / 'a 100% odd name.db'}"
        return
    with postgresql.database() as new, closed_connections():
        yield new


@pytest.fixture
def engine(url: str) -> Engine:
    return connect(url)


@pytest.fixture
def sqlite(tmp_path: Path) -> Engine:
    return connect(f"sqlite:///{tmp_path / 'similis.db'}")


def test_migrated_schema_equals_the_models(engine: Engine) -> None:
    migrate(engine)
    with engine.connect() as connection:
        context = MigrationContext.configure(connection, opts={"compare_type": True})
        assert compare_metadata(context, METADATA) == []


def test_models_describe_the_same_table_text_as_the_migration(
    sqlite: Engine, tmp_path: Path
) -> None:
    migrate(sqlite)
    modelled = connect(f"sqlite:///{tmp_path / 'modelled.db'}")
    METADATA.create_all(modelled)
    assert _schema(sqlite) == _schema(modelled)


def _schema(engine: Engine) -> dict[str, list[str]]:
    """Return by table and index the lines of its definition, without order and punctuation."""
    wanted = text(
        "SELECT name, sql FROM sqlite_master WHERE type IN ('table', 'index') AND sql IS NOT NULL "
        "AND name NOT LIKE 'alembic%' AND name NOT LIKE 'sqlite%'"
    )
    with engine.connect() as connection:
        return {
            name: sorted(line.strip("\t ,") for line in sql.splitlines())
            for name, sql in connection.execute(wanted)
        }


def test_migrating_twice_is_harmless(engine: Engine) -> None:
    migrate(engine)
    migrate(engine)


def test_a_newer_schema_is_refused(engine: Engine) -> None:
    migrate(engine)
    with engine.begin() as connection:
        connection.execute(text("UPDATE alembic_version SET version_num = '9999'"))
    with pytest.raises(SchemaMismatch, match="9999") as caught:
        migrate(engine)
    assert caught.value.expected == newest_schema()


def test_a_commit_is_on_disk_when_it_returns(sqlite: Engine) -> None:
    with sqlite.connect() as connection:
        pragmas = ("journal_mode", "synchronous", "foreign_keys", "busy_timeout")
        values = [connection.execute(text(f"PRAGMA {name}")).scalar() for name in pragmas]
    assert values == ["wal", 2, 1, 30_000]


def test_a_commit_is_on_disk_where_postgresql_is_set_to_be_faster(postgresql: Server) -> None:
    with postgresql.database() as url, closed_connections():
        faster = connect(f"{url}?options=-csynchronous_commit%3Doff")
        with faster.connect() as connection:
            assert connection.execute(text("SHOW synchronous_commit")).scalar() == "on"


def test_two_nodes_that_start_at_once_both_find_the_schema(url: str) -> None:
    engines = [connect(url), connect(url)]
    errors: list[BaseException] = []

    def start(engine: Engine) -> None:
        try:
            migrate(engine)
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=start, args=(engine,)) for engine in engines]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []
    with engines[0].connect() as connection:
        assert len(connection.execute(text("SELECT * FROM alembic_version")).all()) == 1


def test_a_server_that_is_not_there_is_told_at_once_without_its_password() -> None:
    with pytest.raises(DatabaseUnavailable, match="refused") as caught:
        connect("postgresql://similis:secret@127.0.0.1:1/similis")
    assert "secret" not in str(caught.value)
    assert "running" in str(caught.value)


def test_a_database_of_another_encoding_is_refused(postgresql: Server) -> None:
    create = "CREATE DATABASE latin TEMPLATE template0 ENCODING LATIN1 LOCALE 'C'"
    postgresql.execute(f"{create} LOCALE_PROVIDER libc")
    with closed_connections(), pytest.raises(DatabaseUnavailable, match="LATIN1"):
        connect(postgresql.url("latin"))


def test_readers_see_one_moment(url: str) -> None:
    """Of PostgreSQL too, where each statement could see what was committed before it."""
    engine, other = connect(url), connect(url)
    with engine.begin() as connection:
        connection.execute(text("CREATE TABLE note (number INTEGER)"))
    with Database(engine, lambda: datetime.now(UTC)).reading() as connection:
        count = text("SELECT count(*) FROM note")
        assert connection.execute(count).scalar() == 0
        with other.begin() as writing:
            writing.execute(text("INSERT INTO note VALUES (1)"))
        assert connection.execute(count).scalar() == 0


def test_a_file_that_is_no_database_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "image.db"
    path.write_bytes(b"DICM" * 1000)
    with pytest.raises(DatabaseUnavailable, match="not a database"):
        connect(f"sqlite:///{path}")


def test_an_error_does_not_show_the_password() -> None:
    with pytest.raises(DatabaseUnavailable) as caught:
        connect("sqlite://user:secret@/nowhere/at/all.db")
    assert "secret" not in str(caught.value)


def test_a_path_that_cannot_be_opened_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DatabaseUnavailable, match="unable to open"):
        connect(f"sqlite:///{tmp_path / 'no such folder' / 'similis.db'}")
