"""Peers that are slow on purpose: none holds a request or a connection for long."""

import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import httpx
import peers
import pytest
from pydicom import dcmread
from pydicom.dataset import Dataset
from webs import stow, url_of

from dicom_node.node import Node
from dicom_node.receive.turns import Caller
from dicom_node.web import server
from dicom_node.web.pace import Pace
from dicom_node.web.routes import frames, rendered, thumbnails
from training import phantoms

HEAD = b"POST /similar HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/dicom\r\n"
PATIENCE_S = 10.0
ROWS, COLUMNS = 4096, 3072
NEVER = {"series_quiet_s": 3600.0, "quiet_s_by_modality": {}}


@pytest.fixture(scope="module")
def web(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Node]:
    """A node of little patience that answers one request at a time, and holds a large image."""
    http = {"port": 0, "timeout_s": 1.0, "maximum_requests": 1}
    folder = tmp_path_factory.mktemp("impatient")
    node = Node(peers.quick_config(folder / "data", http=http, lifecycle=NEVER))
    with pytest.MonkeyPatch.context() as patch, peers.stopped_at_the_end(node):
        patch.setattr(server, "_IDLE_S", 1)
        node.start()
        stow(url_of(node), large(folder))
        yield node


def large(folder: Path) -> Path:
    path = phantoms.still(folder, new_uid=phantoms.uid_source(1), size=(64, 48), seed=1)
    dataset = dcmread(path)
    dataset.Rows, dataset.Columns = ROWS, COLUMNS
    dataset.PixelData = bytes(range(256)) * (2 * ROWS * COLUMNS // 256)
    dataset.save_as(path)
    return path


@pytest.fixture(scope="module")
def image(web: Node) -> Dataset:
    """The header of the large image."""
    (study,) = httpx.get(f"{url_of(web)}/instances").json()
    return Dataset.from_json(study)


@contextmanager
def connected(node: Node, *, receive_bytes: int = 0) -> Iterator[socket.socket]:
    """Lend a connection; `receive_bytes` bounds what is taken of an answer unread."""
    with socket.socket() as connection:
        if receive_bytes:
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_bytes)
        connection.settimeout(PATIENCE_S)
        connection.connect(("127.0.0.1", node.http_port or 0))
        yield connection


def trickle(connection: socket.socket, *, every_s: float = 0.1) -> tuple[bytes, float]:
    """Send a byte now and then until something is heard; return it and the seconds it took."""
    started, answer = time.monotonic(), b"nothing"
    connection.settimeout(every_s)
    while time.monotonic() - started < PATIENCE_S:
        with suppress(TimeoutError):
            try:
                connection.sendall(b"x")
                answer = connection.recv(1000)
            except ConnectionError:
                answer = b""
            break
    return answer, time.monotonic() - started


def test_a_body_that_trickles_in_is_given_up_though_it_is_never_silent(web: Node) -> None:
    with connected(web) as connection:
        connection.sendall(HEAD + b"Content-Length: 100000\r\n\r\n")

        answer, seconds = trickle(connection)

        assert answer.startswith(b"HTTP/1.1 408")
        assert seconds < 5
        assert httpx.get(f"{url_of(web)}/studies").status_code == 200
    assert list((web.config.data / "uploads").iterdir()) == []


@pytest.mark.parametrize("beginning", [b"", b"GET /studies HTTP/1.1\r\nHost: localhost\r\nX: "])
def test_a_head_that_trickles_in_is_given_up(web: Node, beginning: bytes) -> None:
    with connected(web) as connection:
        connection.sendall(beginning)

        answer, seconds = trickle(connection)

    assert answer == b""
    assert seconds < 5


def test_who_says_nothing_at_all_is_given_up(web: Node) -> None:
    with connected(web) as connection:
        started = time.monotonic()

        assert connection.recv(10) == b""
        assert time.monotonic() - started < 5


def test_the_second_head_of_a_connection_may_not_trickle_in_either(web: Node) -> None:
    request = b"GET /studies HTTP/1.1\r\nHost: localhost\r\n"
    with connected(web) as connection:
        connection.sendall(request + b"\r\n")
        answered = connection.recv(10_000)
        while not answered.endswith(b"]"):
            answered += connection.recv(10_000)
        assert answered.startswith(b"HTTP/1.1 200")
        connection.sendall(request + b"X: ")

        answer, seconds = trickle(connection)

    assert (answer, seconds < 5) == (b"", True)


@pytest.mark.parametrize("closing", [b"", b"Connection: close\r\n"])
def test_an_answer_that_nobody_reads_is_dropped(web: Node, image: Dataset, closing: bytes) -> None:
    with connected(web, receive_bytes=4096) as connection:
        request = f"GET /studies/{image.StudyInstanceUID} HTTP/1.1\r\nHost: localhost\r\n"
        connection.sendall(request.encode() + closing + b"\r\n")
        assert connection.recv(4).startswith(b"HTTP")
        held = httpx.get(f"{url_of(web)}/studies").status_code

        peers.wait_for(
            "the end of it",
            lambda: httpx.get(f"{url_of(web)}/studies").status_code == 200,
            timeout_s=PATIENCE_S,
        )

        assert held == 503
        with suppress(ConnectionResetError):
            while connection.recv(1 << 20):
                pass


def test_a_slow_reader_gets_the_whole_answer(web: Node, image: Dataset) -> None:
    url = f"{url_of(web)}/studies/{image.StudyInstanceUID}"
    received = 0

    with httpx.stream("GET", url) as response:
        for number, chunk in enumerate(response.iter_raw(1 << 20)):
            received += len(chunk)
            if number < 10:
                time.sleep(0.25)  # longer than `timeout_s` in all

    assert received > 2 * ROWS * COLUMNS


def test_pictures_are_put_off_while_the_worker_has_other_work(
    web: Node, image: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = f"{url_of(web)}/studies/{image.StudyInstanceUID}/thumbnail"
    for route in (rendered, thumbnails, frames):
        monkeypatch.setattr(route, "PICTURE", Caller(wait_s=0.2, limit_s=30.0))
    instance = (
        f"{url_of(web)}/studies/{image.StudyInstanceUID}/series/{image.SeriesInstanceUID}"
        f"/instances/{image.SOPInstanceUID}"
    )

    with web._workers[0]._turns.own():
        for path in (url, f"{instance}/rendered", f"{instance}/frames/1"):
            busy = httpx.get(path)
            assert (busy.status_code, list(busy.json())) == (503, ["error"]), path
            assert busy.headers["retry-after"]

    assert httpx.get(url).status_code == 200


def test_a_pace_allows_a_grace_and_the_time_of_the_bytes() -> None:
    pace = Pace(grace_s=10)

    assert pace.left_s() == 10
    pace.note(16 << 10, waited_s=3)
    assert pace.left_s() == 10 + 1 - 3
