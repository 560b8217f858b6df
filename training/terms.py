"""Sentences from coded dictionaries: the names that one code has in DICOM's own tables.

Owns: cleaning them, and pairs of names of one thing. Does not own: the tables, which come with
pydicom (PS3.16 Annexes D and L, context groups), nor the training on them.
"""

import re
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import combinations

from pydicom.sr.codedict import codes

from encoder.abbreviations import END, table

SCHEMES = ("SCT", "LN", "DCM")
# SNOMED CT's tag of what kind of thing a full name is of.
TAGS = frozenset(
    {
        "assessment scale",
        "attribute",
        "body structure",
        "cell structure",
        "disorder",
        "environment",
        "finding",
        "morphologic abnormality",
        "observable entity",
        "occupation",
        "organism",
        "person",
        "physical force",
        "physical object",
        "procedure",
        "product",
        "qualifier value",
        "racial group",
        "reaction",
        "record artifact",
        "regime/therapy",
        "situation",
        "specimen",
        "substance",
        "tumor",
    }
)
LEFT_OUT = frozenset({"occupation", "organism", "person", "racial group"})
_BREED = re.compile(r"breed\b")  # thousands, for veterinary use
_TAG = re.compile(r"\s*\(([a-z /]+)\)$")
# What a full name says more than people do, in the order of taking it away.
_SHORTER = (
    (re.compile(r"^(?:Structure of|Entire)\s+", re.I), ""),
    (re.compile(r"\s+structure$", re.I), ""),
    (re.compile(r"\^(\w+)\^"), r"-\1"),  # an isotope: Copper^64^
    (re.compile(r"\u200b"), ""),
    (re.compile(r"\s+"), " "),
)


@dataclass(frozen=True, slots=True)
class Term:
    """One code and its names, cleaned, no two the same but for case."""

    scheme: str
    code: str
    names: tuple[str, ...]


@cache
def terms() -> tuple[Term, ...]:
    """Collect the codes of `SCHEMES` by scheme and code, people and animals not among them."""
    return tuple(
        Term(scheme, code, _distinct(_clean(name) for name in names))
        for scheme in SCHEMES
        for code, names in sorted(_meanings(scheme).items())
        if not any(_tag(name) in LEFT_OUT or _BREED.search(name) for name in names)
    )


def pairs(chosen: Sequence[Term]) -> tuple[tuple[str, str], ...]:
    """Return every two names of a thing, once."""
    return tuple(pair for term in chosen for pair in combinations(term.names, 2))


def abbreviation_pairs() -> tuple[tuple[str, str], ...]:
    """Return every abbreviation of descriptions with its meaning, in words."""
    return tuple(
        (" ".join(word for word in key if word != END).upper(), " ".join(meaning))
        for key, meaning in table().items()
    )


def counts() -> dict[str, tuple[int, int, int]]:
    """Count codes, names and pairs of each scheme."""
    found: dict[str, tuple[int, int, int]] = {}
    for scheme in SCHEMES:
        mine = [term for term in terms() if term.scheme == scheme]
        found[scheme] = len(mine), sum(len(term.names) for term in mine), len(pairs(mine))
    return found


def _meanings(scheme: str) -> dict[str, list[str]]:
    """Gather what the keywords of a scheme mean, by code."""
    meanings: defaultdict[str, list[str]] = defaultdict(list)
    for code in getattr(codes, scheme).concepts.values():
        meanings[code.value].append(code.meaning)
    return meanings


def _tag(name: str) -> str:
    found = _TAG.search(name)
    return found.group(1) if found and found.group(1) in TAGS else ""


def _clean(name: str) -> str:
    if tag := _tag(name):
        name = name.removesuffix(f"({tag})").rstrip()
    for pattern, shorter in _SHORTER:
        name = pattern.sub(shorter, name)
    return name.strip()


def _distinct(names: Iterable[str]) -> tuple[str, ...]:
    return tuple({name.casefold(): name for name in names}.values())
