"""The C-STORE SCP: an event in, a status out, nothing slow in between."""

from collections.abc import Sequence
from typing import Any, cast

import structlog
from pydicom.dataset import Dataset
from pynetdicom import evt
from pynetdicom.dimse_primitives import C_STORE

from dicom_node.config import Dicom, Storage
from dicom_node.contexts import Role, services
from dicom_node.errors import ObjectRefused
from dicom_node.listener import Listener, failure, guarded, peer
from dicom_node.receive.intake import Intake, same_identity

log = structlog.get_logger()

SUCCESS = 0x0000


def storage_listener(
    dicom: Dicom, storage: Storage, intake: Intake, handlers: Sequence[Any] = ()
) -> Listener:
    """Open the storage listener; `handlers` answer what it takes beside C-STORE."""
    return Listener(
        dicom,
        ae_titles=(dicom.ae_title,),
        port=dicom.port,
        services=services(Role.STORAGE),
        handlers=[(evt.EVT_C_STORE, guarded(on_store), [intake]), *handlers],
        maximum_bytes=storage.maximum_object_mb << 20,
    )


def on_store(event: evt.Event, intake: Intake, *, asked_by: str = "") -> Dataset | int:
    """Answer one C-STORE (PS3.4 B.2.3): Success once the object and its row are on disk.

    `asked_by` names the destination that sends it as a query.
    """
    request = cast(C_STORE, event.request)
    try:
        intake.take(
            event.encoded_dataset(include_meta=False),
            event.file_meta,
            source=peer(event),
            check=same_identity(
                str(request.AffectedSOPClassUID), str(request.AffectedSOPInstanceUID)
            ),
            asked_by=asked_by,
        )
    except ObjectRefused as refusal:
        return refused(event, refusal)
    return SUCCESS


def refused(event: evt.Event, refusal: ObjectRefused) -> Dataset:
    """Return the status that a refused C-STORE is answered by."""
    log.warning(
        "object_refused",
        status=f"{refusal.status:04X}",
        reason=refusal.reason,
        sop_instance_uid=str(cast(C_STORE, event.request).AffectedSOPInstanceUID),
        source=peer(event),
    )
    return failure(refusal.status, refusal.reason, refusal.keyword)
