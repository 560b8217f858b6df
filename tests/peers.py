"""The real peers the tests talk to: DCMTK, Orthanc and a node in a process of its own.

Each is started on a free loopback port and ended by its pid. Tools are named by absolute path: a
virtual environment may hold others of the same name.
"""

import contextlib
import itertools
import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from pynetdicom import evt

from dicom_node.config import Config
from dicom_node.listener import is_cancelled
from dicom_node.settings import load
from index.catalogue import Catalogue

# Debian's DCMTK and Orthanc leave Nagle's algorithm on, which costs 45 ms an instance.
ENVIRONMENT = {**os.environ, "TCP_NODELAY": "1"}

QUICK = {"series_quiet_s": 0.3, "study_quiet_s": 0.6, "quiet_s_by_modality": {}}


def free_port() -> int:
    """Return a port that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def tool(name: str) -> str:
    """Return the absolute path of a Debian tool; fail when it is not installed."""
    for folder in ("/usr/bin", "/usr/sbin"):
        path = Path(folder) / name
        if path.exists():
            return str(path)
    raise AssertionError(f"{name} is missing: `make peers` installs it")


def run(
    name: str, *arguments: object, check: bool = True, **environment: str
) -> subprocess.CompletedProcess[str]:
    """Run a tool to its end and return its output, stderr included in stdout."""
    return subprocess.run(
        [tool(name), *map(str, arguments)],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        env=ENVIRONMENT | environment,
        text=True,
        errors="replace",
        timeout=120,
        check=check,
    )


def dcmsend(port: int, *paths: Path) -> None:
    """Push files, and folders of them, with DCMTK as they are; fail unless all were stored."""
    options = ("-v", "-dn", "-nuc", "+sd", "+r", "-aec", "SIMILIS")
    said = run("dcmsend", *options, "127.0.0.1", port, *paths).stdout
    sent, stored = (re.search(rf"{of} *: (\d+)", said) for of in ("to the peer", "status SUCCESS"))
    assert sent and stored and sent[1] == stored[1], said


def wait_for(what: str, condition: Any, timeout_s: float = 60.0) -> Any:
    """Return the first true value of `condition()`; fail after `timeout_s`."""
    deadline = time.monotonic() + timeout_s
    while time.monotonic() < deadline:
        value = condition()
        if value:
            return value
        time.sleep(0.05)
    raise AssertionError(f"{what} did not happen within {timeout_s:g} s")


def hold_until_cancelled(monkeypatch: pytest.MonkeyPatch, module: str, answers: int) -> None:
    """Let a query of this module wait, after so many answers, until a C-CANCEL has come."""
    numbers = itertools.count()

    def held(event: evt.Event) -> bool:
        if next(numbers) == answers:
            wait_for("the C-CANCEL", lambda: event.assoc.dimse.cancel_req)
        return is_cancelled(event)

    monkeypatch.setattr(f"{module}.is_cancelled", held)


def listening(port: int) -> bool:
    """Tell whether someone listens on a loopback port."""
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def at_rest(catalogue: Catalogue, studies: int) -> bool:
    """Tell whether so many studies are there and nothing is left to do for any."""
    counts = catalogue.counts()
    settled = {"reported", "committed", "quarantined", "skipped"} >= set(counts.studies)
    return settled and not counts.jobs and sum(counts.studies.values()) >= studies


def quick_config(data: Path, **sections: Any) -> Config:
    """Return a node's configuration with free ports, short timers, and no words unless asked."""
    settings: dict[str, Any] = {
        "data": data,
        "dicom": {"port": 0, "query_port": 0},
        "http": {"enabled": False},
        "lifecycle": QUICK,
        "encoder": {"threads": 1},
        "text": {"enabled": False},
    }
    return Config.model_validate(settings | sections)


