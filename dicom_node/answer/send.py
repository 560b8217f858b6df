"""The C-STORE SCU: a report, and what goes out beside it, to one destination.

The objects are files that were written once: every retry sends the same SOP Instance UIDs, so that
an archive that has one of them already keeps one.
"""

from collections.abc import Iterable, Sequence
from pathlib import Path

from pydicom import dcmread
from pydicom.dataset import Dataset, FileDataset
from pydicom.uid import ExplicitVRLittleEndian, ImplicitVRLittleEndian
from pynetdicom import build_context
from pynetdicom.presentation import PresentationContext

from dicom_node.answer.requestor import Requestor
from dicom_node.config import Destination
from dicom_node.errors import NotOffered, SendFailed
from index.commitments import Reference

# PS3.4 Table B.2-1: warnings mean that the object was stored, perhaps with changed elements.
_STORED = frozenset({0x0000, 0xB000, 0xB006, 0xB007})


def send(
    requestor: Requestor, paths: Iterable[Path], *, name: str, destination: Destination
) -> None:
    """Send the objects at `paths`; return when the destination says that all are stored.

    Raises `SendFailed` with the reason: no connection, rejection, no accepted context, abort,
    silence, or a failure status. Some may be stored then; to send all again does no harm.
    """
    objects = [dcmread(path) for path in paths]
    with requestor.association(name, destination, _contexts(objects)) as association:
        for each in objects:
            try:
                status = association.send_c_store(each)
            except ValueError as error:  # no accepted presentation context
                raise NotOffered(name, [each.SOPClassUID]) from error
            except RuntimeError as error:  # there is no association any more
                raise SendFailed(name, "ended the association between two objects") from error
            _check(status, name)


def reference_of(path: Path) -> Reference:
    """Return what a request for commitment calls the object at `path`."""
    meta = dcmread(path, stop_before_pixels=True).file_meta
    return Reference(meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID)


def _contexts(objects: Sequence[FileDataset]) -> list[PresentationContext]:
    """Return what to propose: every SOP class as its files are, or plain where they are plain."""
    plain = (ExplicitVRLittleEndian, ImplicitVRLittleEndian)
    syntaxes: dict[tuple[str, str], list[str]] = {}
    for each in objects:
        own = each.file_meta.TransferSyntaxUID
        syntaxes[each.SOPClassUID, own] = list(dict.fromkeys((own, *plain)))
        if own.is_compressed:
            syntaxes[each.SOPClassUID, own] = [own]
    return [build_context(sop_class, kinds) for (sop_class, _), kinds in syntaxes.items()]


def _check(status: Dataset, name: str) -> None:
    if "Status" not in status:
        raise SendFailed(name, "the association ended before an answer came")
    if status.Status not in _STORED:
        comment = status.get("ErrorComment", "")
        raise SendFailed(name, f"status {status.Status:04X} {comment}".rstrip())
