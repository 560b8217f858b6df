"""Which kind of Structured Report a destination takes: the richest of three that hold one tree.

The content tree has no relation by reference and no 3D coordinate, so that it is legal in all
three classes (PS3.3 A.35.2, A.35.3, A.35.13): a report changes its class by changing its header.
"""

from collections.abc import Collection
from enum import StrEnum
from pathlib import Path

from pydicom.dataset import Dataset
from pydicom.uid import UID

from dicom_node.answer.modules import encode
from dicom_node.data_folder import write_durably


class SopClass(StrEnum):
    """The kinds of Structured Report that can hold the tree, richest first: the default."""

    COMPREHENSIVE_3D = "1.2.840.10008.5.1.4.1.1.88.34"
    COMPREHENSIVE = "1.2.840.10008.5.1.4.1.1.88.33"
    ENHANCED = "1.2.840.10008.5.1.4.1.1.88.22"


def proposed_classes(sop_class_uid: str) -> tuple[str, ...]:
    """Return the SOP classes to propose for an object: a report may become a simpler one."""
    classes = [each.value for each in SopClass]
    return (
        tuple(classes[classes.index(sop_class_uid) :])
        if sop_class_uid in classes
        else (sop_class_uid,)
    )


def acceptable_sr_class(sop_class_uid: str, accepted: Collection[str | None]) -> str | None:
    """Return the richest class of an object that a destination has accepted; None if there is none.

    `accepted` are the SOP classes of the presentation contexts that the destination took.
    """
    return next((each for each in proposed_classes(sop_class_uid) if each in accepted), None)


def fitted(path: Path, document: Dataset, accepted: Collection[str | None]) -> Dataset:
    """Return the document kept at `path` in the richest class that its destination accepted.

    A report that has to become simpler is kept so, for good, before it is sent: under its SOP
    Instance UID, which its destination has not seen yet. What is not accepted at all stays as is.
    """
    sop_class_uid = acceptable_sr_class(document.SOPClassUID, accepted)
    if sop_class_uid in (None, document.SOPClassUID):
        return document
    document.SOPClassUID = sop_class_uid
    document.file_meta.MediaStorageSOPClassUID = UID(str(sop_class_uid))
    write_durably(path, encode(document))
    return document
