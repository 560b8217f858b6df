"""What a similarity query asks: the example or a sentence, how many cases, and which ones.

The example is named by the private keys Query Study, Series or SOP Instance UID or, for requestors
that cannot send private keys, by plain StudyInstanceUID or AccessionNumber at STUDY level. A
sentence, the private key Query Text, takes its place or goes with it. The other matching keys are
filters on the neighbours.
"""

from dataclasses import dataclass

from dicom_node.answer import private
from dicom_node.answer.identifier import Identifier
from dicom_node.answer.query import Filters
from dicom_node.config import Answer, Scope
from dicom_node.errors import QueryRefused
from dicom_node.text import is_uid
from index.attributes import Level
from index.criteria import age_range, value_range
from index.gallery import whole_years
from index.vectors import Effort

EXAMPLES = (private.QUERY_STUDY, private.QUERY_SERIES, private.QUERY_INSTANCE)
_DESCRIPTIONS = ("StudyDescription", "SeriesDescription")
_IS_LENGTH = 12  # PS3.5 6.2


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """A similarity query; of the example at least one field is given, or there is a sentence."""

    study: str = ""
    accession_number: str = ""
    series: str = ""
    instance: str = ""
    text: str = ""
    scope: Scope
    filters: Filters

    @property
    def has_example(self) -> bool:
        """Whether there is more than a sentence."""
        return any((self.study, self.accession_number, self.series, self.instance))


def asks_for_similar(identifier: Identifier) -> bool:
    """Tell whether a query is of likeness: below STUDY level only private keys can say so."""
    named = any(identifier.private(element) for element in (*EXAMPLES, private.QUERY_TEXT))
    return named or identifier.level is Level.STUDY


def read_question(identifier: Identifier, answer: Answer, sentence: str = "") -> Question:
    """Return what a query asks, beside a sentence found elsewhere than in the private block.

    Raises `QueryRefused`, or `BadQuery` for a range.
    """
    text = sentence or identifier.private(private.QUERY_TEXT)
    study, series, instance = (_uid(identifier, element) for element in EXAMPLES)
    accession_number = ""
    if not (study or series or instance):
        study = _plain_study(identifier)
        if not study and not (text and "AccessionNumber" not in identifier.valued):
            accession_number = _accession_number(identifier)
    return Question(
        study=study,
        accession_number=accession_number,
        series=series,
        instance=instance,
        text=text,
        scope=read_scope(identifier),
        filters=read_filters(identifier, answer),
    )


def _uid(identifier: Identifier, element: private.PrivateElement) -> str:
    uid = identifier.private(element)
    if uid and not is_uid(uid):
        raise QueryRefused(f"{element.name} is not one UID")
    return uid


def _plain_study(identifier: Identifier) -> str:
    if "StudyInstanceUID" not in identifier.valued:
        return ""
    uids = identifier.uids("StudyInstanceUID")
    if len(uids) > 1:
        raise QueryRefused("one study is the example, not several", keyword="StudyInstanceUID")
    return uids[0]


def _accession_number(identifier: Identifier) -> str:
    number = _single(identifier, "AccessionNumber")
    if not number:
        if identifier.block is None and any(
            tag >> 16 == private.GROUP for tag in identifier.private_keys()
        ):
            reason = f"private keys need ({private.GROUP:04X},0010)={private.CREATOR}"
            raise QueryRefused(reason)
        raise QueryRefused("no study to compare with", keyword="StudyInstanceUID")
    return number


def read_filters(identifier: Identifier, answer: Answer) -> Filters:
    """Return what a query asks of the cases; raise `QueryRefused`, or `BadQuery` for a range."""
    dates = identifier.text("StudyDate")
    date_from, date_to = (
        value_range(dates, vr="DA", keyword="StudyDate")
        if "StudyDate" in identifier.valued
        else (None, None)
    )
    youngest, oldest = _ages(identifier)
    return Filters(
        k=min(_maximum(identifier, answer.k), answer.maximum_k),
        modality=_code(identifier, "ModalitiesInStudy") or _code(identifier, "Modality"),
        body_part=_code(identifier, "BodyPartExamined"),
        patient_sex=_code(identifier, "PatientSex"),
        date_from=date_from,
        date_to=date_to,
        age_from_years=youngest,
        age_to_years=oldest,
        institution=_single(identifier, "InstitutionName") or None,
        description=_words(identifier) or None,
        effort=_effort(identifier),
        same_patient=read_scope(identifier) is Scope.ALL,
        minimum_score=_score(identifier, answer.minimum_score),
        part_weight=answer.part_weight,
    )


def _single(identifier: Identifier, keyword: str) -> str:
    """Return the one value that a key asks for, empty for universal matching."""
    if keyword not in identifier.valued:
        return ""
    value = identifier.text(keyword)
    if set(value) & set("*?\\"):
        raise QueryRefused(f"{keyword} takes one value without wildcards", keyword=keyword)
    return value


def _code(identifier: Identifier, keyword: str) -> str | None:
    return _single(identifier, keyword).upper() or None


def _ages(identifier: Identifier) -> tuple[int | None, int | None]:
    """Return the ages asked for in whole years: of a range, or that of one age string."""
    stated, text = _single(identifier, "PatientAge"), identifier.private(private.AGE_RANGE)
    if text and not stated:
        return age_range(text, field=private.AGE_RANGE.name)
    years = whole_years(stated)
    if stated and text:
        raise QueryRefused("PatientAge and a range of ages are one too many", keyword="PatientAge")
    if stated and years is None:
        raise QueryRefused("PatientAge is no age, as 045Y is", keyword="PatientAge")
    return years, years


def _words(identifier: Identifier) -> str:
    """Return what must occur in a description; between words `*` is as good as a space."""
    texts = (identifier.text(k).replace("*", " ") for k in _DESCRIPTIONS if k in identifier.valued)
    words = " ".join(texts)
    if set(words) & set("?\\"):
        raise QueryRefused("words of a description hold no ? and no backslash")
    return words


def _effort(identifier: Identifier) -> Effort:
    text = identifier.private(private.EFFORT)
    if text and text.lower() not in set(Effort):
        raise QueryRefused(f"efforts are {', '.join(Effort).upper()}")
    return Effort(text.lower()) if text else Effort.NORMAL


def read_scope(identifier: Identifier) -> Scope:
    """Return which cases may be answered; raise `QueryRefused`."""
    text = identifier.private(private.SCOPE)
    if text and text not in set(Scope):
        raise QueryRefused(f"scopes are {', '.join(Scope)}")
    return Scope(text) if text else Scope.OTHER_PATIENTS


def _maximum(identifier: Identifier, default: int) -> int:
    text = identifier.private(private.MAXIMUM_RESULTS)
    if not text:
        return default
    if len(text) > _IS_LENGTH or not text.isdecimal() or int(text) < 1:
        raise QueryRefused(f"{private.MAXIMUM_RESULTS.name} is not a positive number")
    return int(text)


def _score(identifier: Identifier, default: float) -> float:
    text = identifier.private(private.SCORE)
    try:
        score = float(text) if text else default
    except ValueError as error:
        raise QueryRefused("the minimum score is not a number") from error
    if not -1 <= score <= 1:
        raise QueryRefused("the minimum score is not between -1 and 1")
    return score
