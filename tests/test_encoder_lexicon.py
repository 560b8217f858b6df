"""Which words of a sentence count, and what is known of them."""

import csv
import time
from functools import cache
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dicom_node.answer.verdict import Verdict, judge
from encoder import space_checkpoint
from encoder.lexicon import forms, understood
from encoder.text_space import TextSpace

LEARNED = {
    "CR": frozenset({"chest", "ray", "pneumonia", "no abnormality", "biopsy", "mass", "woman"}),
    "US": frozenset({"breast", "mass", "no abnormality"}),
}
ASKED = Path(__file__).parent / "asked_sentences.csv"


@cache
def shipped() -> TextSpace:
    return TextSpace(space_checkpoint.load(), device="cpu")


def verdicts(kind: str) -> dict[str, Verdict]:
    """Judge the sentences of a kind by their best cosine with the eval items of the corpus."""
    found = {}
    with ASKED.open(encoding="utf-8") as file:
        for row in csv.DictReader(file):
            if row["kind"] == kind:
                best = float(row["best"])
                read = shipped().understanding(row["sentence"])
                judged = judge(read, shipped(), best=best)
                found[row["sentence"]] = judged.verdict
    return found


@pytest.mark.parametrize(
    ("sentence", "known", "unknown", "negated"),
    [
        ("Show me a chest X-ray with pneumonia", ("chest", "ray", "pneumonia"), (), ()),
        ("CXR", ("chest", "ray"), (), ()),
        ("hip x-ray, fracture", ("ray",), ("hip", "fracture"), ()),
        ("biopsies of masses", ("biopsies", "masses"), (), ()),
        ("chest without pneumonia", ("chest", "pneumonia"), (), ("without",)),
        ("rule out pneumonia", ("pneumonia",), (), ("rule out",)),
        ("pneumonia is excluded", ("pneumonia",), (), ("excluded",)),
        ("there isn't pneumonia", ("pneumonia",), (), ("not",)),
        ("DON'T show pneumonia", ("pneumonia",), (), ("not",)),
        ("cannot see pneumonia", ("pneumonia",), (), ("cannot",)),
        ("pneumonia-free chest", ("pneumonia", "chest"), (), ("not",)),
        ("free fluid in the chest", ("chest",), ("free", "fluid"), ()),
        ("no evidence of pneumonia", ("pneumonia",), (), ("no",)),
        ("no effusion", (), ("effusion",), ("no",)),
        ("no abnormality", ("abnormality",), (), ()),
        ("chest, absence of abnormalities", ("chest", "abnormalities"), (), ()),
        ("mass, masses, hip and hips", ("mass",), ("hip",), ()),
        ("women, vertebrae", ("women",), ("vertebrae",), ()),
        ("paediatric tumour", (), ("pediatric", "tumor"), ()),
        ("Röntgen der Lunge", (), ("röntgen", "der", "lunge"), ()),
        ("5 of 7, a case", (), (), ()),
        ("pneumonia unlikely", ("pneumonia",), (), ("unlikely",)),
        ("chest minus pneumonia", ("chest", "pneumonia"), (), ("minus",)),
        ("non-small cell mass", ("mass",), ("small", "cell"), ()),
        ("non-small mass", ("mass",), ("small",), ("non",)),
        ("non pneumonia", ("pneumonia",), (), ("non",)),
        ("chest No. 3", ("chest",), (), ()),
        ("pneumonia: no. 3 mm mass", ("pneumonia", "mass"), ("mm",), ("no",)),
        ("mass, left-hand side", ("mass",), ("left", "side"), ()),
        ("show us a mass, xrays", ("mass", "rays"), (), ()),
    ],
)
def test_the_words_of_a_sentence_are_told_apart(
    sentence: str, known: tuple[str, ...], unknown: tuple[str, ...], negated: tuple[str, ...]
) -> None:
    read = understood(sentence, LEARNED)

    assert (read.known, read.unknown, read.negated) == (known, unknown, negated)
    assert read.is_whole == (bool(known) and not unknown and not negated)


def test_words_of_different_modalities_are_no_whole() -> None:
    assert understood("breast mass", LEARNED).is_whole
    apart = understood("pneumonia of the breast", LEARNED)
    assert (apart.together, apart.is_whole) == (False, False)


def test_a_long_run_of_letters_takes_no_longer_than_many_words() -> None:
    began = time.process_time()
    understood("n" * 60_000, LEARNED)

    assert time.process_time() - began < 2


@given(st.text(max_size=80))
def test_a_caption_teaches_all_that_it_says(caption: str) -> None:
    read = understood(caption, {"CR": forms(caption)})

    assert read.unknown == ()
    assert read.together


def test_the_shipped_space_understands_what_the_readme_asks() -> None:
    for sentence in (
        "normal chest x-ray",
        "chest x-ray with bacterial pneumonia",
        "polyp",
        "CT of the head",
        "head CT without contrast",
    ):
        assert shipped().understanding(sentence).is_whole, sentence
    read = shipped().understanding("right lower lobe opacity in a child")
    assert read.unknown == ("lobe", "opacity", "child")
    assert shipped().understanding("hip x-ray fracture").unknown == ("hip", "fracture")
    assert shipped().understanding("chest x-ray without pneumonia").negated == ("without",)


def test_of_the_sentences_that_were_written_to_be_asked_most_come_out_right() -> None:
    answerable, unbound, everyday = map(verdicts, ("answerable", "unbound", "everyday"))

    with_cases = (Verdict.INSIDE, Verdict.DOUBTFUL)
    share = sum(each in with_cases for each in answerable.values()) / len(answerable)
    assert share > 0.75
    assert answerable["polyp"] is answerable["CT of the head"] is Verdict.INSIDE
    assert answerable["right lower lobe opacity in a child"] is Verdict.DOUBTFUL
    assert answerable["histology slide of benign lung tissue"] is Verdict.FAR, "eval has no slide"
    assert Verdict.INSIDE not in {*unbound.values(), *everyday.values()}
    assert unbound["MRI of the knee"] is unbound["mammography"] is Verdict.OUTSIDE
    assert unbound["hip x-ray fracture"] is unbound["prostate cancer"] is Verdict.OUTSIDE
    assert answerable["small colonic polyps"] is Verdict.DOUBTFUL, "another word of a learned part"
    assert [name for name, each in unbound.items() if each is Verdict.DOUBTFUL] == [
        "adult chest x-ray, tuberculosis",
        "chest x-ray without pneumonia",
        "MLO view dense breast",
        "capsule endoscopy small bowel bleeding",
    ]
    refused = [each in (Verdict.FAR, Verdict.OUTSIDE) for each in everyday.values()]
    assert sum(refused) / len(refused) > 0.9
