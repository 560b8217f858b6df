"""C-FIND by likeness: an example or a sentence as the query, similar cases as the answer, by rank.

At STUDY level the answer is studies; at SERIES and IMAGE level it is the series or image of each
similar study that matches best.
"""

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace

import structlog
from pynetdicom import evt

from dicom_node.answer.identifier import Identifier
from dicom_node.answer.pending import send_pending
from dicom_node.answer.query import Answered, part_of, similar_to_study
from dicom_node.answer.question import Question, read_question
from dicom_node.answer.response import Answers, Asked, Elements, SimilarResponder
from dicom_node.answer.words import Beside, Sentence, example_of, similar_to_words
from dicom_node.config import Answer, Scope, Text
from dicom_node.errors import NoTextSpace, NotIndexed, QueryRefused
from dicom_node.generation import Answering, Current
from dicom_node.listener import failure, peer
from dicom_node.words.space import WordSearch
from index.attributes import ATTRIBUTES, Level
from index.catalogue import Catalogue
from index.criteria import Key
from index.matches import Match, SeriesRow
from index.records import Case, StudyRow
from index.states import State

log = structlog.get_logger()

SUCCESS = 0x0000  # PS3.7 Annex C.1.1
NOT_INDEXED_YET = 0xC001  # PS3.4 Table C.4-1 leaves Cxxx to the implementation

_UNSETTLED = frozenset({State.RECEIVING, State.DIRTY, State.QUIET, State.EMBEDDED})
_POLL_S = 0.1
_BY_KEYWORD = {attribute.keyword: attribute for attribute in ATTRIBUTES}


@dataclass(frozen=True, slots=True)
class FindService:
    """Where cases come from, how words are read and how answers are written."""

    catalogue: Catalogue
    current: Current
    answer: Answer
    retrieve_ae_title: str
    text: Text = field(default_factory=Text)

    def space_of(self, answering: Answering) -> WordSearch:
        """Return the text space of a generation; raises `NoTextSpace`."""
        if answering.words is None:
            raise NoTextSpace(answering.model.model_id if self.text.enabled else "")
        return answering.words


def find_similar(
    event: evt.Event, identifier: Identifier, service: FindService, sentence: str = ""
) -> Answers:
    """Answer one C-FIND by example or by a sentence.

    Raises as `find_cases` but for `NotIndexed`.
    """
    try:
        asked = find_cases(
            identifier, service, sentence, is_listening=lambda: event.assoc.is_established
        )
    except NotIndexed as error:
        log.info(
            "query_without_vectors",
            study=error.study_instance_uid,
            state=error.state or "unknown",
            source=peer(event),
        )
        if error.is_coming:
            yield failure(NOT_INDEXED_YET, "the study is being indexed, ask again"), None
        return
    answered = yield from send_pending(event, case_answers(identifier, asked, service))
    log.info("query_answered", cases=answered, source=peer(event))
    if asked.comment:
        # Success: viewers show a list, where a failure would be an error message.
        yield failure(SUCCESS, asked.comment), None


def find_cases(
    identifier: Identifier,
    service: FindService,
    sentence: str = "",
    *,
    weight: float | None = None,
    is_listening: Callable[[], bool],
) -> Asked:
    """Search; `weight` is the share of a sentence beside an example, if not the configured one.

    Raises `QueryRefused` and `BadQuery`, `NotIndexed` for an example without vectors; for a
    sentence `BadText` and `NoTextSpace`.
    """
    question, study_uid = _understood(identifier, service, sentence)
    weight = service.text.weight if weight is None else weight
    if question.text and (weight or not question.has_example):
        return _kept_and_words(question, study_uid, service, weight)
    found = _search(service, study_uid, question, is_listening)
    if found is None:
        raise _not_indexed(study_uid, service.catalogue)
    answering, answered = found
    return Asked(question, study_uid, answered.ranking, answering.model.version)


def _understood(
    identifier: Identifier, service: FindService, sentence: str
) -> tuple[Question, str]:
    """Return what is asked, its scope as filters, and the study of the example if there is one."""
    question = read_question(identifier, service.answer, sentence)
    study_uid = _example_study(question, service.catalogue) if question.has_example else ""
    if question.scope in (Scope.SAME_MODALITY, Scope.SAME_BODY_PART):
        question = _with_scope(question, study_uid, service.catalogue)
    return question, study_uid


def _not_indexed(study_uid: str, catalogue: Catalogue) -> NotIndexed:
    known = catalogue.study_row(study_uid)
    state = known.state if known is not None else None
    return NotIndexed(study_uid, state or "", is_coming=state in _UNSETTLED)


