"""`similis serve`: run the node until it is told to stop."""

import signal
import threading
from typing import Annotated

import structlog
import typer

from dicom_node.cli.options import ConfigOption, DataOption, LogOption, configured
from dicom_node.node import Node

log = structlog.get_logger()


def serve(
    data: DataOption = None,
    config: ConfigOption = None,
    host: Annotated[str | None, typer.Option(help="Address both DICOM listeners bind to.")] = None,
    port: Annotated[int | None, typer.Option(help="Storage port.")] = None,
    query_port: Annotated[int | None, typer.Option(help="Query port.")] = None,
    http_port: Annotated[int | None, typer.Option(help="HTTP port.")] = None,
    log_level: LogOption = "info",
) -> None:
    """Run the node: receive studies, embed them, answer queries, send reports."""
    settings = configured(
        config,
        data,
        log_level=log_level,
        dicom__host=host,
        dicom__port=port,
        dicom__query_port=query_port,
        http__port=http_port,
    )
    told = threading.Event()
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # also while it is still starting
    node = Node(settings)
    try:
        node.start()
    except KeyboardInterrupt:
        return
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: told.set())
    log.info(
        "ready",
        port=node.port,
        query_port=node.query_port,
        http_port=node.http_port,
        encoder=node.model.version,
    )
    if not node.model.trained:
        log.warning("encoder_untrained", advice="similarities carry no meaning yet")
    told.wait()
    node.stop()
    log.info("stopped")
