"""The connection to the database, its transactions and its schema.

Owns SQLite's settings, the translation of driver errors, and running the migrations; knows no
table. SQLite and PostgreSQL differ here and nowhere else.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from datetime import datetime
from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, Engine, create_engine, event, make_url
from sqlalchemy.exc import ArgumentError, DatabaseError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from sqlalchemy.pool import ConnectionPoolEntry

from index.errors import CatalogueFull, DatabaseUnavailable, SchemaMismatch

BUSY_TIMEOUT_S = 30
_KEPT_CONNECTIONS = 5
_FULL = ("disk is full", "No space left on device")  # SQLite, PostgreSQL
_BEGIN = "sqlite_begin"  # execution option of a connection: how SQLite begins its transactions


def connect(url: str, *, connections: int = 15) -> Engine:
    """Return an engine for `url` after a first connection; raises DatabaseUnavailable.

    At most `connections` are open at once; a few are kept.
    """
    try:
        # Parameters hold patient names: they must not reach a message or a log.
        engine = create_engine(
            make_url(url),
            hide_parameters=True,
            pool_size=_KEPT_CONNECTIONS,
            max_overflow=max(0, connections - _KEPT_CONNECTIONS),
        )
    except ArgumentError:
        # The text of a URL that cannot be parsed may hold a password: do not repeat it.
        raise DatabaseUnavailable("(unreadable URL)", "not a database URL") from None
    if engine.dialect.name == "sqlite":
        event.listen(engine, "connect", _set_up_sqlite)
        event.listen(engine, "begin", _begin_sqlite)
    with _translated(engine), engine.connect():
        pass
    return engine


def _set_up_sqlite(connection: sqlite3.Connection, _: ConnectionPoolEntry) -> None:
    connection.isolation_level = None  # BEGIN is ours, see _begin_sqlite
    connection.execute(f"PRAGMA busy_timeout = {BUSY_TIMEOUT_S * 1000}")
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("PRAGMA synchronous = FULL")  # a commit is on disk when it returns
    connection.execute("PRAGMA foreign_keys = ON")
    # As PostgreSQL has them: LIKE tells capitals from small letters, lower() knows every script.
    connection.execute("PRAGMA case_sensitive_like = ON")
    connection.create_function("lower", 1, str.lower, deterministic=True)


def _begin_sqlite(connection: Connection) -> None:
    mode = connection.get_execution_options().get(_BEGIN, "DEFERRED")
    connection.exec_driver_sql(f"BEGIN {mode}")


@contextmanager
def _translated(engine: Engine) -> Iterator[None]:
    """Turn a driver's refusal into DatabaseUnavailable or CatalogueFull, without parameters."""
    url = engine.url.render_as_string(hide_password=True)
    try:
        yield
    except PoolTimeout as error:
        raise DatabaseUnavailable(url, "all connections are in use") from error
    except DatabaseError as error:
        # Subclasses other than OperationalError are programming errors, not a database's refusal.
        if not isinstance(error, OperationalError) and type(error) is not DatabaseError:
            raise
        reason = str(error.orig)
        kind = CatalogueFull if any(text in reason for text in _FULL) else DatabaseUnavailable
        raise kind(url, reason) from error


class Database:
    """An engine and a clock: every transaction of the house begins here.

    `clock` returns the time as an aware datetime. Safe for many threads.
    """

    def __init__(self, engine: Engine, clock: Callable[[], datetime]) -> None:
        self.engine = engine
        self._clock = clock

    def now(self) -> float:
        """Return the time as UTC seconds since 1970, as the tables keep it."""
        return self._clock().timestamp()

    @contextmanager
    def reading(self) -> Iterator[Connection]:
        """Open a transaction that only reads."""
        with _translated(self.engine), self.engine.begin() as connection:
            yield connection

    @contextmanager
    def writing(self) -> Iterator[Connection]:
        """Open a transaction that writes; it is on disk when the block ends.

        On SQLite it takes the write lock at once: a lock asked for later, after reading, may be
        refused without waiting (https://www.sqlite.org/lang_transaction.html).
        """
        engine = self.engine.execution_options(**{_BEGIN: "IMMEDIATE"})
        with _translated(self.engine), engine.begin() as connection:
            yield connection


def migrate(engine: Engine) -> None:
    """Bring the schema up to date, in one transaction; raises SchemaMismatch for a newer one."""
    config = _migrations()
    immediate = engine.execution_options(**{_BEGIN: "IMMEDIATE"})
    with _translated(engine), immediate.begin() as connection:
        found = MigrationContext.configure(connection).get_current_revision()
        if found is not None:
            check_schema(found)
        config.attributes["connection"] = connection
        command.upgrade(config, "head")


def copy_database(engine: Engine, target: Path) -> None:
    """Copy a SQLite database as it is at one moment, into a new file, while it is written to.

    By SQLite's online backup (https://www.sqlite.org/backup.html), in one step: writers go on, in
    their log. Raises CatalogueFull, DatabaseUnavailable.
    """
    with _translated(engine), closing(engine.raw_connection()) as connection:
        source = connection.driver_connection
        if not isinstance(source, sqlite3.Connection):
            raise DatabaseUnavailable(str(target), "only SQLite is copied as a file")
        try:
            with closing(sqlite3.connect(target)) as copy:
                source.backup(copy)
        except sqlite3.Error as error:
            kind = CatalogueFull if any(said in str(error) for said in _FULL) else None
            raise (kind or DatabaseUnavailable)(str(target), str(error)) from error


def newest_schema() -> str:
    """Return the schema that `migrate` leads to."""
    return ScriptDirectory.from_config(_migrations()).get_current_head() or "none"


def check_schema(found: str) -> None:
    """Refuse a schema that this version does not know; raises SchemaMismatch."""
    script = ScriptDirectory.from_config(_migrations())
    if found not in {revision.revision for revision in script.walk_revisions()}:
        raise SchemaMismatch(found, script.get_current_head() or "none")


def _migrations() -> Config:
    config = Config()
    folder = str(Path(__file__).parent / "migrations")
    config.set_main_option("script_location", folder.replace("%", "%%"))  # as configparser wants
    return config
