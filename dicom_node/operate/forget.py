"""Forgetting a study: its rows, vectors and files, as one."""

import time
from collections.abc import Callable
from functools import partial

import structlog

from dicom_node.parts import Parts
from index.removal import Belongings

log = structlog.get_logger()

_AGAIN_S = 600.0  # after which a guest is tried again whose files cannot be removed
_FLUSH_AGAIN_S = 10.0  # intake waits a little at each try
_TRIES, _TRY_AGAIN_S = 8, 1.0  # of a command: a search or a page of a list is read by then


def forget(parts: Parts, study_instance_uid: str) -> Belongings | None:
    """Delete a study and return what was kept of it; None when it is unknown.

    Works beside a running node: no search finds the study from now on, and what waits to be done
    for it is dropped. Raises `OSError` when a file cannot be removed; then the rows stay. The log
    of the catalogue still holds them: `empty_log`.
    """
    return parts.catalogue.forget_study(study_instance_uid, partial(_erase, parts))


def empty_log(parts: Parts, *, sleep: Callable[[float], None] = time.sleep) -> bool:
    """Let no file of the catalogue hold what was deleted; False where it was read all the while."""
    for _ in range(_TRIES - 1):
        if parts.catalogue.flush_deleted():
            return True
        sleep(_TRY_AGAIN_S)
    return parts.catalogue.flush_deleted()


class Guests:
    """Forgets guests, time and again, and lets no file of the catalogue hold what was deleted."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts
        self._flush_at: float | None = None  # None: nothing that was deleted is in the log

    def forget_due(self) -> None:
        """Forget those whose time has come; empty the log, also for those of an earlier time."""
        now = self._parts.catalogue.now()
        if forget_guests(self._parts) and self._flush_at is None:
            self._flush_at = now
        if self._flush_at is not None and self._flush_at <= now:
            self._flush_at = None if _flush(self._parts) else now + _FLUSH_AGAIN_S


def forget_guests(parts: Parts) -> int:
    """Delete the guests that were answered long enough ago, and count them.

    One that cannot be deleted is tried later. The log of the catalogue still holds them.
    """
    catalogue = parts.catalogue
    catalogue.time_guests(parts.config.answer.guest_minutes * 60)
    forgotten = 0
    for study in catalogue.due_guests():
        try:
            kept = catalogue.forget_guest(study, partial(_erase, parts))
        except OSError as error:
            log.error("guest_not_forgotten", study=study, reason=error.strerror)
            catalogue.postpone_guest(study, _AGAIN_S)
        else:
            if kept is not None:
                forgotten += 1
                log.info("guest_forgotten", study=study, instances=kept.instances)
    return forgotten


def _flush(parts: Parts) -> bool:
    flushed = parts.catalogue.flush_deleted()
    if not flushed:
        log.warning(
            "deleted_rows_in_log",
            advice="catalogue.sqlite-wal holds what was forgotten until it is written over, or the "
            "node is restarted: the catalogue was being read",
        )
    return flushed


def _erase(parts: Parts, kept: Belongings) -> None:
    parts.intake.erase(kept.files)
    for file in kept.report_files:
        (parts.folder.reports / file).unlink(missing_ok=True)
