"""How far the words of a question can be trusted, and how each door says so.

Owns: `Verdict` and its limits, the remarks. Does not own: which words were learned
(`encoder.lexicon`), what is searched (`words`). Remarks repeat words of the question: they go to
whoever asked and into no log; `comment` repeats none.
"""

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from enum import StrEnum
from typing import Any, Protocol

from encoder.lexicon import Understood

_COMMENT_LENGTH = 64  # of VR LO (PS3.5 section 6.2)
_ELSEWHERE = "body part or method never learned: use query/retrieve for it"
_NOT_LEARNED = "words were never learned: name the modality and the body part"


class Verdict(StrEnum):
    """What becomes of a question in words; the last two are answered with no case."""

    INSIDE = "inside"  # every word was learned as it is said
    DOUBTFUL = "doubtful"  # there are cases, but some of the words count for nothing
    FAR = "far"  # none of the cases that are asked for is near the words
    OUTSIDE = "outside"  # no word was learned, or no picture of that body part and method


class Limits(Protocol):
    """The best cosines that a sentence needs: of words that were learned, and of others."""

    near: float
    floor: float


@dataclass(frozen=True, slots=True)
class Judged:
    """A verdict and its reasons; the `best` cosine, None without a case, and what was `needed`.

    `others`: all cases that are near are of modalities that the sentence is not about.
    """

    verdict: Verdict
    understood: Understood
    best: float | None
    needed: float
    others: bool = False

    @property
    def has_cases(self) -> bool:
        """Say whether cases are answered."""
        return self.verdict in (Verdict.INSIDE, Verdict.DOUBTFUL)

    def remarks(self) -> tuple[str, ...]:
        """Say what whoever asked should know, in words of the question."""
        return tuple(self._remarks())

    def told(self) -> dict[str, Any]:
        """Return all of it as plain values, for answers in JSON."""
        known = asdict(self.understood)
        return {
            "verdict": self.verdict,
            "not_learned": known["unknown"],
            "elsewhere": known["elsewhere"],
            "unlike": known["unlike"],
            "negated": known["negated"],
            "learned_together": known["together"],
            "pieces_not_read": known["unread"],
            "best_cosine": None if self.best is None else round(self.best, 6),
            "needed_cosine": round(self.needed, 6),
            "remarks": self.remarks(),
        }

    @property
    def comment(self) -> str:
        """The same without a word of the question, in at most 64 characters; empty if nothing."""
        if self.verdict is Verdict.OUTSIDE:
            return _ELSEWHERE if self.understood.elsewhere else _NOT_LEARNED
        said = ""
        for part in self._counts():
            longer = f"{said}; {part}" if said else part
            said = longer if len(longer) <= _COMMENT_LENGTH else said
        return said

    @property
    def _has_no_share(self) -> bool:  # only beside an example there are cases all the same
        return self.has_cases and not self.understood.says_something

    def _counts(self) -> Iterator[str]:
        if self._has_no_share:
            yield "the words have no share"
        if self._is_far:
            yield "none asked for is near these words"
        if count := len(self.understood.unknown):
            yield f"{count} {'word was' if count == 1 else 'words were'} not learned"
        if self.understood.negated:
            yield "negation is not understood"
        if not self.understood.together:
            yield "words of several modalities"
        if self.understood.unread:
            yield "the end is not read"

    @property
    def _is_far(self) -> bool:
        is_far = self.others if self.best is None else self.best < self.needed
        return self.understood.says_something and is_far

    def _remarks(self) -> Iterator[str]:
        if self._is_far:
            best = "no case is such a picture" if self.best is None else f"best {self.best:.3f}"
            yield f"no case asked for is near these words ({best}, {self.needed:.3f} is needed)"
        if not self.understood.known:
            yield "no word of this was learned, so it counts for nothing"
        if self.understood.unknown:
            yield f"not learned: {', '.join(self.understood.unknown)}"
        if self.understood.elsewhere:
            yield (
                f"no such pictures were learned: {', '.join(self.understood.elsewhere)}; "
                "query/retrieve (C-FIND, QIDO-RS) finds what a header says"
            )
        if self._has_no_share:
            yield "the words have no share in the answer, which is that of the example"
        if self.understood.negated:
            yield f"negation is not understood: {', '.join(self.understood.negated)}"
        if not self.understood.together:
            yield "these words were learned of different modalities, never all of one"
        if self.understood.unread:
            yield f"{self.understood.unread} pieces of words at the end are not read: shorten it"
        if self._is_far:
            yield "perhaps none is kept, or it is near to simpler words"
        elif not self.has_cases and not self.understood.elsewhere:
            yield (
                'name the modality and the body part, as in "chest x-ray with pneumonia"; '
                "only English is understood"
            )


def judge(
    understood: Understood, limits: Limits, *, best: float | None, others: bool = False
) -> Judged:
    """Judge a sentence by its words, and by the best cosine of the cases asked for.

    The more of its words were never learned, the nearer the best case has to be. Without one that
    was, a cosine says nothing: the kind of picture that is likest to foreign words may be near. So
    it is where what the picture is to be of was not learned: a chest is no hip.
    """
    needed = needed_cosine(understood, limits)
    verdict = Verdict.INSIDE if understood.is_whole else Verdict.DOUBTFUL
    if others if best is None else best < needed:
        verdict = Verdict.FAR
    if not understood.says_something:
        verdict = Verdict.OUTSIDE
    return Judged(verdict, understood, best, needed, others)


def judge_beside(understood: Understood, limits: Limits, *, best: float | None) -> Judged:
    """Judge a sentence that goes with an example: its cases stay, whatever the words."""
    needed = needed_cosine(understood, limits)
    is_near = best is None or best >= needed
    verdict = Verdict.INSIDE if understood.is_whole and is_near else Verdict.DOUBTFUL
    return Judged(verdict, understood, best, needed)


def needed_cosine(understood: Understood, limits: Limits) -> float:
    """Go from `near` to `floor` by the share of the words that were never learned."""
    unknown, known = len(understood.unknown), len(understood.known)
    share = unknown / (unknown + known) if known else 1.0
    return limits.near + (limits.floor - limits.near) * share
