from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from sqlalchemy import text
from sqlalchemy.engine import Engine

from index.db import connect, migrate
from index.errors import DatabaseUnavailable, SchemaMismatch
from index.models import Base


@pytest.fixture
def engine(tmp_path: Path) -> Engine:
    return connect(f"sqlite:///{tmp_path / 'a 100% odd name.db'}")


def test_migrated_schema_equals_the_models(engine: Engine) -> None:
    migrate(engine)
    with engine.connect() as connection:
        context = MigrationContext.configure(connection, opts={"compare_type": True})
        assert compare_metadata(context, Base.metadata) == []


def test_models_describe_the_same_table_text_as_the_migration(
    engine: Engine, tmp_path: Path
) -> None:
    migrate(engine)
    modelled = connect(f"sqlite:///{tmp_path / 'modelled.db'}")
    Base.metadata.create_all(modelled)
    assert _schema(engine) == _schema(modelled)


def _schema(engine: Engine) -> dict[str, list[str]]:
    """Return by table and index the lines of its definition, without order and punctuation."""
    wanted = text(
        "SELECT name, sql FROM sqlite_master WHERE sql IS NOT NULL "
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
    assert caught.value.expected == "0003"


def test_a_commit_is_on_disk_when_it_returns(engine: Engine) -> None:
    with engine.connect() as connection:
        pragmas = ("journal_mode", "synchronous", "foreign_keys", "busy_timeout")
        values = [connection.execute(text(f"PRAGMA {name}")).scalar() for name in pragmas]
    assert values == ["wal", 2, 1, 30_000]


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
