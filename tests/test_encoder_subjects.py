"""Which body parts and methods a sentence may name, by what was learned."""

import csv
from importlib.resources import files

import pytest

from encoder.lexicon import understood
from encoder.singular import singular
from encoder.subjects import TABLE_FILE, subjects

CHESTS = {"CR": frozenset({"chest", "ray", "pneumonia", "normal", "no abnormality"})}
SEVERAL = {
    **CHESTS,
    "CT": frozenset({"ct", "chest", "abdomen", "thigh", "contrast"}),
    "ES": frozenset({"endoscopy", "colon", "polyp"}),
    "US": frozenset({"ultrasound", "breast", "lung", "lesion", "cancer", "right", "normal"}),
}


def rows() -> list[dict[str, str]]:
    text = files("encoder").joinpath(TABLE_FILE).read_text(encoding="utf-8")
    return list(csv.DictReader(text.splitlines(), strict=True))


def elsewhere(sentence: str, learned: dict[str, frozenset[str]]) -> set[str]:
    return set(understood(sentence, learned).elsewhere)


@pytest.mark.parametrize(
    "sentence",
    [
        "chest x-ray",
        "chest x-ray: lungs clear, heart normal",  # the chest is enough
        "chest x-ray of the right lung with a rib fracture",
        "chest CT, breast cancer, spine metastases",
        "chest x-ray, hip prosthesis",
        "colonic lesion",  # another name of what was learned
        "CT liver",  # lies in the abdomen
        "CT right kidney, normal",  # whoever learned the other words
        "rib x-ray, no abnormality",
        "x-ray enlarged heart",
        "extremity CT",  # the thigh lies in it
        "x-ray of the lung",
        "lesion of the breast",
        "lesion",
        "sofa",
    ],
)
def test_what_was_learned_may_be_asked_for(sentence: str) -> None:
    assert elsewhere(sentence, SEVERAL) == set()
    assert len(understood(sentence, SEVERAL).unlike) < len(SEVERAL)


@pytest.mark.parametrize(
    ("sentence", "like"),
    [
        ("CT of the abdomen", {"CT"}),
        ("lungs clear, heart normal", set(SEVERAL)),  # no method is named
        ("pneumonia on CT", {"CT"}),
        ("polyp", set(SEVERAL)),
        ("colonoscopy", {"ES"}),
    ],
)
def test_other_modalities_than_were_learned_so_are_told(sentence: str, like: set[str]) -> None:
    assert set(understood(sentence, SEVERAL).unlike) == set(SEVERAL) - like


@pytest.mark.parametrize(
    ("sentence", "names"),
    [
        ("hip x-ray fracture", {"hip"}),
        ("breast MRI", {"mri"}),
        ("MRI of the pancreas", {"mri", "pancreas"}),
        ("mammary x-ray", {"mammary"}),
        ("x-ray of the abdomen", {"ray", "abdomen"}),  # each was learned, never together
        ("ultrasound of the abdomen", {"ultrasound", "abdomen"}),
        ("prostate cancer", {"prostate"}),
        ("hand and foot", {"hand", "foot"}),
        ("gastroscopy with a polyp", {"gastroscopy"}),
    ],
)
def test_what_was_not_learned_is_named(sentence: str, names: set[str]) -> None:
    assert elsewhere(sentence, SEVERAL) == names
    assert not understood(sentence, SEVERAL).says_something


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        ("mri brain", "MRI head"),
        ("ct lung", "chest CT"),
        ("ultrasound liver", "abdominal ultrasound"),
        ("ray knee foot", "lower extremity x-ray"),
        ("endoscopy stomach", "gastroscopy, stomach ulcer"),
        ("mammogram breast", "breast radiograph"),
        ("ultrasound heart", "echocardiography of the heart"),
    ],
)
def test_what_a_hospital_has_learned_it_may_name_otherwise(words: str, sentence: str) -> None:
    assert elsewhere(sentence, {"OT": frozenset(words.split())}) == set()
    assert elsewhere(sentence, CHESTS)


def test_no_name_stands_twice_and_each_can_be_said() -> None:
    names = [singular(name) for row in rows() for name in row["words"].split()]

    assert len(names) == len(set(names)) == len(subjects())
    for name in names:
        assert elsewhere(name, {"OT": frozenset({"sofa"})}) == {name}


def test_what_a_subject_lies_in_is_of_the_same_kind() -> None:
    kind = {name: row["kind"] for row in rows() for name in row["words"].split()}

    for row in rows():
        assert {kind[each] for each in row["within"].split()} <= {row["kind"]}, row
