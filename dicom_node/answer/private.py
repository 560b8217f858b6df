"""The private block of a similarity query: group 0099, creator `SIMILIS 01`, as one table.

A requestor chooses where in the group the block lies (PS3.5 7.8.1); answers lie in the same place.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from pydicom.datadict import add_private_dict_entries
from pydicom.dataset import Dataset
from pydicom.tag import BaseTag, Tag

from dicom_node.answer.element import Value
from dicom_node.errors import QueryRefused
from dicom_node.receive.header import PARSE_ERRORS

GROUP = 0x0099
CREATOR = "SIMILIS 01"


@dataclass(frozen=True, slots=True)
class PrivateElement:
    """One element of the block."""

    element: int
    vr: str
    keyword: str
    name: str


RANK = PrivateElement(0x01, "US", "SimilarityRank", "Similarity Rank")
SCORE = PrivateElement(0x02, "FD", "SimilarityScore", "Similarity Score")
QUERY_STUDY = PrivateElement(0x03, "UI", "QueryStudyInstanceUID", "Query Study Instance UID")
QUERY_SERIES = PrivateElement(0x04, "UI", "QuerySeriesInstanceUID", "Query Series Instance UID")
QUERY_INSTANCE = PrivateElement(0x05, "UI", "QuerySOPInstanceUID", "Query SOP Instance UID")
QUERY_TEXT = PrivateElement(0x06, "UT", "QueryText", "Query Text")
METRIC = PrivateElement(0x07, "CS", "SimilarityMetric", "Similarity Metric")
ENCODER = PrivateElement(0x08, "LO", "EncoderIdentifier", "Encoder Identifier")
SNAPSHOT = PrivateElement(0x09, "LO", "IndexSnapshotIdentifier", "Index Snapshot Identifier")
BEST_SERIES = PrivateElement(0x0A, "UI", "BestMatchingSeriesUID", "Best Matching Series UID")
BEST_INSTANCE = PrivateElement(0x0B, "UI", "BestMatchingInstanceUID", "Best Matching Instance UID")
MAXIMUM_RESULTS = PrivateElement(0x0C, "US", "MaximumResults", "Maximum Results")
SCOPE = PrivateElement(0x0D, "CS", "SimilarityScope", "Similarity Scope")
SCORE_TEXT = PrivateElement(0x0E, "DS", "SimilarityScoreText", "Similarity Score as Text")
REASON = PrivateElement(0x0F, "LT", "SimilarityReason", "Similarity Reason")
EFFORT = PrivateElement(0x10, "CS", "SearchEffort", "Search Effort")
AGE_RANGE = PrivateElement(0x11, "SH", "PatientAgeRange", "Patient Age Range")

ELEMENTS = (
    RANK, SCORE, QUERY_STUDY, QUERY_SERIES, QUERY_INSTANCE, QUERY_TEXT, METRIC, ENCODER, SNAPSHOT,
    BEST_SERIES, BEST_INSTANCE, MAXIMUM_RESULTS, SCOPE, SCORE_TEXT, REASON, EFFORT, AGE_RANGE,
)  # fmt: skip


def register() -> None:
    """Teach pydicom the block, so that values that arrive as UN are converted; idempotent."""
    add_private_dict_entries(
        CREATOR,
        {(GROUP << 16) | 0x1000 | e.element: (e.vr, "1", e.name, "") for e in ELEMENTS},
    )


@dataclass(frozen=True, slots=True)
class Block:
    """The block of one dataset: its place in the group, chosen by whoever wrote it."""

    number: int

    @classmethod
    def find(cls, identifier: Dataset) -> "Block | None":
        """Return the block that `identifier` reserves for our creator, if it does."""
        first, last = Tag(GROUP, 0x10), Tag(GROUP, 0xFF)
        for tag in sorted(tag for tag in identifier.keys() if first <= tag <= last):  # noqa: SIM118
            if str(identifier[tag].value).strip() == CREATOR:
                return cls(tag.element)
        return None

    def holds(self, tag: int) -> bool:
        """Tell whether a tag is the creator element of this block, or of an element in it."""
        return tag == GROUP << 16 | self.number or tag >> 8 == GROUP << 8 | self.number

    def tag(self, element: PrivateElement) -> BaseTag:
        """Return the tag of `element` in this block."""
        return Tag(GROUP, (self.number << 8) | element.element)

    def text(self, identifier: Dataset, element: PrivateElement) -> str:
        """Return a requested value as text, empty when absent or a universal match.

        Raises `QueryRefused` for bytes that are no value of that element.
        """
        try:
            found = identifier.get(self.tag(element))
        except PARSE_ERRORS as error:
            raise QueryRefused(f"{element.name} cannot be read as {element.vr}") from error
        value = None if found is None else found.value
        if isinstance(value, bytes):  # a UN the dictionary could not help with
            value = value.decode("ascii", "replace")
        return "" if value is None else str(value).strip("\x00 ")

    def reserve(self, answer: Dataset) -> None:
        """Write the creator element into `answer`."""
        answer.add_new(Tag(GROUP, self.number), "LO", CREATOR)

    def put(self, answer: Dataset, element: PrivateElement, value: object) -> None:
        """Write one element into `answer`."""
        answer.add_new(self.tag(element), element.vr, value)

    def vrs(self) -> dict[int, str]:
        """Return the VRs of the creator element and of all elements, by tag."""
        return {GROUP << 16 | self.number: "LO"} | {int(self.tag(e)): e.vr for e in ELEMENTS}

    def values(self, values: Mapping[PrivateElement, Value]) -> dict[int, Value]:
        """Return the creator element and these, without the empty ones, by tag."""
        start = GROUP << 16 | self.number << 8
        filled = {start | e.element: value for e, value in values.items() if value != ""}
        return {GROUP << 16 | self.number: CREATOR} | filled
