"""A match as a C-FIND response: the requested keys, and the private block of similar cases.

A response holds no attribute that was not requested (PS3.4 C.4.1.1.3.2), but for those that every
response must have.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

from pydicom.datadict import dictionary_VR
from pydicom.dataset import Dataset

from dicom_node.answer import private
from dicom_node.answer.identifier import LEVELS, MODALITIES_IN_STUDY, UNIQUE_KEYS, Identifier
from dicom_node.answer.question import Question
from dicom_node.text import FREE_TEXT_VRS, character_set
from index.attributes import ATTRIBUTES, Level
from index.matches import Match
from index.records import Case, Ranking

Value = str | int | list[str]

Answers = Iterator[tuple[Dataset | int, Dataset | None]]

# PS3.4 Table C.4-1, and Tables C.4-2 and C.4-3 alike.
CANCELLED = 0xFE00
PENDING = 0xFF00
PENDING_WITHOUT_SOME_KEYS = 0xFF01

_SOURCES: dict[Level, Callable[[Match], object]] = {
    Level.PATIENT: lambda match: match.study,
    Level.STUDY: lambda match: match.study,
    Level.SERIES: lambda match: match.series,
    Level.IMAGE: lambda match: match.image,
}
# Keys that no column holds: level, and how the value is found.
COMPUTED: dict[str, tuple[Level, Callable[[Match], Value]]] = {
    MODALITIES_IN_STUDY: (Level.STUDY, lambda match: list(match.study.modalities)),
    "NumberOfStudyRelatedSeries": (Level.STUDY, lambda match: match.study.series),
    "NumberOfStudyRelatedInstances": (Level.STUDY, lambda match: match.study.instances),
    "InstanceAvailability": (Level.STUDY, lambda match: "ONLINE"),
    "NumberOfSeriesRelatedInstances": (
        Level.SERIES,
        lambda match: match.series.instances if match.series else 0,
    ),
}
# Keys of every response, whatever the match.
_CONTROL = frozenset({"SpecificCharacterSet", "QueryRetrieveLevel", "RetrieveAETitle"})
# Besides the unique keys, which name the example or nothing: what filters the neighbours.
FILTERS = frozenset(
    {"AccessionNumber", "StudyDate", MODALITIES_IN_STUDY, "Modality", "BodyPartExamined",
     "PatientSex"}
)  # fmt: skip
_LO_LENGTH = 64  # PS3.5 Table 6.2-1


class Responder:
    """Writes the responses to one ordinary query."""

    def __init__(self, identifier: Identifier, *, retrieve_ae_title: str) -> None:
        self._identifier = identifier
        self._retrieve_ae_title = retrieve_ae_title
        levels = LEVELS[identifier.level]
        self._columns = {a.keyword: a for a in ATTRIBUTES if a.level in levels}
        self._computed = {
            keyword: value for keyword, (level, value) in COMPUTED.items() if level in levels
        }
        self._matched = frozenset(self._columns) | {MODALITIES_IN_STUDY}
        self._known = self._columns.keys() | self._computed.keys()

    @property
    def status(self) -> int:
        """FF00 where every key is answered, and matched if it has a value, FF01 else."""
        identifier = self._identifier
        answered = (self._known | _CONTROL).issuperset(identifier.requested)
        matched = (self._matched | _CONTROL).issuperset(identifier.valued)
        return PENDING if answered and matched else PENDING_WITHOUT_SOME_KEYS

    def answer(self, match: Match) -> Dataset:
        """Return the response for one match."""
        answer = Dataset()
        answer.QueryRetrieveLevel = self._identifier.level.value
        answer.RetrieveAETitle = self._retrieve_ae_title
        for keyword, tag in self._identifier.requested.items():
            if keyword and keyword not in _CONTROL:
                answer.add_new(tag, dictionary_VR(tag), self._value(keyword, match))
        texts = (str(e.value) for e in answer if e.VR in FREE_TEXT_VRS)
        if needed := character_set(texts, self._identifier.character_set):
            answer.SpecificCharacterSet = needed
        return answer

    def _value(self, keyword: str, match: Match) -> Value | None:
        if attribute := self._columns.get(keyword):
            value: str = getattr(_SOURCES[attribute.level](match), attribute.column)
            return value
        computed = self._computed.get(keyword)
        return computed(match) if computed else None


@dataclass(frozen=True, slots=True)
class Asked:
    """What was compared with what: goes into every answer's private block."""

    question: Question
    study_instance_uid: str
    ranking: Ranking
    encoder: str


class SimilarResponder(Responder):
    """Writes the responses to one query by example."""

    def __init__(
        self, identifier: Identifier, asked: Asked, *, retrieve_ae_title: str, decorate: bool
    ) -> None:
        super().__init__(identifier, retrieve_ae_title=retrieve_ae_title)
        self._asked = asked
        self._decorate = decorate
        self._matched = FILTERS | set(UNIQUE_KEYS.values())
        self._known |= _OF_CASE.keys() | {"StudyComments"}

    def answer_case(self, match: Match, case: Case) -> Dataset:
        """Return the response for one case, of which `match` is the study, series or image."""
        answer = self.answer(match)
        rank_and_score = f"#{case.rank:02d} {case.score:.3f}"
        for keyword in self._identifier.requested:
            if keyword in _OF_CASE:
                setattr(answer, keyword, _OF_CASE[keyword](case))
        if "StudyComments" in answer:
            answer.StudyComments = rank_and_score
        if self._decorate and "StudyDescription" in answer:
            text = f"{rank_and_score} {answer.StudyDescription}"
            answer.StudyDescription = text[:_LO_LENGTH].rstrip()
        if block := self._identifier.block:
            self._put_block(block, answer, case)
        return answer

    def _put_block(self, block: private.Block, answer: Dataset, case: Case) -> None:
        asked = self._asked
        ranking, question = asked.ranking, asked.question
        values: Mapping[private.PrivateElement, object] = {
            private.RANK: case.rank,
            private.SCORE: round(case.score, 6),
            private.QUERY_STUDY: asked.study_instance_uid,
            private.QUERY_SERIES: question.series,
            private.QUERY_INSTANCE: question.instance,
            private.METRIC: "COSINE",
            private.ENCODER: asked.encoder,
            private.SNAPSHOT: f"{ranking.model_id}-{ranking.searched}",
            private.BEST_SERIES: case.series_instance_uid,
            private.BEST_INSTANCE: case.sop_instance_uid,
            private.SCOPE: question.scope.value,
            private.SCORE_TEXT: f"{case.score:.4f}",
        }
        block.reserve(answer)
        for element, value in values.items():
            if value != "":
                block.put(answer, element, value)


# Keys of the series that matched best, told of its study too: viewers show them in one table.
_OF_CASE: dict[str, Callable[[Case], str]] = {
    "Modality": lambda case: case.modality,
    "BodyPartExamined": lambda case: case.body_part,
}
