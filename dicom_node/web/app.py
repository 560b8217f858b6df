"""The application: routes, failures and OpenAPI document around one `WebService`."""

from typing import Any

from fastapi import FastAPI

from dicom_node import PRODUCT
from dicom_node.answer import private
from dicom_node.web.failures import handle_failures, responses
from dicom_node.web.routes import (
    frames,
    metadata,
    posted,
    rendered,
    retrieve,
    search,
    similar,
    store,
    thumbnails,
    words,
)
from dicom_node.web.service import WebService

ROUTERS = (
    similar.router,
    posted.router,
    words.router,
    search.router,
    store.router,
    retrieve.router,
    metadata.router,
    frames.router,
    rendered.router,
    thumbnails.router,
)


def build_app(service: WebService) -> FastAPI:
    """Return the application; its document is at /openapi.json."""
    private.register()
    app = _routed()
    app.state.service = service
    handle_failures(app)
    return app


def openapi() -> dict[str, Any]:
    """Return the document that describes every resource."""
    return _routed().openapi()


def _routed() -> FastAPI:
    """Return the routes; pages that would show the document load scripts from elsewhere: off."""
    app = FastAPI(title=PRODUCT, docs_url=None, redoc_url=None, redirect_slashes=False)
    for router in ROUTERS:
        app.include_router(router, responses=responses())
    return app
