"""Vendor abbreviations in descriptions, written out: "CXR PA/LAT" is a chest x-ray.

British spellings count as abbreviations of the American ones, which the text tower knows better.
Owns: reading `abbreviations.csv` and replacing word by word. Does not own: what is said of an image
(`training.captions`), word pieces (`wordpiece`).
"""

import csv
import re
from collections.abc import Iterator, Mapping
from functools import cache
from importlib.resources import files

TABLE_FILE = "abbreviations.csv"
END = "$"  # the end of a description, in a key: "ABD W/O" leaves its last word out
# Blanks, control characters and the punctuation of ASCII part words; all else belongs to one.
_WORD = re.compile(r"[^\s\x00-/:-@\[-`{-\x7f]+")
_KEPT_BETWEEN = frozenset("-'.+")


@cache
def table() -> Mapping[tuple[str, ...], tuple[str, ...]]:
    """Read the table: words of an abbreviation to words of its meaning, both in lower case."""
    text = files("encoder").joinpath(TABLE_FILE).read_text(encoding="utf-8")
    return {
        tuple(row["abbreviation"].split()): tuple(row["meaning"].split())
        for row in csv.DictReader(text.splitlines(), strict=True)
    }


def write_out(description: str) -> str:
    """Return a description in lower case with what the table knows written out.

    What parts words becomes one space, save a lone hyphen, apostrophe, point or plus between two
    words that stay. A word that is not in the table stays. Doing it twice changes nothing: every
    key of the table has a word that no meaning has, so that replacing comes to an end, and it goes
    on until it has.
    """
    while (replaced := _once(description)) != description:
        description = replaced
    return description


def _once(description: str) -> str:
    """Replace from the left, the longest abbreviation first."""
    found = list(_WORD.finditer(description))
    words = [*(match.group().lower() for match in found), END]
    written = ""
    place, stayed = 0, False
    while place < len(found):
        length, meaning = _meaning(words, place)
        gap = description[found[place - 1].end() : found[place].start()] if place else ""
        written += gap if stayed and not length and gap in _KEPT_BETWEEN else " "
        written += " ".join(meaning) if length else words[place]
        stayed = not length
        place += length or 1
    return written.strip()


def _meaning(words: list[str], place: int) -> tuple[int, tuple[str, ...]]:
    """Return how many words an abbreviation takes here and what it means; 0 where there is none."""
    for key in _keys(words, place):
        if (meaning := table().get(key)) is not None:
            return len(key) - (key[-1] == END), meaning
    return 0, ()


def _keys(words: list[str], place: int) -> Iterator[tuple[str, ...]]:
    """Name what the table may have here, the longest first."""
    for length in range(min(_longest(), len(words) - place), 0, -1):
        yield tuple(words[place : place + length])


@cache
def _longest() -> int:
    return max(map(len, table()))
