"""The HTTP listener: a socket, TLS, a thread; `app` says what is answered on it."""

import socket
import ssl
import threading
from pathlib import Path

import structlog
import uvicorn

from dicom_node.config import MINIMUM_TOKEN_LENGTH, Http
from dicom_node.errors import ConfigError
from dicom_node.web.app import build_app
from dicom_node.web.connection import connections
from dicom_node.web.gate import Admission, Gate
from dicom_node.web.service import WebService

log = structlog.get_logger()

_STOP_WITHIN_S = 5
_IDLE_S = 15
_BACKLOG = 128
_CONNECTIONS_PER_REQUEST = 4  # idle ones of browsers, and those whose header is still awaited


class HttpServer:
    """One port on which HTTP is answered, from construction to `stop`."""

    def __init__(self, http: Http, service: WebService) -> None:
        admission = Admission(
            token=read_token(http),
            any_host=not http.is_loopback or bool(http.client_ca),
            maximum_requests=http.maximum_requests,
            timeout_s=http.timeout_s,
        )
        config = uvicorn.Config(
            Gate(build_app(service), admission),
            http=connections(http.timeout_s),
            ws="none",
            lifespan="off",
            log_config=None,
            access_log=False,
            server_header=False,
            limit_concurrency=_CONNECTIONS_PER_REQUEST * http.maximum_requests,
            timeout_keep_alive=_IDLE_S,
            timeout_graceful_shutdown=_STOP_WITHIN_S,
            ssl_certfile=http.certificate or None,
            ssl_keyfile=http.private_key or None,
            ssl_ca_certs=http.client_ca or None,
            ssl_cert_reqs=ssl.CERT_REQUIRED if http.client_ca else ssl.CERT_NONE,
        )
        try:
            config.load()
        except OSError as error:  # of which the errors of TLS are
            reason = f"TLS cannot be set up: {error.strerror or error}"
            raise ConfigError("http.certificate", http.certificate, reason) from error
        self._socket = _bound(http)
        self.port = int(self._socket.getsockname()[1])
        self._server = uvicorn.Server(config)
        self._thread = threading.Thread(target=self._run, name="similis-http", daemon=True)
        self._thread.start()
        if not http.certificate and not http.is_loopback:
            log.warning("http_without_tls", advice="who listens in learns the token")

    def stop(self) -> None:
        """Take no more requests; those under way have a few seconds to end."""
        self._server.should_exit = True
        self._thread.join(_STOP_WITHIN_S + 1)
        if self._thread.is_alive():
            self._server.force_exit = True
            self._thread.join(1)
        self._socket.close()

    def _run(self) -> None:
        self._server.run(sockets=[self._socket])


def read_token(http: Http) -> bytes | None:
    """Return the bearer token, from the environment or its file; raise `ConfigError`."""
    if http.token:
        return http.token.get_secret_value().encode()
    if not http.token_file:
        return None
    try:
        token = Path(http.token_file).read_bytes().strip()
    except OSError as error:
        reason = error.strerror or "cannot be read"
        raise ConfigError("http.token_file", http.token_file, reason) from error
    if len(token) < MINIMUM_TOKEN_LENGTH:
        reason = f"the token has fewer than {MINIMUM_TOKEN_LENGTH} characters"
        raise ConfigError("http.token_file", http.token_file, reason)
    return token


def _bound(http: Http) -> socket.socket:
    """Return the listening socket, so that a port in use is known before anything answers."""
    try:
        family, kind, _, _, address = socket.getaddrinfo(
            http.host, http.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        listening = socket.socket(family, kind)
    except OSError as error:
        raise ConfigError("http.host", http.host, error.strerror or "is no address") from error
    try:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind(address)
        listening.listen(_BACKLOG)
    except OSError as error:
        listening.close()
        reason = f"cannot listen for HTTP on {http.host}: {error.strerror}"
        raise ConfigError("http.port", f"port {http.port}", reason) from error
    return listening
