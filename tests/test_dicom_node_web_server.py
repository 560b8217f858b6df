"""The HTTP listener itself: who is let in, what is logged, and what hostile clients achieve."""

import json
import socket
import ssl
import subprocess
import time
from collections.abc import Callable, MutableMapping
from pathlib import Path
from typing import Any

import httpx
import peers
import pytest
from pydantic import SecretStr
from webs import Library, url_of

from dicom_node.config import Config
from dicom_node.errors import ConfigError
from dicom_node.node import Node
from dicom_node.settings import load
from dicom_node.web.server import read_token
from training import phantoms

TOKEN = "a token of sixteen letters or more"


@pytest.mark.parametrize(
    ("text", "refused"),
    [
        ("host = '0.0.0.0'", True),
        ("host = '::'", True),
        ("host = 'node.example'", True),
        ("host = '0.0.0.0'\ntoken_file = 'token'", False),
        ("host = '0.0.0.0'\ncertificate = 'c'\nclient_ca = 'a'", False),
        ("host = '0.0.0.0'\nenabled = false", False),
        ("host = '0.0.0.0'\ncertificate = 'c'", True),
        ("host = '127.0.0.2'", False),
        ("host = '::1'", False),
        ("host = 'localhost'", False),
        ("client_ca = 'a'", True),
        ("token = 'short'", True),
        ("token = ''", False),
        ("host = '0.0.0.0'\ntoken = ''", True),
    ],
)
def test_beyond_this_machine_nobody_is_answered_without_a_token_or_a_certificate(
    tmp_path: Path, text: str, refused: bool
) -> None:
    file = tmp_path / "similis.toml"
    file.write_text(f"[http]\n{text}")

    if not refused:
        load(file, environment={})
        return
    with pytest.raises(ConfigError) as error:
        load(file, environment={})
    assert error.value.key.startswith("http")
    assert error.value.source == str(file)


def test_a_token_is_never_printed() -> None:
    loaded = load(None, environment={"SIMILIS_HTTP__TOKEN": TOKEN})

    values = {setting.key: setting.value for setting in loaded.settings()}
    assert read_token(loaded.config.http) == TOKEN.encode()
    assert values["http.token"] == str(SecretStr(TOKEN))
    assert TOKEN not in repr(loaded.config)


@pytest.mark.parametrize("content", [None, "", "short\n"])
def test_a_token_file_without_a_token_is_refused(tmp_path: Path, content: str | None) -> None:
    file = tmp_path / "token"
    if content is not None:
        file.write_text(content)

    with pytest.raises(ConfigError) as refused:
        read_token(Config.model_validate({"http": {"token_file": str(file)}}).http)

    assert refused.value.key == "http.token_file"


