"""What becomes of a sentence by its words and its best cosine, and what each door says."""

from dataclasses import dataclass

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dicom_node.answer.verdict import Judged, Verdict, judge, judge_beside
from encoder.lexicon import Understood


@dataclass(frozen=True)
class Limits:
    near: float = 0.3
    floor: float = 0.5


WHOLE = Understood(known=("chest",))
HALF = Understood(known=("chest",), unknown=("lobe",))
FOREIGN = Understood(unknown=("dog",))
NEGATED = Understood(known=("chest",), negated=("no",))
APART = Understood(known=("chest", "polyp"), together=False)
ELSEWHERE = Understood(known=("ray",), unknown=("hip",), elsewhere=("hip",))
LONG = Understood(known=("chest",), unread=40)
COSINES = st.floats(-1, 1)
WORDS = st.lists(st.text(min_size=1), max_size=200).map(tuple)


@pytest.mark.parametrize(
    ("read", "best", "verdict"),
    [
        (WHOLE, 0.31, Verdict.INSIDE),
        (WHOLE, 0.29, Verdict.FAR),
        (HALF, 0.41, Verdict.DOUBTFUL),
        (HALF, 0.39, Verdict.FAR),
        (NEGATED, 0.31, Verdict.DOUBTFUL),
        (APART, 0.31, Verdict.DOUBTFUL),
        (LONG, 0.31, Verdict.DOUBTFUL),
        (ELSEWHERE, 0.99, Verdict.OUTSIDE),
        (ELSEWHERE, 0.1, Verdict.OUTSIDE),
        (FOREIGN, 0.99, Verdict.OUTSIDE),
        (FOREIGN, 0.1, Verdict.OUTSIDE),
        (WHOLE, None, Verdict.INSIDE),
        (FOREIGN, None, Verdict.OUTSIDE),
    ],
)
def test_a_sentence_is_judged_by_its_words_and_by_the_nearest_case(
    read: Understood, best: float | None, verdict: Verdict
) -> None:
    assert judge(read, Limits(), best=best).verdict is verdict


@given(st.sampled_from([WHOLE, HALF, NEGATED, APART, FOREIGN, ELSEWHERE, LONG]), COSINES)
def test_beside_an_example_words_take_no_case_away(read: Understood, best: float) -> None:
    judged = judge_beside(read, Limits(), best=best)

    assert judged.has_cases
    assert (judged.verdict is Verdict.INSIDE) == (read is WHOLE and best >= Limits.near)
    assert (judged.verdict is Verdict.INSIDE) == (judged.remarks() == ())


@given(WORDS, WORDS, WORDS, st.booleans(), COSINES)
def test_a_comment_fits_its_element_and_repeats_no_word(
    known: tuple[str, ...],
    unknown: tuple[str, ...],
    negated: tuple[str, ...],
    together: bool,
    best: float,
) -> None:
    marked = tuple(f"§{word}" for word in unknown)
    read = Understood(
        known=known,
        unknown=marked,
        negated=negated,
        together=together,
        elsewhere=marked[:3],
        unread=len(known),
    )

    for judged in (judge(read, Limits(), best=best), judge_beside(read, Limits(), best=best)):
        assert len(judged.comment) <= 64
        assert "§" not in judged.comment


def test_remarks_name_the_words_of_the_question() -> None:
    doubtful = Understood(
        known=("chest", "polyp"),
        unknown=("lobe", "opacity"),
        negated=("without",),
        together=False,
    )

    judged = judge(doubtful, Limits(), best=0.45)

    assert judged.remarks() == (
        "not learned: lobe, opacity",
        "negation is not understood: without",
        "these words were learned of different modalities, never all of one",
    )
    assert judged.comment == "2 words were not learned; negation is not understood"


def test_what_is_outside_says_what_to_do() -> None:
    judged = judge(FOREIGN, Limits(), best=0.2)

    assert judged.remarks()[:2] == (
        "no word of this was learned, so it counts for nothing",
        "not learned: dog",
    )
    assert "only English is understood" in judged.remarks()[-1]
    assert isinstance(judged, Judged)


def test_what_nothing_was_learned_of_is_named_with_another_way_to_it() -> None:
    judged = judge(ELSEWHERE, Limits(), best=0.1)

    assert judged.remarks() == (
        "not learned: hip",
        "no such pictures were learned: hip; query/retrieve (C-FIND, QIDO-RS) finds what a header "
        "says",
    )
    assert judged.comment == "body part or method never learned: use query/retrieve for it"


@pytest.mark.parametrize("read", [ELSEWHERE, FOREIGN])
def test_beside_an_example_words_that_say_nothing_are_told_to_have_no_share(
    read: Understood,
) -> None:
    judged = judge_beside(read, Limits(), best=None)

    assert judged.remarks()[-1].startswith("the words have no share in the answer")
    assert judged.comment == "the words have no share; 1 word was not learned"
    assert judge_beside(HALF, Limits(), best=0.9).comment == "1 word was not learned"


def test_what_is_not_read_of_a_long_sentence_is_told() -> None:
    judged = judge(LONG, Limits(), best=0.9)

    assert judged.remarks() == ("40 pieces of words at the end are not read: shorten it",)
    assert judged.comment == "the end is not read"
    assert judged.told()["pieces_not_read"] == 40


def test_what_is_far_says_how_far_and_what_to_do() -> None:
    judged = judge(HALF, Limits(), best=0.2)

    assert judged.remarks()[0].endswith("(best 0.200, 0.400 is needed)")
    assert judged.remarks()[-1] == "perhaps none is kept, or it is near to simpler words"
    assert judged.comment == "none asked for is near these words; 1 word was not learned"


def test_a_sentence_about_other_modalities_than_those_near_is_far() -> None:
    judged = judge(WHOLE, Limits(), best=None, others=True)

    assert judged.verdict is Verdict.FAR
    assert judged.remarks()[0].endswith("(no case is such a picture, 0.300 is needed)")
    assert judged.comment == "none asked for is near these words"
    assert judge(WHOLE, Limits(), best=0.9, others=False).verdict is Verdict.INSIDE
