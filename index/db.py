"""The connection to the database, its transactions and its schema.

Owns the settings of SQLite and PostgreSQL, the translation of driver errors, what keeps writers
apart, and running the migrations; knows no table.

SQLite has one writer at a time. On PostgreSQL writers go side by side and see what others committed
between two statements: whoever reads what it then changes locks the row (`with_for_update`, the
study before its series) or, where there may be no row yet, a name (`hold`).
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from datetime import datetime
from functools import wraps
from hashlib import blake2b
from pathlib import Path
from typing import Any, ParamSpec, TypeVar

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import URL, Compiled, Connection, Engine, create_engine, event, make_url, text
from sqlalchemy.exc import (
    ArgumentError,
    DatabaseError,
    DBAPIError,
    IntegrityError,
    OperationalError,
)
from sqlalchemy.exc import TimeoutError as PoolTimeout
from sqlalchemy.pool import ConnectionPoolEntry

from index.errors import CatalogueFull, DatabaseUnavailable, Overtaken, SchemaMismatch

P = ParamSpec("P")
T = TypeVar("T")

BUSY_TIMEOUT_S = 30
_KEPT_CONNECTIONS = 5
_FULL = ("disk is full", "No space left on device")  # SQLite, PostgreSQL
_BEGIN = "sqlite_begin"  # execution option of a connection: how SQLite begins its transactions
_TRIES = 5
_SCHEMA = "schema of Similis"

POSTGRESQL = "postgresql"
_DRIVERS = {"postgresql": "postgresql+psycopg", "postgres": "postgresql+psycopg"}
# A server that is gone is noticed, and of several hosts in the URL the one that writes is taken.
_POSTGRESQL_DEFAULTS = {
    "application_name": "similis",
    "connect_timeout": "10",
    "keepalives_idle": "10",
    "keepalives_interval": "5",
    "keepalives_count": "3",
    "tcp_user_timeout": "30000",
    "target_session_attrs": "read-write",
}
# What PostgreSQL says of two transactions of which only one could go on, and when it refuses work.
_OVERTAKEN = frozenset({"40001", "40P01"})
_REFUSED = frozenset({"25006", "42501"})  # read-only (a standby), no permission
_HOLD = text("SELECT pg_advisory_xact_lock(key) FROM unnest(CAST(:keys AS bigint[])) AS key")
_COMMIT_DURABLY = (
    "SELECT set_config('synchronous_commit', 'on', false)"
    " WHERE current_setting('synchronous_commit') = 'off'"
)


def connect(url: str, *, connections: int = 15) -> Engine:
    """Return an engine for `url` after a first connection; raises DatabaseUnavailable.

    At most `connections` are open at once; a few are kept.
    """
    address = _address(url)
    try:
        # Parameters hold patient names: they must not reach a message or a log.
        engine = create_engine(
            address,
            hide_parameters=True,
            pool_size=_KEPT_CONNECTIONS,
            pool_use_lifo=True,  # the last one used has the most pages in its cache
            max_overflow=max(0, connections - _KEPT_CONNECTIONS),
            pool_pre_ping=is_postgresql(address),  # a connection may be older than its server
        )
    except ArgumentError:
        raise _unreadable() from None
    except ModuleNotFoundError as error:
        reason = f"{error.name} is not installed: pip install 'similis[postgresql]'"
        raise DatabaseUnavailable(address.render_as_string(), reason) from error
    if is_postgresql(address):
        event.listen(engine, "connect", _set_up_postgresql)
    else:
        event.listen(engine, "connect", _set_up_sqlite)
        event.listen(engine, "begin", _begin_sqlite)
    with _translated(engine), engine.connect() as connection:
        if is_postgresql(address):
            _check_encoding(connection)
    return engine


def is_postgresql(address: URL) -> bool:
    """Tell PostgreSQL from SQLite."""
    return address.get_backend_name() == POSTGRESQL


def _address(url: str) -> URL:
    try:
        address = make_url(url)
        address = address.set(drivername=_DRIVERS.get(address.drivername, address.drivername))
        known = address.get_backend_name() in (POSTGRESQL, "sqlite")
    except ArgumentError:
        known = False
    if not known:
        raise _unreadable() from None
    if is_postgresql(address):
        address = address.update_query_dict(_POSTGRESQL_DEFAULTS | dict(address.query))
    return address


def _unreadable() -> DatabaseUnavailable:
    # The text of a URL that cannot be parsed may hold a password: do not repeat it.
    return DatabaseUnavailable("(unreadable URL)", "not a URL of SQLite or PostgreSQL")


def _set_up_postgresql(connection: Any, _: ConnectionPoolEntry) -> None:
    connection.execute(_COMMIT_DURABLY)  # a commit is on disk when it returns
    connection.commit()


def _check_encoding(connection: Connection) -> None:
    encoding = connection.exec_driver_sql("SHOW server_encoding").scalar_one()
    if encoding != "UTF8":
        url = connection.engine.url.render_as_string()
        raise DatabaseUnavailable(url, f"its encoding is {encoding}, and must be UTF8")


def _set_up_sqlite(connection: sqlite3.Connection, _: ConnectionPoolEntry) -> None:
    connection.isolation_level = None  # BEGIN is ours, see _begin_sqlite
    connection.execute(f"PRAGMA busy_timeout = {BUSY_TIMEOUT_S * 1000}")
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("PRAGMA synchronous = FULL")  # a commit is on disk when it returns
    connection.execute("PRAGMA foreign_keys = ON")
    connection.execute("PRAGMA secure_delete = ON")  # what is forgotten is overwritten
    # As PostgreSQL has them: LIKE tells capitals from small letters, lower() knows every script.
    connection.execute("PRAGMA case_sensitive_like = ON")
    connection.create_function("lower", 1, str.lower, deterministic=True)


def _begin_sqlite(connection: Connection) -> None:
    mode = connection.get_execution_options().get(_BEGIN, "DEFERRED")
    connection.exec_driver_sql(f"BEGIN {mode}")


@contextmanager
def _translated(engine: Engine) -> Iterator[None]:
    """Turn a driver's refusal into DatabaseUnavailable or CatalogueFull, without parameters."""
    try:
        yield
    except PoolTimeout as error:
        raise DatabaseUnavailable(_shown(engine), "all connections are in use") from error
    except DBAPIError as error:
        if not _is_refusal(error):
            raise
        url = _shown(engine)
        # PostgreSQL's further lines may repeat values.
        reason = str(error.orig).partition("\n")[0].strip()
        if getattr(error.orig, "sqlstate", None) in _OVERTAKEN:
            raise Overtaken(url, reason) from error
        kind = CatalogueFull if any(text in reason for text in _FULL) else DatabaseUnavailable
        raise kind(url, reason) from error


