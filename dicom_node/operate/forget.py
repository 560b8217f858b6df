"""Forgetting a study: its rows, vectors and files, as one."""

from functools import partial

import structlog

from dicom_node.parts import Parts
from index.removal import Belongings

log = structlog.get_logger()


def forget(parts: Parts, study_instance_uid: str) -> Belongings | None:
    """Delete a study and return what was kept of it; None when it is unknown.

    Works beside a running node: no search finds the study from now on, and what waits to be done
    for it is dropped. Raises `OSError` when a file cannot be removed; then the rows stay.
    """
    return parts.catalogue.forget_study(study_instance_uid, partial(_erase, parts))


def forget_guests(parts: Parts) -> None:
    """Delete the guests that were answered long enough ago; raises `OSError` as `forget` does."""
    parts.catalogue.time_guests(parts.config.answer.guest_minutes * 60)
    while kept := parts.catalogue.forget_guest(partial(_erase, parts)):
        log.info("guest_forgotten", study=kept.study_instance_uid, instances=kept.instances)


def _erase(parts: Parts, kept: Belongings) -> None:
    parts.store.erase(kept.files)
    for file in kept.report_files:
        (parts.folder.reports / file).unlink(missing_ok=True)
