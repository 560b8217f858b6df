"""The application: routes, failures and OpenAPI document around one `WebService`."""

from fastapi import FastAPI

from dicom_node import PRODUCT
from dicom_node.answer import private
from dicom_node.web.failures import handle_failures, responses
from dicom_node.web.routes import (
    frames,
    metadata,
    rendered,
    retrieve,
    search,
    similar,
    store,
    thumbnails,
)
from dicom_node.web.service import WebService

ROUTERS = (
    similar.router,
    search.router,
    store.router,
    retrieve.router,
    metadata.router,
    frames.router,
    rendered.router,
    thumbnails.router,
)


def build_app(service: WebService) -> FastAPI:
    """Return the application; its document is at /openapi.json.

    The pages that would show it load their scripts from elsewhere, and stay off.
    """
    private.register()
    app = FastAPI(title=PRODUCT, docs_url=None, redoc_url=None, redirect_slashes=False)
    app.state.service = service
    handle_failures(app)
    for router in ROUTERS:
        app.include_router(router, responses=responses())
    return app
