"""Failures as answers: one sentence of JSON, never a trace, never a value that may name a patient.

Which error is which HTTP status is one table.
"""

import re
from http import HTTPStatus
from typing import Any

import structlog
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from pydantic import BaseModel
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect

from dicom_node.errors import (
    NoTextSpace,
    NotIndexed,
    ObjectRefused,
    OutOfResources,
    QueryRefused,
    WordsFailed,
    WorkerBusy,
    WorkerFailed,
    WorkerStopped,
    WorkerUnavailable,
)
from encoder.errors import BadText
from index.errors import BadQuery, CatalogueError

log = structlog.get_logger()

RETRY_AFTER_S = 5
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,39}")
LATER = {"Retry-After": str(RETRY_AFTER_S)}


class Problem(BaseModel):
    """Why a request was not answered."""

    error: str


# Statuses that PS3.18 leaves to HTTP; the others are said where they arise.
_STATUSES: dict[type[Exception], int] = {
    QueryRefused: 400,
    BadQuery: 400,
    BadText: 400,
    NoTextSpace: 501,
    ObjectRefused: 400,
    OutOfResources: 507,  # RFC 4918 11.5
    WordsFailed: 503,
    WorkerBusy: 503,
    WorkerFailed: 422,
    WorkerStopped: 503,
    WorkerUnavailable: 503,
    CatalogueError: 503,
    ClientDisconnect: 408,
}
# Texts that are for the operator's log, not for whoever asks.
_SENTENCES: dict[type[Exception], str] = {
    CatalogueError: "the catalogue cannot be used now, ask again",
    WordsFailed: "words cannot be read now, ask again",
    WorkerUnavailable: "the process that answers this cannot be started now, ask again",
    ClientDisconnect: "the request did not arrive in time",
}


def problem(status: int, sentence: str) -> JSONResponse:
    """Return an answer that says why there is none."""
    headers = LATER if status == 503 else None
    return JSONResponse({"error": sentence}, status_code=status, headers=headers)


def named(parameter: str) -> str:
    """Return the name of a parameter for a sentence; of one that is no short word not a letter."""
    return parameter if _NAME.fullmatch(parameter) else "a parameter"


def responses(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """Return what the OpenAPI document says of failures, those of every request included.

    With `default` it says nothing of FastAPI's own 422, which `_invalid` replaces.
    """
    everywhere = (400, 401, 503)
    content = {"application/json": {"schema": Problem.model_json_schema()}}
    told: dict[int | str, dict[str, Any]] = {
        status: {"description": HTTPStatus(status).phrase, "content": content}
        for status in sorted({*everywhere, *statuses})
    }
    return told | {"default": {"description": "any other failure", "content": content}}


def handle_failures(app: FastAPI) -> None:
    """Make every failure of a route an answer."""
    for kind, status in _STATUSES.items():
        app.add_exception_handler(kind, _refusal(status, _SENTENCES.get(kind, "")))
    app.add_exception_handler(NotIndexed, _not_indexed)
    app.add_exception_handler(RequestValidationError, _invalid)
    app.add_exception_handler(HTTPException, _said)
    app.add_exception_handler(Exception, _fault)


def _refusal(status: int, sentence: str) -> Any:
    def answer(request: Request, error: Exception) -> JSONResponse:
        if sentence:
            log.error("request_failed", reason=str(error))
        return problem(status, sentence or str(error))

    return answer


def _not_indexed(request: Request, error: Exception) -> JSONResponse:
    """503 while the vectors are on their way: any 2xx would be taken for an empty answer."""
    coming = isinstance(error, NotIndexed) and error.is_coming
    return problem(503 if coming else 404, str(error))


def _invalid(request: Request, error: Exception) -> JSONResponse:
    if not isinstance(error, RequestValidationError):
        raise error
    first = error.errors()[0]
    name = named(str(first["loc"][-1]))
    said = first["msg"] if first["type"] != "extra_forbidden" else "it is not known here"
    return problem(400, f"{name}: {said.removeprefix('Value error, ')}")


def _said(request: Request, error: Exception) -> JSONResponse:
    if not isinstance(error, HTTPException):
        raise error
    answer = problem(error.status_code, str(error.detail))
    answer.headers.update(error.headers or {})
    return answer


def _fault(request: Request, error: Exception) -> JSONResponse:
    return problem(500, "internal error, see the log of the node")