def _shown(engine: Engine) -> str:
    return engine.url.set(query={}).render_as_string(hide_password=True)


def _is_refusal(error: DBAPIError) -> bool:
    """Tell a database's refusal from a programming error, which the other classes are."""
    # "file is not a database" is a bare DatabaseError of SQLite.
    if isinstance(error, OperationalError) or type(error) is DatabaseError:
        return True
    return error.connection_invalidated or getattr(error.orig, "sqlstate", None) in _REFUSED


class Database:
    """An engine and a clock: every transaction of the house begins here.

    `clock` returns the time as an aware datetime. Safe for many threads.
    """

    def __init__(self, engine: Engine, clock: Callable[[], datetime]) -> None:
        self.engine = engine
        self._clock = clock
        # Of SQLite it is so anyway: whoever reads sees one moment.
        one_moment = {"isolation_level": "REPEATABLE READ"} if is_postgresql(engine.url) else {}
        self._reader = engine.execution_options(**one_moment)

    def now(self) -> float:
        """Return the time as UTC seconds since 1970, as the tables keep it."""
        return self._clock().timestamp()

    @contextmanager
    def reading(self) -> Iterator[Connection]:
        """Open a transaction that only reads, and sees the rows of one moment."""
        with _translated(self.engine), self._reader.begin() as connection:
            yield connection

    def glance(self, statement: Compiled, **values: object) -> list[tuple[Any, ...]]:
        """Return the rows of one statement, as the driver gives them, of one moment.

        Past SQLAlchemy's execution, which costs more than a search spends on all the rest.
        """
        order = getattr(statement, "positiontup", None)  # where parameters have no names
        parameters = values if order is None else tuple(values[name] for name in order)
        driver = self.engine.dialect.loaded_dbapi
        with _translated(self.engine), closing(self.engine.raw_connection()) as connection:
            cursor = connection.cursor()
            try:
                cursor.execute(statement.string, parameters)
                return list(cursor.fetchall())
            except driver.Error as error:
                gone = self.engine.dialect.is_disconnect(error, connection, cursor)
                if gone:
                    connection.invalidate(error)
                raise DBAPIError.instance(
                    statement.string,
                    None,  # parameters may be names of patients
                    error,
                    driver.Error,
                    hide_parameters=True,
                    connection_invalidated=gone,
                    dialect=self.engine.dialect,
                ) from error

    @contextmanager
    def writing(self) -> Iterator[Connection]:
        """Open a transaction that writes; it is on disk when the block ends.

        On SQLite it takes the write lock at once: a lock asked for later, after reading, may be
        refused without waiting (https://www.sqlite.org/lang_transaction.html).
        """
        engine = self.engine.execution_options(**{_BEGIN: "IMMEDIATE"})
        with _translated(self.engine), engine.begin() as connection:
            yield connection

    @contextmanager
    def outside_transactions(self) -> Iterator[Connection]:
        """Open a connection whose every statement is a transaction, as VACUUM needs it."""
        engine = self.engine.execution_options(isolation_level="AUTOCOMMIT")
        with _translated(self.engine), engine.connect() as connection:
            yield connection


def repeated(method: Callable[P, T]) -> Callable[P, T]:
    """Let a method, one transaction as a whole, run again where another one got in its way.

    PostgreSQL ends one of two transactions that wait for each other, and one of two that enter the
    same row: the next try finds the row.
    """

    @wraps(method)
    def tries(*args: P.args, **kwargs: P.kwargs) -> T:
        for _ in range(_TRIES - 1):
            try:
                return method(*args, **kwargs)
            except (IntegrityError, Overtaken):
                continue
        return method(*args, **kwargs)

    return tries


def hold(connection: Connection, *names: str) -> None:
    """Keep everyone else who holds one of these names waiting until the transaction ends.

    For what may have no row yet that could be locked. The order is that of the keys, the same for
    all, so that no two wait for each other. On SQLite a writer is alone.
    """
    if connection.dialect.name == POSTGRESQL:
        keys = sorted({_key(name) for name in names})
        connection.execute(_HOLD, {"keys": keys})


def _key(name: str) -> int:
    digest = blake2b(name.encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big", signed=True)


def migrate(engine: Engine) -> None:
    """Bring the schema up to date, in one transaction; raises SchemaMismatch for a newer one.

    Of two nodes that start at once one waits for the other.
    """
    config = _migrations()
    immediate = engine.execution_options(**{_BEGIN: "IMMEDIATE"})
    with _translated(engine), immediate.begin() as connection:
        hold(connection, _SCHEMA)
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
