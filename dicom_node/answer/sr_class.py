"""Which kind of Structured Report a destination takes: the richest of three that hold one tree.

The content tree has no relation by reference and no 3D coordinate, so that it is legal in all
three classes (PS3.3 A.35.2, A.35.3, A.35.13): a report changes its class by changing its header.
"""

from collections.abc import Collection
from enum import StrEnum

from pydicom.dataset import Dataset
from pydicom.uid import UID


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


def acceptable_sr_class(sop_class_uid: str, accepted: Collection[str]) -> str | None:
    """Return the richest class of an object that a destination has accepted; None if there is none.

    `accepted` are the SOP classes of the presentation contexts that the destination took.
    """
    return next((each for each in proposed_classes(sop_class_uid) if each in accepted), None)


def reclass(document: Dataset, sop_class_uid: str) -> None:
    """Make a report one of another class, in place.

    It keeps its SOP Instance UID: to be called only before the destination has seen it.
    """
    document.SOPClassUID = sop_class_uid
    document.file_meta.MediaStorageSOPClassUID = UID(sop_class_uid)