class Serve:
    """`similis serve` in a process of its own, killable."""

    def __init__(self, folder: Path, settings: str = "", *, wait: bool = True) -> None:
        folder.mkdir(exist_ok=True)
        self.folder = folder
        self.port, self.query_port = free_port(), free_port()
        self.config = folder / "similis.toml"
        self.config.write_text(settings)
        self.log = folder / "node.log"
        command = [sys.executable, "-m", "dicom_node", "serve", "--config", self.config]
        command += ["--data", folder / "data", "--port", self.port, "--query-port", self.query_port]
        command += ["--http-port", 0]
        with self.log.open("a") as log:
            self.process = subprocess.Popen([str(part) for part in command], stderr=log, stdout=log)
        if wait:
            wait_for("the node", lambda: listening(self.query_port) or self.process.poll())
            assert self.process.poll() is None, self.log.read_text()

    def settings(self) -> Config:
        """Return the configuration it runs with, to look into its data folder."""
        return load(self.config, flags={"data": self.folder / "data"}, environment={}).config

    def kill(self) -> None:
        """End it as a power cut would."""
        self.process.kill()
        self.process.wait()

    def stop(self) -> int:
        """End it as an operator does; return its exit code."""
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(30)


class Storescp:
    """DCMTK's C-STORE SCP, which keeps the bytes that come; `options` choose transfer syntaxes."""

    def __init__(self, folder: Path, ae_title: str, *options: str, port: int = 0) -> None:
        folder.mkdir(parents=True)
        self.folder = folder
        self.port = port or free_port()
        command = [tool("storescp"), "-aet", ae_title, "+B", *options, "-od", str(folder)]
        self.process = subprocess.Popen([*command, str(self.port)], env=ENVIRONMENT)
        wait_for("storescp", lambda: listening(self.port))

    def stop(self) -> None:
        """End it."""
        self.process.terminate()
        self.process.wait(30)


class Orthanc:
    """A real PACS."""

    def __init__(self, folder: Path, modalities: dict[str, list[Any]], **settings: Any) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.folder = folder
        self.port, self.http_port = free_port(), free_port()
        configuration = {
            "Name": "PACS",
            "StorageDirectory": str(folder / "storage"),
            "IndexDirectory": str(folder / "storage"),
            "Plugins": [],
            "DicomAet": "ORTHANC",
            "DicomPort": self.port,
            "DicomCheckCalledAet": False,
            "HttpPort": self.http_port,
            "RemoteAccessAllowed": False,
            "DicomModalities": modalities,
            **settings,
        }
        file = folder / "orthanc.json"
        file.write_text(json.dumps(configuration))
        with (folder / "orthanc.log").open("w") as log:
            self.process = subprocess.Popen(
                [tool("Orthanc"), str(file)], stdout=log, stderr=log, env=ENVIRONMENT
            )
        wait_for("Orthanc", lambda: listening(self.http_port) and listening(self.port))

    def get(self, path: str) -> Any:
        """Return the JSON answer to a GET."""
        return self._ask(path, None)

    def post(self, path: str, body: bytes | str | dict[str, Any]) -> Any:
        """Return the JSON answer to a POST."""
        if isinstance(body, dict):
            body = json.dumps(body)
        return self._ask(path, body.encode() if isinstance(body, str) else body)

    def download(self, path: str) -> bytes:
        """Return the bytes of a resource."""
        with urllib.request.urlopen(f"http://127.0.0.1:{self.http_port}{path}", timeout=60) as got:
            return bytes(got.read())

    def _ask(self, path: str, body: bytes | None) -> Any:
        url = f"http://127.0.0.1:{self.http_port}{path}"
        with urllib.request.urlopen(urllib.request.Request(url, body), timeout=60) as answer:
            return json.load(answer)

    def stop(self) -> None:
        """End it."""
        self.process.terminate()
        self.process.wait(30)


@contextlib.contextmanager
def stopped_at_the_end(peer: Any) -> Iterator[Any]:
    """Stop a peer whatever happens."""
    try:
        yield peer
    finally:
        peer.stop()
