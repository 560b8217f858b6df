"""What the statement says of HTTP: every resource of the application, by its own routes."""

from collections.abc import Iterator

from fastapi.routing import APIRoute

from dicom_node.operate.conformance.entities import SHIPPED
from dicom_node.operate.conformance.markdown import code, prose, table
from dicom_node.web.app import ROUTERS

_COLUMNS = ("service", "method", "resource")


def web_services() -> str:
    """Return the table of resources."""
    return table(_COLUMNS, sorted(_resources()))


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


def _resources() -> Iterator[tuple[str, str, str]]:
    for router in ROUTERS:
        for route in router.routes:
            if isinstance(route, APIRoute):
                for method in route.methods or ():
                    yield str(route.tags[0]), method, code(route.path)