def test_a_port_in_use_is_an_error_of_the_configuration(start_node: Callable[..., Node]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken, pytest.raises(ConfigError) as refused:
        start_node(http={"port": taken.getsockname()[1]})

    assert refused.value.key == "http.port"


def test_only_who_has_the_token_is_answered(
    start_node: Callable[..., Node], tmp_path: Path
) -> None:
    (tmp_path / "token").write_text(f"{TOKEN}\n")
    node = start_node(http={"port": 0, "token_file": str(tmp_path / "token")})

    def status(path: str, authorization: str | None) -> int:
        headers = {} if authorization is None else {"Authorization": authorization}
        return httpx.get(url_of(node) + path, headers=headers).status_code

    for path in ("/studies", "/openapi.json", "/nothing", "/studies/1.2/similar"):
        for wrong in (None, "", "Bearer", f"Bearer {TOKEN[:-1]}", f"Basic {TOKEN}", TOKEN):
            assert status(path, wrong) == 401, (path, wrong)
    assert status("/studies", f"Bearer {TOKEN}") == 200
    assert status("/studies", f"bearer {TOKEN}") == 200
    posted = httpx.post(f"{url_of(node)}/studies", content=b"x" * 1000)
    assert posted.status_code == 401
    assert posted.headers["www-authenticate"] == "Bearer"
    wrong = httpx.get(f"{url_of(node)}/studies", headers={"Authorization": f"Bearer {TOKEN[:-1]}"})
    assert wrong.headers["www-authenticate"] == 'Bearer error="invalid_token"'
    assert "is needed" in posted.json()["error"]
    assert wrong.json()["error"] == "the bearer token is not that of this node"


def test_with_a_client_ca_only_its_certificates_are_let_in(
    start_node: Callable[..., Node], tmp_path: Path
) -> None:
    certificate, key = self_signed(tmp_path, "node")
    client, client_key = self_signed(tmp_path, "client")
    stranger, stranger_key = self_signed(tmp_path, "stranger")
    tls = {"certificate": certificate, "private_key": key, "client_ca": client}
    node = start_node(http={"port": 0} | tls)
    url = f"https://localhost:{node.http_port}/studies"

    def ask(*chain: str) -> httpx.Response:
        context = ssl.create_default_context(cafile=certificate)
        if chain:
            context.load_cert_chain(*chain)
        return httpx.get(url, verify=context)

    assert ask(client, client_key).status_code == 200
    for chain in ((), (stranger, stranger_key)):
        with pytest.raises((httpx.ReadError, httpx.ConnectError, httpx.RemoteProtocolError)):
            ask(*chain)
    with pytest.raises((httpx.ReadError, httpx.RemoteProtocolError)):
        httpx.get(url.replace("https", "http"))


def test_a_bad_certificate_is_an_error_of_the_configuration(
    start_node: Callable[..., Node], tmp_path: Path
) -> None:
    (tmp_path / "empty.pem").touch()
    for file in ("missing.pem", "empty.pem"):
        with pytest.raises(ConfigError) as refused:
            start_node(http={"port": 0, "certificate": str(tmp_path / file)})
        assert refused.value.key == "http.certificate"


def test_a_page_of_another_site_cannot_ask_under_its_own_name(library: Library) -> None:
    evil = library.get("/studies", headers={"Host": "evil.example"})

    assert evil.status_code == 403
    for host in ("localhost", "localhost:1", "127.0.0.1", "[::1]:80", "[::1]"):
        assert library.get("/studies", headers={"Host": host}).status_code == 200


def test_the_openapi_document_names_every_answer_and_loads_nothing(library: Library) -> None:
    document = library.get("/openapi.json").json()

    paths = document["paths"]
    assert {"/studies/{study}/similar", "/similar", "/studies", "/instances"} <= set(paths)
    similar = paths["/studies/{study}/similar"]["get"]["responses"]
    assert "application/dicom+json" in similar["200"]["content"]
    assert {"400", "401", "404", "503"} <= set(similar)
    assert set(paths["/studies"]["post"]["requestBody"]["content"]) == {
        "multipart/related", "application/dicom"
    }  # fmt: skip
    for path, operations in paths.items():
        for method, operation in operations.items():
            assert operation["responses"]["400"], (path, method)
            failures = [v for k, v in operation["responses"].items() if k not in ("200", "202")]
            assert all(
                {"application/json", "application/dicom+json"} & set(f["content"]) for f in failures
            )
            assert "HTTPValidationError" not in json.dumps(operation)
    assert library.get("/docs").status_code == library.get("/redoc").status_code == 404


def test_the_log_holds_routes_and_uids_but_no_names(
    library: Library, events: list[MutableMapping[str, Any]]
) -> None:
    library.get("/studies", params={"PatientName": "Yamada*"})
    library.get(f"/studies/{library.uids['twin']}/series")
    library.get("/studies/Yamada/series")
    library.get("/Yamada")

    lines = peers.wait_for("four lines", lambda: requests(events, 4))
    assert [line["status"] for line in lines] == [200, 200, 400, 404]
    assert lines[1]["study"] == library.uids["twin"]
    assert [line["route"] for line in lines[:2]] == ["/studies", "/studies/{study}/series"]
    assert "Yamada" not in str(events)


@pytest.mark.parametrize("length", [8_000, 65_000])
def test_a_long_query_is_answered_or_refused_and_the_node_goes_on(
    library: Library, length: int
) -> None:
    response = library.get(f"/studies?PatientID={'x' * length}")

    assert response.status_code == 400
    assert library.get("/studies").status_code == 200


@pytest.mark.parametrize(
    "request_",
    [b"\r\n\r\n", b"GET\r\n\r\n", b"\x16\x03\x01\x02\x00", b"GET /studies HTTP/1.1\r\n\r\n",
     b"POST /studies HTTP/1.1\r\nHost: localhost\r\nContent-Length: -1\r\n\r\n",
     b"GET /studies HTTP/1.1\r\nHost: localhost\r\n" + b"X: y\r\n" * 50_000],
)  # fmt: skip
def test_what_is_no_http_is_refused_and_the_node_goes_on(library: Library, request_: bytes) -> None:
    with socket.create_connection(("127.0.0.1", library.node.http_port or 0), 10) as connection:
        connection.settimeout(10)
        try:
            connection.sendall(request_)
            connection.shutdown(socket.SHUT_WR)
            answer = connection.recv(1000)
        except OSError:  # the node was faster
            answer = b""

    assert answer == b"" or answer.startswith((b"HTTP/1.1 400", b"HTTP/1.1 403"))
    assert library.get("/studies").status_code == 200


def test_a_sender_that_falls_silent_is_given_up_and_nothing_is_left(
    start_node: Callable[..., Node],
) -> None:
    node = start_node(http={"port": 0, "timeout_s": 0.5})
    head = b"POST /similar HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/dicom\r\n"
    with socket.create_connection(("127.0.0.1", node.http_port or 0), 10) as connection:
        connection.sendall(head + b"Content-Length: 1000\r\n\r\nhalf")
        connection.settimeout(10)
        started = time.monotonic()
        answer = connection.recv(1000)

    assert answer.startswith(b"HTTP/1.1 408")
    assert time.monotonic() - started < 5
    assert list((node.config.data / "uploads").iterdir()) == []


def test_more_requests_than_are_answered_at_once_are_put_off(
    start_node: Callable[..., Node],
) -> None:
    node = start_node(http={"port": 0, "maximum_requests": 1})
    head = b"POST /similar HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/dicom\r\n"
    with socket.create_connection(("127.0.0.1", node.http_port or 0), 10) as slow:
        slow.sendall(head + b"Content-Length: 1000\r\n\r\nhalf")
        uploads = node.config.data / "uploads"
        peers.wait_for("the first request", lambda: list(uploads.iterdir()))

        refused = httpx.get(f"{url_of(node)}/studies")

    assert (refused.status_code, list(refused.json())) == (503, ["error"])
    assert refused.headers["retry-after"]
    peers.wait_for("the end of it", lambda: httpx.get(f"{url_of(node)}/studies").status_code == 200)


def test_a_fault_is_one_sentence_without_a_trace(
    start_node: Callable[..., Node], tmp_path: Path, events: list[MutableMapping[str, Any]]
) -> None:
    node = start_node(http={"port": 0})
    path = phantoms.still(tmp_path, new_uid=phantoms.uid_source(1), size=(64, 48), seed=1)
    headers = {"Content-Type": "application/dicom"}
    stored = httpx.post(f"{url_of(node)}/studies", content=path.read_bytes(), headers=headers)
    url = stored.json()["00081199"]["Value"][0]["00081190"]["Value"][0]
    for file in (node.config.data / "store").glob("??/*.dcm"):
        file.unlink()

    response = httpx.get(url, headers={"Accept": "application/dicom"})

    assert response.status_code == 500
    assert response.json() == {"error": "internal error, see the log of the node"}
    assert peers.wait_for("a line", lambda: [e for e in events if e["event"] == "request_failed"])


def test_what_a_killed_node_left_is_removed_at_the_next_start(
    start_node: Callable[..., Node], tmp_path: Path
) -> None:
    left = tmp_path / "data" / "uploads" / "tmpabc"
    left.mkdir(parents=True)
    (left / "body").write_bytes(b"of a patient")

    start_node(http={"port": 0})

    assert not left.exists()


def requests(events: list[MutableMapping[str, Any]], number: int) -> list[Any]:
    lines = [event for event in events if event["event"] == "request"]
    return lines if len(lines) >= number else []


def self_signed(folder: Path, name: str) -> tuple[str, str]:
    """Make a certificate for localhost that is its own CA."""
    certificate, key = folder / f"{name}.pem", folder / f"{name}.key"
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256",
         "-nodes", "-days", "2", "-subj", f"/CN={name}", "-addext", "subjectAltName=DNS:localhost",
         "-keyout", str(key), "-out", str(certificate)],
        check=True,
        capture_output=True,
    )  # fmt: skip
    return str(certificate), str(key)
