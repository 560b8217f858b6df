"""Forgetting a study: its rows, vectors and files, as one."""

from functools import partial

import structlog

from dicom_node.parts import Parts
from index.removal import Belongings

log = structlog.get_logger()

_AGAIN_S = 600.0  # after which a guest is tried again whose files cannot be removed


def forget(parts: Parts, study_instance_uid: str) -> Belongings | None:
    """Delete a study and return what was kept of it; None when it is unknown.

    Works beside a running node: no search finds the study from now on, and what waits to be done
    for it is dropped. Raises `OSError` when a file cannot be removed; then the rows stay.
    """
    kept = parts.catalogue.forget_study(study_instance_uid, partial(_erase, parts))
    if kept is not None:
        _flush(parts)
    return kept


def forget_guests(parts: Parts) -> None:
    """Delete the guests that were answered long enough ago; one that cannot be is tried later."""
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
    if forgotten:
        _flush(parts)


def _flush(parts: Parts) -> None:
    if not parts.catalogue.flush_deleted():
        log.warning(
            "deleted_rows_in_log",
            advice="catalogue.sqlite-wal holds what was forgotten until it is written over, or the "
            "node is restarted: the catalogue was being read",
        )


def _erase(parts: Parts, kept: Belongings) -> None:
    parts.intake.erase(kept.files)
    for file in kept.report_files:
        (parts.folder.reports / file).unlink(missing_ok=True)
