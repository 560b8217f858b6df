"""Forgetting a study: its rows, vectors and files, as one."""

from dicom_node.parts import Parts
from index.removal import Belongings


def forget(parts: Parts, study_instance_uid: str) -> Belongings | None:
    """Delete a study and return what was kept of it; None when it is unknown.

    Works beside a running node: no search finds the study from now on, and what waits to be done
    for it is dropped. Raises `OSError` when a file cannot be removed; then the rows stay.
    """

    def erase(kept: Belongings) -> None:
        parts.store.erase(kept.files)
        for file in kept.report_files:
            (parts.folder.reports / file).unlink(missing_ok=True)

    return parts.catalogue.forget_study(study_instance_uid, erase)
