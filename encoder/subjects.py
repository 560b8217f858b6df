"""Body parts and methods that a sentence names and nothing was learned of.

An unlearned adjective may be left aside, what a picture is of may not: whoever asks for a hip is
not served with the chests that were learned as x-rays.
So it is with what was learned of other pictures than are near: a CT is no endoscopy.
Owns: `subjects.csv`, a row for the names of one body part (after PS3.16 Annex L) or method, and
what it lies in or is a kind of. Does not own: which words were learned (`lexicon`).
"""

import csv
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from importlib.resources import files

from encoder.singular import singular

TABLE_FILE = "subjects.csv"
BODY_PART, METHOD = "body part", "method"
Names = frozenset[str]
# Modality to the words that captions of its images taught, in one form; "no X" for a negated one.
Learned = Mapping[str, Names]


@dataclass(frozen=True, slots=True)
class Subject:
    """A body part or a method: its `names`, and those of what it lies in or what lies in it."""

    kind: str
    names: Names
    kin: Names


@cache
def subjects() -> Mapping[str, Subject]:
    """Read the table: every name, in lower case and one form, to what it is a name of."""
    text = files("encoder").joinpath(TABLE_FILE).read_text(encoding="utf-8")
    rows = list(csv.DictReader(text.splitlines(), strict=True))
    names = [frozenset(map(singular, row["words"].split())) for row in rows]
    number = {name: place for place, mine in enumerate(names) for name in mine}
    outer = [[number[name] for name in row["within"].split()] for row in rows]
    around = [frozenset(_around(place, outer)) for place in range(len(rows))]
    found: dict[str, Subject] = {}
    for place, row in enumerate(rows):
        near = (each for each in range(len(rows)) if each in around[place] or place in around[each])
        kin = frozenset[str]().union(*(names[each] for each in near))
        found.update(dict.fromkeys(names[place], Subject(row["kind"], names[place], kin)))
    return found


def _around(place: int, outer: list[list[int]]) -> Iterator[int]:
    """Yield the rows that one lies in, and those that they lie in."""
    for each in outer[place]:
        yield each
        yield from _around(each, outer)


def unlike(known: Mapping[str, Collection[str]], unknown: Iterable[str], learned: Learned) -> Names:
    """Return the modalities that were not learned with such a picture as is to be seen.

    `known` words have the modalities that learned them. A modality will do that fits one body part
    and one method of those that are named.
    """
    named = {word: subjects()[word] for word in (*known, *unknown) if word in subjects()}
    alone = named.keys().isdisjoint(known)
    return frozenset(
        modality
        for modality, its in learned.items()
        if not _fits(
            named.values(),
            its,
            alone=alone and all(modality in each for each in known.values()),
        )
    )


def names_method(words: Iterable[str]) -> bool:
    """Say whether one of the words is the name of a method."""
    return any(subjects()[word].kind == METHOD for word in words if word in subjects())


def elsewhere(known: Collection[str], unknown: Iterable[str]) -> tuple[str, ...]:
    """Return the names of what is to be seen, where all modalities are unlike that.

    The unknown ones, else all: "x-ray of the abdomen", where each was learned of other pictures.
    """
    named = [word for word in (*known, *unknown) if word in subjects()]
    return tuple(word for word in named if word not in known) or tuple(named)


def _fits(named: Collection[Subject], words: Names, *, alone: bool) -> bool:
    """Say whether a modality with these words has one of the subjects of each kind.

    What lies in a learned part counts where the other kind is named and learned, too; `alone`, a
    part counts where all else that is said was learned: a prostate is in the pelvis, and cancer is
    not what was learned of that.
    """
    own = [one for one in named if not words.isdisjoint(one.names)]
    kinds = {one.kind for one in own}
    kinds |= {
        one.kind
        for one in named
        if (own or (alone and one.kind == BODY_PART)) and not words.isdisjoint(one.kin)
    }
    return kinds >= {one.kind for one in named}
