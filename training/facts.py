"""What is known of an image in words: from its DICOM header, and from its row in the manifest.

Owns: `Facts`, bands of age, cutting comments into sentences, leaving out what cannot be read.
Does not own: how it is said (`captions`), who can read it (the text tower). A fact that is absent,
or not as the standard writes it, is unknown and stays unsaid.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from pydicom import Dataset

from encoder.abbreviations import write_out
from encoder.clip import Kind
from encoder.laterality import side
from training.manifest import Item
from training.phrases import AGE_BANDS, DAYS

LONGEST = 1000  # characters of one fact: a caption of several stays below what a sentence may have
_WRITTEN = ("body_part", "side", "view", "study", "series", "protocol", "label")
_COMMENT_SEPARATOR = "|"
_SENTENCE_END = re.compile(r"(?<=[A-Za-z\d)\"][A-Za-z)\"][.!?])\s+(?=[A-Z“\"])")
_AGE = re.compile(r"(\d{3})([DWMY])")


@dataclass(frozen=True, slots=True)
class Facts:
    """Empty where unknown; `study`, `series` and `protocol` are written out already."""

    kind: Kind
    modality: str = ""
    body_part: str = ""
    side: str = ""
    view: str = ""
    age_band: str = ""
    sex: str = ""
    study: str = ""
    series: str = ""
    protocol: str = ""
    label: str = ""
    comments: tuple[str, ...] = ()


def facts_of(item: Item, header: Dataset | None = None) -> Facts:
    """Gather what a row says, and what the header of its file does; the row is believed first.

    Descriptions are as the hospital wrote them: what they say of a person is not taken out.
    """
    header = Dataset() if header is None else header
    return Facts(
        kind=item.kind,
        modality=item.modality or _first(header, "Modality"),
        body_part=item.body_part or _body_part(header),
        side=side(header, None),
        view=_first(header, "ViewPosition"),
        age_band=age_band(_first(header, "PatientAge")),
        sex=_first(header, "PatientSex"),
        study=write_out(_first(header, "StudyDescription")),
        series=write_out(_first(header, "SeriesDescription")),
        protocol=write_out(_first(header, "ProtocolName")),
        label=item.label,
        comments=sentences(item.caption),
    )


def readable(facts: Facts, knows: Callable[[str], bool]) -> tuple[Facts, frozenset[str]]:
    """Leave unsaid what `knows` cannot read, as another script; return that too, as it is written.

    A text has to be readable as it is and written out. A caption of readable facts is readable.
    """

    def read(text: str) -> bool:
        return len(text) <= LONGEST and knows(text) and knows(write_out(text))

    written = {name: getattr(facts, name) for name in _WRITTEN}
    texts = {text for text in (*written.values(), *facts.comments) if text}
    unread = {text for text in texts if not read(text)}
    unsaid: dict[str, Any] = {name: "" for name, text in written.items() if text in unread}
    comments = tuple(text for text in facts.comments if text not in unread)
    return replace(facts, **unsaid, comments=comments), frozenset(unread)


def age_band(age: str) -> str:
    """Name the band of a DICOM age ("004Y", PS3.5 section 6.2); empty where it is none."""
    found = _AGE.fullmatch(age)
    if found is None:
        return ""
    days = int(found.group(1)) * DAYS[found.group(2)]
    return next(name for end, name in AGE_BANDS if days < end)


def sentences(comments: str) -> tuple[str, ...]:
    """Cut comments, which a bar parts, into their sentences, each once."""
    parts = [part for each in comments.split(_COMMENT_SEPARATOR) for part in _cut(each)]
    return tuple(dict.fromkeys(parts))


def _cut(comment: str) -> list[str]:
    cut = (part.strip(" .\t\n") for part in _SENTENCE_END.split(comment.strip()))
    return [part for part in cut if part]


def _body_part(header: Dataset) -> str:
    """Body Part Examined, else the meaning of the first Anatomic Region (PS3.3 C.7.6.16.2.8)."""
    if part := _first(header, "BodyPartExamined"):
        return part
    regions = header.get("AnatomicRegionSequence") or [Dataset()]
    return _first(regions[0], "CodeMeaning")


def _first(header: Dataset, keyword: str) -> str:
    """Return the first value of an attribute as text, empty where there is none."""
    value = header.get(keyword)
    if isinstance(value, str) or value is None:
        return (value or "").strip()
    return next((str(each).strip() for each in value), "")