def _kept_and_words(
    question: Question, study_uid: str, service: FindService, weight: float
) -> Asked:
    """Rank the cases by a sentence, and by a kept study or a part of it if there is one."""
    answering = service.current()
    space = service.space_of(answering)
    if not question.has_example:
        return find_by_words(space, question)
    whole = service.catalogue.study_query(study_uid, answering.model.model_id)
    part = whole and part_of(whole, question.series, question.instance)
    if part is None:
        raise _not_indexed(study_uid, service.catalogue)
    example = example_of(service.catalogue, part)
    beside = Beside(example, answering.search, weight, answering.model.version)
    return find_by_words(space, question, beside)


def find_by_words(space: WordSearch, question: Question, beside: Beside | None = None) -> Asked:
    """Rank the cases by the sentence of a question, and by an example if there is one.

    Raises `BadText`.
    """
    told = similar_to_words(space, Sentence(question.text, beside), question.filters)
    log.info(
        "words_asked",
        characters=len(question.text),
        cases=len(told.ranking.cases),
        verdict=str(told.judged.verdict),
    )
    study_uid = "" if beside is None else beside.example.study_instance_uid
    return Asked(question, study_uid, told.ranking, told.version, told.judged)


def _example_study(question: Question, catalogue: Catalogue) -> str:
    """Return the study of the example, empty when it is unknown; raise `QueryRefused`."""
    if question.study:
        return question.study
    if question.accession_number:
        found = catalogue.find_study_by_accession(question.accession_number)
        keyword = "AccessionNumber"
    else:
        found = catalogue.studies_with(series=question.series, image=question.instance)
        keyword = ""
    if len(found) > 1:
        reason = f"{len(found)} studies are named so, give a StudyInstanceUID"
        raise QueryRefused(reason, keyword=keyword)
    return found[0] if found else ""


def _with_scope(question: Question, study_uid: str, catalogue: Catalogue) -> Question:
    """Turn the scopes that speak of the example's series into filters; raise `QueryRefused`."""
    if not question.has_example:
        raise QueryRefused("this scope is of an example, and there is none")
    filters = question.filters
    series = catalogue.matching_series(study_uid, _named("SeriesInstanceUID", question.series))
    if question.scope is Scope.SAME_MODALITY and series:
        modality = _shared("modality", {row.modality for row in series})
        filters = replace(filters, modality=modality)
    if question.scope is Scope.SAME_BODY_PART and series:
        body_part = _shared("body part", {row.body_part_examined for row in series})
        filters = replace(filters, body_part=body_part)
    return replace(question, filters=filters)


def _shared(what: str, values: set[str]) -> str:
    if len(values - {""}) != 1:
        raise QueryRefused(f"the example has no single {what}, name one of its series")
    return max(values)


def _search(
    service: FindService, study_uid: str, question: Question, is_listening: Callable[[], bool]
) -> tuple[Answering, Answered] | None:
    """Rank the cases; wait a little for an example that is on its way into the index."""
    deadline = time.monotonic() + service.answer.wait_s
    while True:
        answering = service.current()
        answered = similar_to_study(
            service.catalogue,
            answering.search,
            study_uid,
            question.filters,
            series=question.series,
            instance=question.instance,
        )
        if answered is not None:
            return answering, answered
        if time.monotonic() >= deadline:
            return None
        known = service.catalogue.study_row(study_uid)
        if known is None or known.state not in _UNSETTLED or not is_listening():
            return None
        time.sleep(_POLL_S)


def case_answers(
    identifier: Identifier, asked: Asked, service: FindService
) -> Iterator[tuple[int, Elements]]:
    """Yield what was found for a question, in rank order, each with its pending status."""
    ranking = asked.ranking
    responder = SimilarResponder(
        identifier,
        asked,
        retrieve_ae_title=service.retrieve_ae_title,
        decorate=service.answer.decorate,
    )
    studies = service.catalogue.study_rows([case.study_instance_uid for case in ranking.cases])
    for case in ranking.cases:
        study = studies.get(case.study_instance_uid)
        match = _best_match(service.catalogue, identifier.level, study, case) if study else None
        if match is not None:
            yield responder.status, responder.answer_case(match, case)


def _best_match(catalogue: Catalogue, level: Level, study: StudyRow, case: Case) -> Match | None:
    """Return the part of a case that a level asks for; None when it was deleted just now."""
    if level is Level.STUDY:
        return Match(study)
    study_uid, series_uid = case.study_instance_uid, case.series_instance_uid
    series: SeriesRow | None = next(
        iter(catalogue.matching_series(study_uid, _named("SeriesInstanceUID", series_uid))), None
    )
    if series is None or level is Level.SERIES:
        return Match(study, series) if series else None
    named = _named("SOPInstanceUID", case.sop_instance_uid)
    images = catalogue.matching_images(study_uid, series_uid, named)
    return Match(study, series, images[0]) if images else None


def _named(keyword: str, uid: str) -> list[Key]:
    return [Key(_BY_KEYWORD[keyword], (uid,))]
