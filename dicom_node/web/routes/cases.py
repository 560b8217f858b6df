"""Similar cases as JSON of our own, for what no data set has room for: parts, near-duplicates."""

from dataclasses import dataclass, fields
from typing import Any

from fastapi import HTTPException
from pydantic import BaseModel

from dicom_node.answer.verdict import Judged, Verdict
from dicom_node.errors import QueryRefused
from dicom_node.web.accept import Range
from dicom_node.web.dicom_json import DATA_SETS, MEDIA_TYPE
from dicom_node.web.routes.similar import WantedFields
from index.parts import PartPlace
from index.records import Ranking

_JSON = "application/json"

CASES: dict[int | str, dict[str, Any]] = {
    200: {
        "description": "the cases as JSON, or as `GET …/similar` answers them where that is asked",
        "content": DATA_SETS[200]["content"],
    },
}


@dataclass(frozen=True, slots=True)
class SimilarCase:
    """A kept study: its series, instance and part that match best, and who shows the same."""

    rank: int
    score: float
    study_instance_uid: str
    series_instance_uid: str
    sop_instance_uid: str
    kind: str
    modality: str
    body_part: str
    study_date: str
    study_description: str
    patient_sex: str
    patient_age: str
    query_part: PartPlace | None
    case_part: PartPlace | None
    near_duplicates: tuple[str, ...]


class WordsJudged(BaseModel):
    """How far the words of a question were understood; words that were not are those of the asker.

    Only "inside" and "doubtful" have cases; below `needed_cosine` none is what the words say.
    `elsewhere` are body parts and methods: no such pictures were learned; `unlike` are modalities
    that were learned, and without such pictures: of them there are no cases.
    """

    verdict: Verdict
    not_learned: tuple[str, ...]
    elsewhere: tuple[str, ...]
    unlike: tuple[str, ...]
    negated: tuple[str, ...]
    learned_together: bool
    pieces_not_read: int
    best_cosine: float | None
    needed_cosine: float
    remarks: tuple[str, ...]


class SimilarCases(BaseModel):
    """The cases in rank order, and which encoder or text space ranked them.

    Not `complete`: some kept studies were not searched, since their vectors are still being made.
    `words` and `outside_space` are told of words; the latter, of words alone: nothing
    was learned of what they ask for.
    """

    model_id: str
    encoder: str
    cases: list[SimilarCase]
    complete: bool = True
    outside_space: bool | None = None
    words: WordsJudged | None = None


def chosen(accepted: tuple[Range, ...], wanted: WantedFields) -> str:
    """Return in which of two forms the cases are told; 406 for neither.

    Raises `QueryRefused` for further attributes where they have no place.
    """
    for each in accepted:
        for media_type in filter(each.takes, (_JSON, MEDIA_TYPE)):
            if each.is_multipart:
                continue
            if any(wanted.includefield) and media_type != MEDIA_TYPE:
                raise QueryRefused(f"includefield: it goes with Accept: {MEDIA_TYPE}")
            return media_type
    raise HTTPException(406, f"cases are {_JSON} or {MEDIA_TYPE}")


def cases_of(ranking: Ranking, encoder: str, judged: Judged | None = None) -> SimilarCases:
    """Return a ranking as it is told in JSON, and how far its words were understood."""
    names = [each.name for each in fields(SimilarCase)]
    cases = [SimilarCase(**{name: getattr(c, name) for name in names}) for c in ranking.cases]
    told = {"model_id": ranking.model_id, "encoder": encoder, "complete": ranking.complete}
    if judged is not None:
        told["outside_space"] = judged.verdict is Verdict.OUTSIDE
        told["words"] = WordsJudged(**judged.told())
    return SimilarCases(cases=cases, **told)


def warning_of(comment: str) -> dict[str, str]:
    """Return the header that says how far words were understood; it repeats none of them."""
    return {"Warning": f'299 similis "{comment}"'} if comment else {}
