"""What the statement says of HTTP: every resource as its OpenAPI document describes it."""

from collections.abc import Iterator
from typing import Any

from dicom_node.operate.conformance.entities import SHIPPED
from dicom_node.operate.conformance.markdown import code, prose, table
from dicom_node.web.app import openapi
from dicom_node.web.pictures import LARGEST_PX
from dicom_node.web.routes.frames import MAXIMUM_FRAMES
from dicom_node.web.routes.search import MAXIMUM_RESULTS
from encoder.rendered import MAX_PIXELS
from encoder.stored_frames import MAX_BYTES

_EVERYWHERE = frozenset({"200", "400", "401", "503", "default"})
_STATUSES = (
    (200, "answered; STOW-RS: all objects are kept"),
    (202, "some objects are kept, the others are named with their C-STORE status"),
    (400, "a parameter, named in the answer, or the body is not understood"),
    (401, "no bearer token, or another one than the node's: `WWW-Authenticate` says which"),
    (403, "without a token: a name other than that of this machine in `Host`"),
    (404, "not kept, or without vectors; of rendered frames: one is not there"),
    (406, "no media type of `Accept` can be given"),
    (408, "the body did not arrive in time"),
    (409, "no object is kept"),
    (413, "the body is too large"),
    (415, "the body is of another media type"),
    (422, "the pixels cannot be decoded, are too large, or are not there"),
    (501, "words are off, or the encoder has no text space"),
    (503, "busy, vectors are on their way, or words cannot be read now: `Retry-After` says when"),
    (507, "too little room on the disk"),
)


def web_services() -> tuple[str, ...]:
    """Return resources, parameters, statuses and limits."""
    operations = list(_operations())
    return (
        prose(
            """
            The same is told at `/openapi.json`. Of the media types the first is the default; a
            failure is `application/json` with one sentence, `error`. The statuses 200, 400, 401 and
            503 are possible everywhere.
            """
        ),
        table(
            ("service", "method", "resource", "parameters", "answer", "other statuses"),
            sorted(_resource(*each) for each in operations),
        ),
        prose(
            """
            QIDO-RS takes attributes as parameters, by keyword or tag, and matches them as C-FIND
            does; of one that is not kept the header `Warning` says so, a name that is no attribute
            gets status 400. So does one that is not in the table of `similar`, rendered images and
            thumbnails; the other resources take no parameters.
            """
        ),
        table(("parameter", "of", "meaning"), _parameters(operations)),
        _pictures_and_posts(),
        table(("status", "when"), _STATUSES),
        _limits(),
    )


def _pictures_and_posts() -> str:
    return prose(
        """
        A rendered image has the size of the image and shows all of it. Grey is windowed as
        asked, else by the first window or the VOI table of the image, else from its lowest to
        its highest value. One frame is one picture; of several each is a part of
        `multipart/related`, and status 406 tells who takes no parts. Videos, waveforms,
        presentation states, shutters, overlays and regions of a viewport are not rendered. A
        thumbnail is the middle frame as the encoder sees it, on a square, and whole where the
        encoder leaves the image out. `POST /similar` answers `application/json` unless
        `application/dicom+json` is preferred: then as `GET …/similar`. Its body is files, or an
        object of JSON with the parameters of `GET /similar`, which then are not in the URL; the
        words that go beside one posted example are in the URL. Several files are the parts of
        `multipart/related`.
        """
    )


def _limits() -> str:
    http, answer = SHIPPED.http, SHIPPED.answer
    return prose(
        f"""
        Limits: {MAXIMUM_RESULTS} results of a search; {answer.maximum_k} cases;
        {MAXIMUM_FRAMES} frames and {MAX_BYTES >> 20} MiB of them in an answer; pictures of
        {MAX_PIXELS >> 20} million pixels, scaled to {LARGEST_PX} by {LARGEST_PX} at most;
        {http.maximum_upload_mb} MiB in a body; {http.maximum_requests} requests at once.
        """
    )


def web_security() -> str:
    """Return who is answered over HTTP."""
    http = SHIPPED.http
    return prose(
        f"""
        HTTP is served on {code(http.host)}, port {http.port}, until configured otherwise, and
        beyond this machine only with a bearer token or with certificates of clients; TLS by a
        certificate in the configuration. DICOM associations are not encrypted,
        audit messages are not sent.
        """
    )


_Operation = tuple[str, str, dict[str, Any]]  # path, method, and what OpenAPI says of it


def _operations() -> Iterator[_Operation]:
    for path, methods in openapi()["paths"].items():
        for method, operation in methods.items():
            yield path, method.upper(), operation


def _resource(path: str, method: str, operation: dict[str, Any]) -> tuple[str, ...]:
    answers = operation["responses"]
    return (
        operation["tags"][0],
        method,
        code(path),
        ", ".join(each["name"] for each in _query(operation)),
        ", ".join(answers.get("200", {}).get("content", ())),
        ", ".join(sorted(set(answers) - _EVERYWHERE)),
    )


def _parameters(operations: list[_Operation]) -> list[tuple[str, str, str]]:
    """Return each parameter once, with the services that take it."""
    found: dict[tuple[str, str], set[str]] = {}
    for path, _, operation in operations:
        kind = path.rpartition("/")[2] if path.endswith(("rendered", "thumbnail")) else ""
        for each in _query(operation):
            key = (each["name"], each.get("description", ""))
            found.setdefault(key, set()).add(kind or operation["tags"][0])
    rows = ((code(name), ", ".join(sorted(of)), said) for (name, said), of in found.items())
    return sorted(rows)


def _query(operation: dict[str, Any]) -> list[dict[str, Any]]:
    return [each for each in operation.get("parameters", ()) if each["in"] == "query"]
