"""The gate before every route: who may ask, how many at once, how long a sender may take.

Writes one log line per request: the route and the UIDs in its path, never the query, which may name
a patient.
"""

import asyncio
import hmac
import time
from dataclasses import dataclass

import structlog
from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from dicom_node.log import fault_of
from dicom_node.text import is_uid
from dicom_node.web.failures import problem
from dicom_node.web.pace import Pace

log = structlog.get_logger()

_HERE = frozenset({"localhost", "127.0.0.1", "[::1]"})


@dataclass(frozen=True, slots=True)
class Admission:
    """Who may ask: holders of `token`; without one `hosts` names the addresses that are this node.

    A web page that a browser on this machine shows cannot ask under one of its own names then.
    """

    token: bytes | None
    any_host: bool
    maximum_requests: int
    timeout_s: float


class Gate:
    """ASGI middleware around the whole application."""

    def __init__(self, app: ASGIApp, admission: Admission) -> None:
        self._app = app
        self._admission = admission
        self._active = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request, or pass it on."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        started, status = time.monotonic(), 0

        async def noted(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        self._active += 1
        try:
            app = self._refusal(scope) or self._app
            await app(scope, self._patient(receive), noted)
        except Exception as error:
            log.error("request_failed", fault=fault_of(error))
        finally:
            self._active -= 1
        log.info(
            "request",
            method=scope["method"],
            route=getattr(scope.get("route"), "path", ""),
            status=status,
            seconds=round(time.monotonic() - started, 3),
            **_uids(scope),
        )

    def _refusal(self, scope: Scope) -> ASGIApp | None:
        admission, headers = self._admission, Headers(scope=scope)
        if self._active > admission.maximum_requests:
            return problem(503, "too many requests at once, ask again")
        if admission.token is not None:
            scheme, _, given = headers.get("authorization", "").partition(" ")
            # Both are compared whatever the scheme, in a time that does not depend on the token.
            same = hmac.compare_digest(given.strip().encode(), admission.token)
            if scheme.lower() != "bearer" or not given:
                return _unauthorised("a bearer token is needed: Authorization: Bearer …", "Bearer")
            if not same:
                challenge = 'Bearer error="invalid_token"'  # RFC 6750 3.1
                return _unauthorised("the bearer token is not that of this node", challenge)
        elif not admission.any_host and _host(headers) not in _HERE:
            return problem(403, "ask for this node by its address, 127.0.0.1")
        return None

    def _patient(self, receive: Receive) -> Receive:
        """Bound the silence of a sender, and how slow it may be on the whole."""
        timeout_s = self._admission.timeout_s
        pace, is_whole = Pace(timeout_s), False

        async def within_limit() -> Message:
            nonlocal is_whole
            if is_whole:  # what is waited for now is the end of the connection
                return await receive()
            since = time.monotonic()
            try:
                message = await asyncio.wait_for(receive(), min(timeout_s, pace.left_s()))
            except TimeoutError:
                return {"type": "http.disconnect"}
            pace.note(len(message.get("body", b"")), waited_s=time.monotonic() - since)
            is_whole = not message.get("more_body", False)
            return message

        return within_limit


def _unauthorised(sentence: str, challenge: str) -> ASGIApp:
    refusal = problem(401, sentence)
    refusal.headers["WWW-Authenticate"] = challenge
    return refusal


def _host(headers: Headers) -> str:
    host = headers.get("host", "")
    return host if host.endswith("]") else host.rpartition(":")[0] or host


def _uids(scope: Scope) -> dict[str, str]:
    found = scope.get("path_params", {})
    return {name: value for name, value in found.items() if is_uid(str(value))}
