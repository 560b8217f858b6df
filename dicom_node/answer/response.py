"""A match as a C-FIND response: the requested keys, and the private block of similar cases.

A response holds no attribute that was not requested (PS3.4 C.4.1.1.3.2), but for those that every
response must have.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from operator import attrgetter

from pydicom.datadict import dictionary_VR
from pydicom.dataset import Dataset
from pydicom.tag import Tag

from dicom_node.answer import private
from dicom_node.answer.element import SPECIFIC_CHARACTER_SET, Element, Value
from dicom_node.answer.identifier import LEVELS, MODALITIES_IN_STUDY, UNIQUE_KEYS, Identifier
from dicom_node.answer.question import Question
from dicom_node.answer.verdict import Judged
from dicom_node.text import FREE_TEXT_VRS, character_set
from index.attributes import ATTRIBUTES, Level
from index.matches import Match
from index.records import Case, Ranking

Elements = list[Element]
# What pynetdicom is handed: how a query ends; the pending responses are sent before.
Answers = Iterator[tuple[Dataset | int, Dataset | None]]

# PS3.4 Table C.4-1, and Tables C.4-2 and C.4-3 alike.
CANCELLED = 0xFE00
PENDING = 0xFF00
PENDING_WITHOUT_SOME_KEYS = 0xFF01

# Where in a match the attributes of a level lie.
_SOURCES = {
    Level.PATIENT: "study",
    Level.STUDY: "study",
    Level.SERIES: "series",
    Level.IMAGE: "image",
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
# Keys of a query by example that name the example, or nothing.
_NAMES = frozenset({"AccessionNumber", *UNIQUE_KEYS.values()})
_WORDS = "words that all occur in it or in the description of the {}, whatever the capitals"
# What filters the neighbours, and how it is matched. There is no range of ages and no matching of
# words in PS3.4 C.2.2.2: a range is private, words are more than a single value would match.
FILTERS = {
    "StudyDate": "range",
    MODALITIES_IN_STUDY: "single value",
    "Modality": "single value",
    "BodyPartExamined": "single value",
    "PatientSex": "single value",
    "PatientAge": "single value, of which the whole years count",
    "InstitutionName": "single value, whatever the capitals",
    "StudyDescription": _WORDS.format("series"),
    "SeriesDescription": _WORDS.format("study"),
}
_LO_LENGTH = 64  # PS3.5 Table 6.2-1
_PARTIAL = "cases may be missing: some are not yet searched by words"


class Responder:
    """Writes the responses to one ordinary query.

    What is asked for is looked up once, in the order of the tags: a query has many responses.
    """

    def __init__(self, identifier: Identifier, *, retrieve_ae_title: str) -> None:
        self._identifier = identifier
        levels = LEVELS[identifier.level]
        columns = {a.keyword: a for a in ATTRIBUTES if a.level in levels}
        sources: dict[str, Callable[[Match], Value]] = {
            keyword: attrgetter(f"{_SOURCES[a.level]}.{a.column}") for keyword, a in columns.items()
        }
        sources |= {key: value for key, (level, value) in COMPUTED.items() if level in levels}
        self._matched = frozenset(columns) | {MODALITIES_IN_STUDY}
        self._known = frozenset(sources)
        self._tags = {
            keyword: int(tag)
            for keyword, tag in identifier.requested.items()
            if keyword and keyword not in _CONTROL
        }
        self._sources = {tag: sources.get(keyword, _nothing) for keyword, tag in self._tags.items()}
        self._always: dict[int, Value] = {
            int(Tag("QueryRetrieveLevel")): identifier.level.value,
            int(Tag("RetrieveAETitle")): retrieve_ae_title,
        }
        unknown = {
            tag: key for tag, key in identifier.private_keys().items() if not self._answers(tag)
        }
        self._has_unknown = any(not Tag(tag).is_private_creator for tag in unknown)
        self._always |= {tag: value for tag, (_, value) in unknown.items()}
        vrs = {tag: vr for tag, (vr, _) in unknown.items()}
        self._lay_out({tag: vrs.get(tag) or vr_of(tag) for tag in (*self._always, *self._sources)})

    def _answers(self, private_tag: int) -> bool:
        """Tell whether a private key is known here."""
        return False

    def _lay_out(self, vrs: dict[int, str]) -> None:
        """Set which elements a response may have, and in which order."""
        self._layout = [(tag, vrs[tag]) for tag in sorted(vrs)]
        self._texts = [tag for tag, vr in self._layout if vr in FREE_TEXT_VRS]

    @property
    def status(self) -> int:
        """FF00 where every key is answered, and matched if it has a value, FF01 else."""
        identifier = self._identifier
        answered = (self._known | _CONTROL).issuperset(identifier.requested)
        matched = (self._matched | _CONTROL).issuperset(identifier.valued)
        everything = answered and matched and not self._has_unknown
        return PENDING if everything else PENDING_WITHOUT_SOME_KEYS

    def answer(self, match: Match) -> Elements:
        """Return the response for one match."""
        return self._elements(self._values(match))

    def _values(self, match: Match) -> dict[int, Value]:
        return self._always | {tag: source(match) for tag, source in self._sources.items()}

    def _elements(self, values: dict[int, Value]) -> Elements:
        """Return what has a value, even an empty one, in the order of the tags."""
        elements = [Element(tag, vr, values[tag]) for tag, vr in self._layout if tag in values]
        texts = (str(values[tag]) for tag in self._texts if tag in values)
        if needed := character_set(texts, self._identifier.character_set):
            elements.insert(0, Element(SPECIFIC_CHARACTER_SET, "CS", needed))
        return elements


def vr_of(tag: int | str) -> str:
    """Return the VR of a standard element; "US or SS" is US, there being no value to tell."""
    return dictionary_VR(tag)[:2]


def _nothing(match: Match) -> None:
    """Return what a key is told that is not kept."""


@dataclass(frozen=True, slots=True)
class Asked:
    """What was compared with what: goes into every answer's private block.

    `judged` says how far words were understood, None where there were none.
    """

    question: Question
    study_instance_uid: str
    ranking: Ranking
    encoder: str
    judged: Judged | None = None

    @property
    def comment(self) -> str:
        """How far words were read and searched, in at most 64 characters that repeat none."""
        if self.judged is None:
            return ""
        read = self.judged.comment
        if self.ranking.complete:
            return read
        if not read:
            return _PARTIAL
        both = f"{read}; cases may be missing"
        return both if len(both) <= _LO_LENGTH else read


class SimilarResponder(Responder):
    """Writes the responses to one query by example."""

    def __init__(
        self, identifier: Identifier, asked: Asked, *, retrieve_ae_title: str, decorate: bool
    ) -> None:
        super().__init__(identifier, retrieve_ae_title=retrieve_ae_title)
        self._asked = asked
        self._matched = _NAMES.union(FILTERS)
        self._known |= _OF_CASE.keys() | {"StudyComments"}
        self._of_case = {
            self._tags[keyword]: source
            for keyword, source in _OF_CASE.items()
            if keyword in self._tags
        }
        self._comments = self._tags.get("StudyComments")
        self._description = self._tags.get("StudyDescription") if decorate else None
        if block := identifier.block:
            self._lay_out(dict(self._layout) | block.vrs())

    def _answers(self, private_tag: int) -> bool:
        block = self._identifier.block
        return block is not None and block.holds(private_tag)

    def answer_case(self, match: Match, case: Case) -> Elements:
        """Return the response for one case, of which `match` is the study, series or image."""
        values = self._values(match)
        rank_and_score = f"#{case.rank:02d} {case.score:.3f}"
        for tag, source in self._of_case.items():
            values[tag] = source(case)
        if self._comments:
            values[self._comments] = rank_and_score
        if self._description:
            text = f"{rank_and_score} {values[self._description]}"
            values[self._description] = text[:_LO_LENGTH].rstrip()
        if block := self._identifier.block:
            values |= block.values(self._private(case))
        return self._elements(values)

    def _private(self, case: Case) -> dict[private.PrivateElement, Value]:
        asked = self._asked
        ranking, question = asked.ranking, asked.question
        return {
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
            private.EFFORT: question.filters.effort.upper(),
        }


# Keys of the series that matched best, told of its study too: viewers show them in one table.
_OF_CASE: dict[str, Callable[[Case], str]] = {
    "Modality": lambda case: case.modality,
    "BodyPartExamined": lambda case: case.body_part,
}
