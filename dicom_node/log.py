"""Logging: one line per event, key=value, on stderr. UIDs yes, patient names never."""

import logging
import sys
import traceback
from enum import Enum
from pathlib import Path

import structlog
from structlog.typing import EventDict


def start_logging(level: str = "info") -> None:
    """Send events of `level` and above to stderr; the libraries' own chatter is dropped.

    pynetdicom and pydicom may write identifiers, and with them names, into their messages: their
    loggers are silenced and what matters of theirs is logged by the handlers.
    """
    for library in ("pynetdicom", "pydicom", "alembic", "sqlalchemy", "uvicorn"):
        logging.getLogger(library).setLevel(logging.CRITICAL + 1)
    structlog.configure(
        processors=[
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            _plain,
            structlog.processors.KeyValueRenderer(key_order=["timestamp", "level", "event"]),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(getattr(logging, level.upper())),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
        cache_logger_on_first_use=False,
    )


def _plain(logger: object, method: str, event: EventDict) -> EventDict:
    """Write enum members as their values."""
    return {key: value.value if isinstance(value, Enum) else value for key, value in event.items()}


def fault_of(error: BaseException) -> str:
    """Return what happened and where, on one line.

    The error's own text is left out: that of a library may quote a value of a DICOM header.
    """
    frames = traceback.extract_tb(error.__traceback__)
    where = " < ".join(f"{Path(f.filename).name}:{f.lineno}" for f in reversed(frames[-4:]))
    return f"{type(error).__name__} at {where}"
