"""Body parts and methods that a sentence names and nothing was learned of.

An unlearned adjective may be left aside, what a picture is of may not: whoever asks for a hip is
not served with the chests that were learned as x-rays.
Owns: `subjects.csv`, a row for the names of one body part (after PS3.16 Annex L) or method, and
what it lies in. Does not own: which words were learned (`lexicon`).
"""

import csv
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from importlib.resources import files

from encoder.singular import singular

TABLE_FILE = "subjects.csv"
Names = frozenset[str]
Learned = Mapping[str, Names]  # modality to words


@dataclass(frozen=True, slots=True)
class Subject:
    """A body part or a method: its `names`, and those of what it lies in, one within the next."""

    kind: str
    names: Names
    around: tuple[Names, ...]


@cache
def subjects() -> Mapping[str, Subject]:
    """Read the table: every name, in lower case and one form, to what it is a name of."""
    text = files("encoder").joinpath(TABLE_FILE).read_text(encoding="utf-8")
    found: dict[str, Subject] = {}
    for row in csv.DictReader(text.splitlines(), strict=True):  # what is around comes first
        names = frozenset(map(singular, row["words"].split()))
        outer = found[row["within"]] if row["within"] else None
        around = () if outer is None else (outer.names, *outer.around)
        found.update(dict.fromkeys(names, Subject(row["kind"], names, around)))
    return found


def elsewhere(known: Iterable[str], unknown: Iterable[str], learned: Learned) -> tuple[str, ...]:
    """Return the unknown words that name a subject which nothing was learned of.

    Of each kind one learned subject is enough: "chest x-ray, hip prosthesis" is of the chest,
    unless no modality has all the learned subjects ("ultrasound of the fetal head").
    """
    said = frozenset(known)
    named = said & subjects().keys()
    met = _met(named, learned)
    foreign = [(word, subjects()[word]) for word in unknown if word in subjects()]
    # By another of its names it is learned: "colonic" by endoscopies of the colon.
    settled = {one.kind for _, one in foreign if not met.isdisjoint(one.names)}
    settled |= {subjects()[word].kind for word in named if met}
    # What it lies in counts where all that is said was learned: cancer was not, of the pelvis.
    close = _met(said, learned)
    return tuple(
        word
        for word, one in foreign
        if one.kind not in settled and all(close.isdisjoint(names) for names in one.around)
    )


def _met(words: Names, learned: Learned) -> Names:
    """Return all words of the modalities that learned these."""
    return frozenset[str]().union(*(each for each in learned.values() if words <= each))
