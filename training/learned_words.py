"""Which words a binding has taught: those that captions said of images of several patients.

Owns: the count that makes a word learned. Does not own: what a word is (`encoder.lexicon`), what is
judged by them (`dicom_node.answer.verdict`). What is said of one patient only, as a name in a
description, is neither learned nor written down.
"""

from functools import cache

from encoder.lexicon import forms
from training.pairs import Group, Pairs

PATIENTS = 3  # of one modality; chosen in LOG.md


def learned_words(pairs: Pairs) -> dict[str, tuple[str, ...]]:
    """Return by modality the words of its captions, in their order; "no X" for a negated one."""
    words_of = cache(lambda caption: forms(pairs.captions[caption].text))
    said: dict[str, dict[str, set[str]]] = {modality: {} for modality in pairs.modalities}
    for group in pairs.groups:
        patients = _patients(pairs, group)
        words = frozenset().union(*(words_of(int(caption)) for caption in group.captions))
        for word in words:
            met = said[group.modality].setdefault(word, set())
            if len(met) < PATIENTS:
                met |= patients
    return {
        modality: tuple(sorted(word for word, met in words.items() if len(met) >= PATIENTS))
        for modality, words in said.items()
    }


def _patients(pairs: Pairs, group: Group) -> set[str]:
    """Name as many patients of a group as count; an image of nobody known is its own."""
    found: set[str] = set()
    for row in group.rows:
        found.add(pairs.patients[row] or pairs.paths[row])
        if len(found) == PATIENTS:
            break
    return found
