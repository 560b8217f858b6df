"""Rejection notes: Key Object Selection documents that take instances back (IHE RAD TF-3 4.66).

Owns which title of a note has which consequence. A note is kept and catalogued as any object; what
it names is taken out in the same transaction, if it is kept in that study of that patient.
"""

from collections.abc import Callable, Collection
from dataclasses import dataclass

import structlog

from dicom_node.receive.header import read_elements
from dicom_node.text import is_uid
from index.rejections import Rejects

log = structlog.get_logger()

KEY_OBJECT_SELECTION = "1.2.840.10008.5.1.4.1.1.88.59"
_ELEMENTS = ("ConceptNameCodeSequence", "CurrentRequestedProcedureEvidenceSequence")


@dataclass(frozen=True, slots=True)
class Consequence:
    """What a title means for the instances that a note names.

    `lasting`: they stay out when they are sent again. `erased`: the node keeps nothing of them.
    """

    meaning: str
    lasting: bool
    erased: bool


# PS3.16 CID 7011. Corrected objects may come under the old UIDs after a wrong worklist entry, and
# what has expired may be restored from elsewhere; what is bad or dangerous stays so.
CONSEQUENCES = {
    "113001": Consequence("Rejected for Quality Reasons", lasting=True, erased=False),
    "113037": Consequence("Rejected for Patient Safety Reasons", lasting=True, erased=False),
    "113038": Consequence("Incorrect Modality Worklist Entry", lasting=False, erased=False),
    "113039": Consequence("Data Retention Policy Expired", lasting=False, erased=True),
}


def read_rejection(
    dataset: bytes, transfer_syntax_uid: str, erase: Callable[[Collection[str]], None]
) -> Rejects | None:
    """Return what a Key Object Selection rejects; None when its title is no rejection.

    `erase` removes files by their relative paths. Raises `NotUnderstood`.
    """
    note = read_elements(dataset, transfer_syntax_uid, _ELEMENTS)
    title = next(iter(note.get("ConceptNameCodeSequence") or ()), None)
    if title is None or title.get("CodingSchemeDesignator") != "DCM":
        return None
    code = str(title.get("CodeValue", ""))
    consequence = CONSEQUENCES.get(code)
    if consequence is None:
        return None
    named = [
        (str(study.get("StudyInstanceUID", "")), str(instance.get("ReferencedSOPInstanceUID", "")))
        for study in note.get("CurrentRequestedProcedureEvidenceSequence") or ()
        for series in study.get("ReferencedSeriesSequence") or ()
        for instance in series.get("ReferencedSOPSequence") or ()
    ]
    return Rejects(
        code=code,
        instances=tuple(dict.fromkeys(pair for pair in named if all(map(is_uid, pair)))),
        lasting=consequence.lasting,
        erase=erase if consequence.erased else None,
    )
