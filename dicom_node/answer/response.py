"""One similar study as a C-FIND response: the requested keys, and the private block on request."""

from collections.abc import Callable

from pydicom.datadict import keyword_for_tag
from pydicom.dataset import Dataset

from dicom_node.answer import private
from index.attributes import STUDY_ATTRIBUTES
from index.records import Case, StudyRow

_COLUMNS = {attribute.keyword: attribute.column for attribute in STUDY_ATTRIBUTES}
_COMPUTED: dict[str, Callable[[Case, StudyRow], str | int | list[str]]] = {
    "ModalitiesInStudy": lambda case, row: list(row.modalities),
    "Modality": lambda case, row: case.modality,
    "BodyPartExamined": lambda case, row: case.body_part,
    "NumberOfStudyRelatedSeries": lambda case, row: row.series,
    "NumberOfStudyRelatedInstances": lambda case, row: row.instances,
    "InstanceAvailability": lambda case, row: "ONLINE",
}
# Keys that are answered although the request does not say so by a value of ours.
_CONTROL = frozenset({"SpecificCharacterSet", "QueryRetrieveLevel", "RetrieveAETitle"})
_KNOWN = frozenset(_COLUMNS) | frozenset(_COMPUTED) | _CONTROL
# Keys whose value is a filter on the neighbours, or names the example.
_MATCHED = _CONTROL | {
    "StudyInstanceUID", "StudyDate", "ModalitiesInStudy", "Modality", "BodyPartExamined",
}  # fmt: skip


class Responder:
    """Writes the responses of one query.

    A response holds no attribute that was not requested (PS3.4 C.4.1.1.3.2), but for those that
    every response must have.
    """

    def __init__(
        self, identifier: Dataset, *, query_study_uid: str, encoder: str, retrieve_ae_title: str
    ) -> None:
        elements = [element for element in identifier if not element.tag.is_private]
        self._requested = [keyword_for_tag(element.tag) for element in elements]
        self._valued = {keyword_for_tag(e.tag) for e in elements if e.value not in (None, "", "*")}
        self._block = private.Block.find(identifier)
        self._query_study_uid = query_study_uid
        self._encoder = encoder
        self._retrieve_ae_title = retrieve_ae_title

    @property
    def complete(self) -> bool:
        """Whether every key is answered, and matched where it has a value (FF00, else FF01)."""
        return _KNOWN.issuperset(self._requested) and _MATCHED.issuperset(self._valued)

    def answer(self, case: Case, row: StudyRow) -> Dataset:
        """Return the response for one case."""
        answer = Dataset()
        answer.SpecificCharacterSet = "ISO_IR 192"
        answer.QueryRetrieveLevel = "STUDY"
        answer.RetrieveAETitle = self._retrieve_ae_title
        for keyword in self._requested:
            if keyword in _COLUMNS:
                setattr(answer, keyword, getattr(row, _COLUMNS[keyword]))
            elif keyword in _COMPUTED:
                setattr(answer, keyword, _COMPUTED[keyword](case, row))
            elif keyword and keyword not in _CONTROL:
                setattr(answer, keyword, None)
        if self._block is not None:
            self._put_block(self._block, answer, case)
        return answer

    def _put_block(self, block: private.Block, answer: Dataset, case: Case) -> None:
        block.reserve(answer)
        for element, value in (
            (private.RANK, case.rank),
            (private.SCORE, round(case.score, 6)),
            (private.QUERY_STUDY, self._query_study_uid),
            (private.METRIC, "COSINE"),
            (private.ENCODER, self._encoder),
            (private.BEST_SERIES, case.series_instance_uid),
            (private.BEST_INSTANCE, case.sop_instance_uid),
            (private.SCORE_TEXT, f"{case.score:.4f}"),
        ):
            block.put(answer, element, value)
