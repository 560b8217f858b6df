"""The C-STORE SCU: a report, and what goes out beside it, to one destination.

The objects are files that are written once: every retry sends the same SOP Instance UIDs, so that
an archive that has one of them already keeps one.
"""

from collections.abc import Collection, Iterator, Sequence
from pathlib import Path

from pydicom import dcmread
from pydicom.dataset import Dataset
from pydicom.uid import UID
from pynetdicom import build_context
from pynetdicom.presentation import PresentationContext

from dicom_node.answer.requestor import Requestor
from dicom_node.answer.sr_class import fitted, proposed_classes
from dicom_node.config import Destination
from dicom_node.contexts import PLAIN
from dicom_node.errors import NotOffered, SendFailed
from index.commitments import Reference

# PS3.4 Table B.2-1: warnings mean that the object was stored, perhaps with changed elements.
STORED = frozenset({0x0000, 0xB000, 0xB006, 0xB007})


def send(
    requestor: Requestor, paths: Sequence[Path], *, name: str, destination: Destination
) -> tuple[str, ...]:
    """Send a report, the first of `paths`, and what goes out beside it, the others.

    Returns when all are stored, with the SOP Instance UIDs of those beside it whose class the
    destination does not take. Raises `SendFailed` with the reason: no connection, rejection, a
    report of no accepted class, abort, silence, or a failure status. Some may be stored then; to
    send all again does no harm.
    """
    objects: list[Dataset] = [dcmread(path) for path in paths]
    with requestor.association(name, destination, _contexts(objects)) as association:
        accepted = {str(context.abstract_syntax) for context in association.accepted_contexts}
        objects[0] = fitted(paths[0], objects[0], accepted)
        refused = tuple(_refused(objects, accepted, name))
        for each in objects:
            if each.SOPInstanceUID in refused:
                continue
            try:
                status = association.send_c_store(each)
            except ValueError as error:  # accepted, but in no transfer syntax that it has
                raise NotOffered(name, [each.SOPClassUID]) from error
            except RuntimeError as error:  # there is no association any more
                raise SendFailed(name, "ended the association between two objects") from error
            _check(status, name)
    return refused


def _refused(objects: Sequence[Dataset], accepted: Collection[str], name: str) -> Iterator[str]:
    """Name what is beside the report and not taken; `NotOffered` where the report is not."""
    report, *beside = objects
    if report.SOPClassUID not in accepted:
        raise NotOffered(name, [report.SOPClassUID])
    yield from (each.SOPInstanceUID for each in beside if each.SOPClassUID not in accepted)


def reference_of(path: Path) -> Reference:
    """Return what a request for commitment calls the object at `path`."""
    meta = dcmread(path, stop_before_pixels=True).file_meta
    return Reference(meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID)


def _contexts(objects: Sequence[Dataset]) -> list[PresentationContext]:
    """Return what to propose: every SOP class as its files are, or plain where they are plain."""
    syntaxes: dict[tuple[str, str], list[str]] = {}
    for each in objects:
        own: str = each.file_meta.TransferSyntaxUID
        taken: list[str] = [own] if UID(own).is_compressed else list(dict.fromkeys((own, *PLAIN)))
        for sop_class in proposed_classes(each.SOPClassUID):
            syntaxes[sop_class, own] = taken
    return [build_context(sop_class, kinds) for (sop_class, _), kinds in syntaxes.items()]


def _check(status: Dataset, name: str) -> None:
    if "Status" not in status:
        raise SendFailed(name, "the association ended before an answer came")
    if status.Status not in STORED:
        comment = status.get("ErrorComment", "")
        raise SendFailed(name, f"status {status.Status:04X} {comment}".rstrip())
