"""Which words of a sentence a text space has learned, and which it can only guess at.

Owns: what counts as a content word, cues of negation, `Understood`. Does not own: abbreviations and
British spellings (`abbreviations`), plurals (`singular`), which words were learned
(`training.learned_words` finds them), what is answered (`dicom_node`).
"""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from encoder.abbreviations import write_out
from encoder.singular import singular
from encoder.subjects import Learned, elsewhere, names_method, unlike

_WORD = re.compile(r"[^\W\d_][^\W_]+")  # from a letter on, two characters at least
_NEGATED = "no "  # before a word, in what was learned: "no contrast"
# Words of grammar, of asking and of doubt: what they say of an image cannot be learned.
_STOP_WORDS = (
    "a about after again all also am an and any are around as at be because been before being "
    "between both but by can case compatible concerning consistent could did do does done due "
    "during each either evidence exam examination example few find finding for from get give had "
    "has have having he her him his how if in indicate indicating into is it its kind like likely "
    "look looking looks made make many may me might more most much my non of off on one only or "
    "other our out over own patient per please possible possibly presence present presenting "
    "probable probably question sample same search see seen shall she should show showing shown "
    "shows sign similar so some study such suggest suggesting suggestive suspected suspicion "
    "suspicious than that the their them then there these they thing this those through to too "
    "typical under up upon us using very visible was we were what when where which while who "
    "whose why will with within would you your"
)
STOP_WORDS = frozenset(_STOP_WORDS.split())
_CUES: tuple[tuple[str, ...], ...] = (
    ("absence", "of"), ("absent",), ("absence",), ("cannot",), ("denies",), ("exclude",),
    ("excluded",), ("excludes",), ("excluding",), ("except",), ("free", "of"), ("improbable",),
    ("lack", "of"), ("lacking",), ("lacks",), ("minus",), ("negative", "for"), ("neither",),
    ("never",), ("no",), ("non",), ("none",), ("nor",), ("not",), ("rule", "out"),
    ("ruled", "out"), ("unlikely",), ("without",),
)  # fmt: skip
_NO_CUE = ("non", "small", "cell")  # a name of carcinomas
# "No. 3", but not "contrast: no. 3 mm"; "left-hand side", "hand-held".
_IDIOMS = re.compile(r"(?<![:?,] )\bno\.\s*(?=\d)|\bhand(?=[- ](?:side|held)\b)", re.IGNORECASE)
# "don't", "isn't", "pneumonia-free"; the look behind keeps a long run of letters linear.
_CONTRACTED = re.compile(r"(?<!\w)\w+n[\u2019']t\b|-free\b", re.IGNORECASE)


@dataclass(frozen=True, slots=True, kw_only=True)
class Understood:
    """The content words of a sentence, each once, as it was said first, abbreviations written out.

    `known` were learned, `unknown` never were; `elsewhere` name body parts and methods, where no
    modality was learned with such a picture. `unlike` are modalities that were not, where a method
    is named: a part that a modality was not learned with may be in its pictures all the same.
    `negated` are cues of negation before words that were not learned so. `together` says that some
    modality has all the known ones, `unread` how many pieces of words at the end are more than the
    text tower reads.
    """

    known: tuple[str, ...] = ()
    unknown: tuple[str, ...] = ()
    negated: tuple[str, ...] = ()
    together: bool = True
    elsewhere: tuple[str, ...] = ()
    unlike: tuple[str, ...] = ()
    unread: int = 0

    @property
    def is_whole(self) -> bool:
        """Say whether the sentence holds nothing that was not learned as it is said."""
        lacks = self.unknown or self.negated or self.unread
        return bool(self.known) and self.together and not lacks

    @property
    def says_something(self) -> bool:
        """Say whether it is about something that was learned: without, a cosine means nothing."""
        return bool(self.known) and not self.elsewhere


def understood(sentence: str, learned: Learned) -> Understood:
    """Read a sentence by the words that were learned."""
    said: dict[str, str] = {}  # forms to the words of the sentence
    known: dict[str, frozenset[str]] = {}  # forms to modalities
    unknown: dict[str, None] = {}
    negated: dict[str, None] = {}
    for word, cue in _content(sentence):
        one = form(word, "")
        said.setdefault(one, word)
        modalities = _with(form(word, cue), learned)
        if cue and not modalities:
            negated[cue] = None
            modalities = _with(one, learned)
        if modalities:
            known[one] = modalities
        elif word:
            unknown[one] = None
    others = unlike(known, unknown, learned)
    names = elsewhere(known, unknown) if len(others) == len(learned) else ()
    words, foreign, apart = (tuple(said[one] for one in each) for each in (known, unknown, names))
    return Understood(
        known=words,
        unknown=foreign,
        negated=tuple(negated),
        together=not known or bool(frozenset.intersection(*known.values())),
        elsewhere=apart,
        unlike=tuple(sorted(others)) if names_method((*known, *unknown)) else (),
    )


def _with(form: str, learned: Learned) -> frozenset[str]:
    """Name the modalities whose captions had a word."""
    return frozenset(modality for modality, words in learned.items() if form in words)


def forms(caption: str) -> frozenset[str]:
    """Return the content words that a caption teaches, in one form."""
    return frozenset(form(word, cue) for word, cue in _content(caption) if word)


def form(word: str, cue: str) -> str:
    """Bring singular and plural of a word in lower case to one form, marked where it is negated."""
    return f"{_NEGATED if cue else ''}{singular(word)}"


def _content(sentence: str) -> Iterator[tuple[str, str]]:
    """Yield content words with the cue that negates each, or none; a last cue without a word."""
    written = _IDIOMS.sub(" ", _CONTRACTED.sub(" not", sentence))
    words = _WORD.findall(write_out(written))
    place, cue = 0, ""
    while place < len(words):
        found = _cue(words[place : place + len(_NO_CUE)])
        if found:
            cue = " ".join(found)
        elif STOP_WORDS.isdisjoint((words[place], form(words[place], ""))):
            yield words[place], cue
            cue = ""
        place += len(found) or 1
    if cue:
        yield "", cue


def _cue(words: Sequence[str]) -> tuple[str, ...]:
    """Return the cue of negation that words begin with, or none."""
    if tuple(words) == _NO_CUE:
        return ()
    return next((cue for cue in _CUES if tuple(words[: len(cue)]) == cue), ())
