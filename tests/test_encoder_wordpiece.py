import pytest
from hypothesis import given
from hypothesis import strategies as st
from towers import VOCABULARY

from encoder.errors import BadText
from encoder.wordpiece import FIRST, LAST, MAX_CHARACTERS, Tokeniser

TOKENISER = Tokeniser(VOCABULARY, tokens=16)


def pieces(text: str) -> list[str]:
    return [VOCABULARY[number] for number in TOKENISER.read(text).numbers]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Chest X-ray", ["chest", "x", "-", "ray"]),
        ("CHILDREN", ["child", "##ren"]),
        ("lobé", ["lobe"]),
        ("a\tchild\r\nin\x00\x1b chest", ["a", "child", "in", "chest"]),
        ("a [SEP] b", ["a", "[", "s", "##e", "##p", "]", "b"]),
        ("ignore a", ["i", "##g", "##n", "##o", "##r", "##e", "a"]),
        ("lobe \N{LUNGS} \N{GREEK SMALL LETTER BETA}", ["lobe", "[UNK]", "[UNK]"]),
    ],
)
def test_a_sentence_is_cut_into_the_longest_pieces(text: str, expected: list[str]) -> None:
    assert pieces(text) == [FIRST, *expected, LAST]


def test_what_was_not_understood_and_not_read_is_counted() -> None:
    sentence = TOKENISER.read("\N{LUNGS} lobe " * 10)
    assert (sentence.pieces, sentence.unknown, sentence.left_out) == (20, 10, 6)
    assert len(sentence.numbers) == 16


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "no word"),
        (" \t\n", "no word"),
        ("\x00\x07\x1b", "no word"),
        ("\N{LUNGS}\N{BONE}", "no word"),
        ("x" * 65_536, "65536 characters"),
        ("правосторонняя пневмония", "23 of its 23 letters"),
        ("右下肺炎 ct", "4 of its 6 letters"),
        ("lobe \ud83e", "surrogate"),
    ],
)
def test_what_is_no_sentence_is_refused_without_repeating_it(text: str, reason: str) -> None:
    with pytest.raises(BadText, match=reason) as caught:
        TOKENISER.read(text)
    assert not text.strip() or text.strip() not in str(caught.value)


def test_the_longest_text_that_may_be_read_is_read() -> None:
    assert TOKENISER.read("a " * (MAX_CHARACTERS // 2)).left_out == MAX_CHARACTERS // 2 - 14


@given(st.text(st.characters(), max_size=80))
def test_any_text_is_read_or_refused(text: str) -> None:
    try:
        sentence = TOKENISER.read(text)
    except BadText:
        return
    assert 3 <= len(sentence.numbers) <= 16
    assert set(sentence.numbers) <= set(range(len(VOCABULARY)))
    assert sentence.unknown < sentence.pieces


@given(st.text("abcxyz019-./", min_size=1, max_size=14))
def test_the_pieces_of_a_sentence_spell_it(text: str) -> None:
    assert "".join(piece.removeprefix("##") for piece in pieces(text)[1:-1]) == text


@pytest.mark.parametrize(
    ("vocabulary", "words"),
    [([*VOCABULARY, "chest"], "twice"), (["chest"], r"\[PAD\]")],
)
def test_a_vocabulary_that_is_none_is_refused(vocabulary: list[str], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        Tokeniser(vocabulary, tokens=16)
