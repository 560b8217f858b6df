"""Captions without inventing: templates filled with what is known, and with nothing else.

Owns: which words a fact may be said with, and which templates fit. Does not own: the tables
(`phrases`), the facts (`facts`).
"""

import csv
import random
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from itertools import product
from string import Formatter

from encoder.abbreviations import write_out
from training.facts import Facts
from training.phrases import (
    BODY_PARTS,
    FREE_TEXT,
    KINDS,
    LABELS,
    METHODS,
    PATIENTS,
    PICTURES,
    SIDES,
    TEMPLATES,
    VIEWS,
)

BODY_PARTS_FILE = "body_parts.csv"
Wordings = Mapping[str, tuple[str, ...]]


@dataclass(frozen=True, slots=True)
class Caption:
    """A sentence, and what it says: slots of its template with the wording of each."""

    text: str
    said: tuple[tuple[str, str], ...]


def captions(facts: Facts, stream: random.Random, *, count: int) -> tuple[str, ...]:
    """Return up to `count` different sentences; fewer where little is known."""
    return tuple(caption.text for caption in draw(wordings(facts), stream, count=count))


def draw(known: Wordings, stream: random.Random, *, count: int) -> tuple[Caption, ...]:
    """Return up to `count` captions of what is known, no two the same sentence.

    Templates come in an order drawn from `stream`, each with synonyms drawn from it, round by
    round, so that short and long ones are as frequent as in the table.
    """
    fitting = [template for template in TEMPLATES if _slots(template) <= known.keys()]
    found: dict[str, Caption] = {}
    for _ in range(count):
        for template in stream.sample(fitting, len(fitting)):
            said = {slot: stream.choice(known[slot]) for slot in sorted(_slots(template))}
            text = template.format_map(said)
            found.setdefault(text, Caption(text, tuple(said.items())))
            if len(found) == count:
                return tuple(found.values())
    return tuple(found.values())


def is_true(caption: Caption, known: Wordings) -> bool | None:
    """Say whether a caption is true of an image of which this is known.

    True where every wording of it is one of the image's, None where a slot of it is unknown and
    none is contradicted. Words that are free contradict nothing: an image may be as another's
    report says, and its own does not tell.
    """
    unknown = False
    for slot, way in caption.said:
        if slot not in known or (slot in FREE_TEXT and way not in known[slot]):
            unknown = True
        elif way not in known[slot]:
            return False
    return None if unknown else True


def every_caption(facts: Facts) -> frozenset[str]:
    """Return all sentences that can be said of an image: what is true of it in words."""
    known = wordings(facts)
    fitting = [(template, sorted(_slots(template))) for template in TEMPLATES]
    return frozenset(
        template.format_map(dict(zip(slots, ways, strict=True)))
        for template, slots in fitting
        if known.keys() >= set(slots)
        for ways in product(*(known[slot] for slot in slots))
    )


def finding(label: str) -> str:
    """Return the first name of the finding that a label says, empty where it says none.

    Labels that say the same, as "normal" and "healthy", have the same.
    """
    slot, ways = _label(label)
    return ways[0] if slot == "finding" else ""


def wordings(facts: Facts) -> Wordings:
    """Return each slot of the templates that is known, with every way to say it."""
    slot, ways = _label(facts.label)
    said: dict[str, tuple[str, ...]] = {
        "image": _image(facts),
        "part": _body_part(facts.body_part),
        "side": SIDES.get(facts.side, ()),
        "view": _named(VIEWS, facts.view),
        "patient": _patient(facts.age_band, facts.sex),
        slot: ways,
        "study": (facts.study,),
        "series": (facts.series,),
        "protocol": (facts.protocol,),
        "comment": facts.comments,
    }
    filled = {slot: tuple(filter(None, ways)) for slot, ways in said.items()}
    return {slot: ways for slot, ways in filled.items() if ways}


def prompts(label: str, facts: Facts) -> tuple[str, ...]:
    """Return every sentence that says a label of such an image, for an ensemble of prompts.

    Of `facts` modality, kind and body part are used; what else is known of one image is not.
    """
    known = wordings(Facts(facts.kind, facts.modality, facts.body_part, label=label))
    slot, ways = _label(label)
    plain = {name: said[0] for name, said in known.items()}
    return tuple(
        template.format_map({**plain, slot: way})
        for template in TEMPLATES
        if slot in _slots(template) <= known.keys()
        for way in ways
    )


def _image(facts: Facts) -> tuple[str, ...]:
    """Name the picture, its method, and method with kind; the kind alone where it is unknown."""
    kinds, methods = KINDS[facts.kind], METHODS.get(facts.modality, ())
    pictures = PICTURES.get(facts.modality, ())
    named = tuple(f"{method} {kind}" for method in methods for kind in kinds)
    return (*pictures, *methods, *named) or kinds


def _label(label: str) -> tuple[str, tuple[str, ...]]:
    """Return the slot of a label and the ways to say it."""
    for slot, table in LABELS.items():
        if label in table:
            return slot, table[label]
    return "finding", (write_out(label),)


def _patient(band: str, sex: str) -> tuple[str, ...]:
    """Name the patient by what is known; a sex that is neither F nor M is not said."""
    return PATIENTS.get((band, sex)) or PATIENTS.get((band, "")) or ()


def _named(table: Wordings, value: str) -> tuple[str, ...]:
    """Say a value as the table does, else as it is written, abbreviations written out."""
    return table.get(value, (write_out(value),))


def _body_part(value: str) -> tuple[str, ...]:
    """Name a body part as people do and as the standard does."""
    term = value.upper()
    ways = (*BODY_PARTS.get(term, ()), _defined().get(term, "").lower())
    return tuple(dict.fromkeys(filter(None, ways))) or (write_out(value),)


@cache
def _defined() -> Mapping[str, str]:
    """Read the names of the defined terms of Body Part Examined."""
    text = files("training").joinpath(BODY_PARTS_FILE).read_text(encoding="utf-8")
    rows = csv.DictReader(text.splitlines(), strict=True)
    return {row["body_part"]: row["name"] for row in rows}


@cache
def _slots(template: str) -> frozenset[str]:
    return frozenset(slot for _, slot, _, _ in Formatter().parse(template) if slot)
