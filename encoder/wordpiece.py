"""Sentences to numbers of word pieces, as BERT cuts them, and what is no sentence.

Owns: the tokeniser made from a vocabulary, limits, `BadText`'s reasons. Does not own: abbreviations
(`abbreviations`), the network (`text`).
Source: WordPiece without case and accents, arXiv:1810.04805.
"""

import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass

from tokenizers import Tokenizer
from tokenizers.models import WordPiece
from tokenizers.normalizers import BertNormalizer
from tokenizers.pre_tokenizers import BertPreTokenizer

from encoder.errors import BadText

MAX_CHARACTERS = 10_240  # as a value of VR LT has (PS3.5 section 6.2)
FOREIGN_SHARE = 0.5  # of the letters
PADDING, UNKNOWN, FIRST, LAST = SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]")


@dataclass(frozen=True, slots=True)
class Sentence:
    """Piece numbers with first and last mark; what was not understood or not read is counted."""

    numbers: tuple[int, ...]
    pieces: int
    unknown: int
    left_out: int


class Tokeniser:
    """Cuts sentences into the pieces of one vocabulary, in which a number is a line."""

    def __init__(self, vocabulary: Sequence[str], *, tokens: int) -> None:
        """Take all pieces in order; `tokens` is the most a sentence may have, marks counted.

        Raises ValueError for a vocabulary with a piece twice or without the marks.
        """
        self.vocabulary = tuple(vocabulary)
        numbers = {piece: number for number, piece in enumerate(vocabulary)}
        if len(numbers) != len(vocabulary):
            raise ValueError("the vocabulary has a piece twice")
        if missing := [mark for mark in SPECIAL if mark not in numbers]:
            raise ValueError(f"the vocabulary lacks {', '.join(missing)}")
        self._tokens = tokens
        self._numbers = numbers
        # Marks are not special here: "[SEP]" in a sentence is read as brackets and letters.
        self._cutter = Tokenizer(WordPiece(numbers, unk_token=UNKNOWN))
        self._cutter.normalizer = BertNormalizer(lowercase=True)
        self._cutter.pre_tokenizer = BertPreTokenizer()

    @property
    def padding(self) -> int:
        """Number of the piece that fills a batch up."""
        return self._numbers[PADDING]

    def knows(self, text: str) -> bool:
        """Say whether a sentence can be read."""
        try:
            self.read(text)
        except BadText:
            return False
        return True

    def read(self, text: str) -> Sentence:
        """Cut a sentence; what goes beyond the most tokens is left out and counted.

        Raises BadText for one that is empty, too long, not in Latin letters, or without any word
        that the vocabulary can spell.
        """
        _check(text)
        numbers = self._cutter.encode(text, add_special_tokens=False).ids
        unknown = numbers.count(self._numbers[UNKNOWN])
        if unknown == len(numbers):
            raise BadText("it has no word", "Write some words in English.")
        kept = numbers[: self._tokens - 2]
        return Sentence(
            numbers=(self._numbers[FIRST], *kept, self._numbers[LAST]),
            pieces=len(numbers),
            unknown=unknown,
            left_out=len(numbers) - len(kept),
        )


def _check(text: str) -> None:
    """Refuse what cannot be a sentence in English; the text itself is never part of an error."""
    if len(text) > MAX_CHARACTERS:
        reason = f"it has {len(text)} characters, at most {MAX_CHARACTERS} are read"
        raise BadText(reason, "Shorten it to a few sentences.")
    if any(unicodedata.category(character) == "Cs" for character in text):
        raise BadText("it holds half a character (a lone surrogate)", "Send it as UTF-8.")
    letters = [character for character in text if character.isalpha()]
    foreign = sum(not _is_latin(letter) for letter in letters)
    if foreign > FOREIGN_SHARE * len(letters):
        reason = f"{foreign} of its {len(letters)} letters are not Latin"
        raise BadText(reason, "Only English is understood: translate it.")


def _is_latin(letter: str) -> bool:
    return letter.isascii() or unicodedata.name(letter, "").startswith("LATIN")
