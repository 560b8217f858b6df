import random
import re
from dataclasses import asdict, replace
from itertools import product
from string import Formatter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from encoder.clip import Kind
from training.captions import captions, every_caption, finding, prompts, wordings
from training.facts import Facts
from training.phrases import (
    ACQUISITIONS,
    AGE_BANDS,
    LABELS,
    METHODS,
    PATIENTS,
    PICTURES,
    TEMPLATES,
)

# Words that a known fact may bring, and words that say nothing of an image.
SAID = {
    "modality": ("US", {"ultrasound", "sonography", "sonogram"}),
    "body_part": ("ZPART", {"zpart"}),
    "side": ("L", {"left"}),
    "view": ("ZVIEW", {"zview"}),
    "age_band": ("child", {"a", "child", "paediatric", "patient"}),
    "sex": ("F", {"a", "female", "patient"}),
    "study": ("zstudy", {"zstudy"}),
    "series": ("zseries", {"zseries"}),
    "protocol": ("zprotocol", {"zprotocol"}),
    "label": ("zlabel", {"zlabel"}),
    "comments": (("zcomment", "zremark"), {"zcomment", "zremark"}),
}
GLUE = {"image", "picture", "of", "the", "view", "with", "showing", "on", "in", "protocol"}
FULL = Facts(Kind.STILL, **{name: value for name, (value, _) in SAID.items()})


def words(sentences: tuple[str, ...]) -> set[str]:
    return set(re.findall(r"[\w-]+", " ".join(sentences).lower()))


@settings(max_examples=30)
@given(st.sets(st.sampled_from(sorted(SAID))), st.integers(0, 2**32))
def test_only_what_is_known_is_said_and_all_of_it(known: set[str], seed: int) -> None:
    unknown = {name: () if name == "comments" else "" for name in SAID.keys() - known}
    said = words(captions(replace(FULL, **unknown), random.Random(seed), count=400))
    allowed = GLUE.union(*(SAID[name][1] for name in known))
    if {"sex", "age_band"} <= known:
        allowed |= {"girl"}
    assert said <= allowed
    for name in known - {"modality", "age_band", "sex"}:
        assert SAID[name][1] & said, name


def test_the_same_seed_gives_the_same_captions_and_another_gives_others() -> None:
    first, again, other = (captions(FULL, random.Random(seed), count=8) for seed in (1, 1, 2))
    assert first == again != other
    assert len(set(first)) == 8


def test_where_nothing_is_known_there_is_little_to_say() -> None:
    assert set(captions(Facts(Kind.CINE), random.Random(1), count=9)) == {
        "loop",
        "video clip",
        "cine loop",
    }


@pytest.mark.parametrize(
    ("facts", "sentence"),
    [
        (Facts(Kind.VOLUME, "CT", "CSPINE"), "CT scan of the cervical spine"),
        (Facts(Kind.STILL, "CR", "CHEST", view="PA"), "posteroanterior view of the thorax"),
        (Facts(Kind.STILL, "MG", "BREAST", side="R"), "right breast mammogram"),
        (Facts(Kind.STILL, "CT", "LUNG", label="contrast"), "lung CT image with contrast"),
        (Facts(Kind.VOLUME, "CT", label="upper chest"), "CT of the upper part of the chest"),
        (Facts(Kind.STILL, "OP", "RETINA", side="L"), "left fundus photograph"),
        (
            Facts(Kind.STILL, "OP", "RETINA", label="diabetic retinopathy"),
            "eye photograph of the retina showing diabetic retinopathy",
        ),
        (Facts(Kind.VOLUME, "OPT", "EYE"), "eye OCT volume"),
        (
            Facts(Kind.CINE, "ECG", age_band="adult", sex="M", label="atrial fibrillation"),
            "a man with atrial fibrillation, ECG",
        ),
        (Facts(Kind.STILL, "US", "LUNG", comments=("B-lines {x}",)), "lung sonogram: B-lines {x}"),
    ],
)
def test_a_sentence_that_one_would_say_is_among_them(facts: Facts, sentence: str) -> None:
    assert sentence in captions(facts, random.Random(1), count=2000)


def test_prompts_say_the_label_and_the_modality_and_nothing_of_one_patient() -> None:
    said = prompts("viral pneumonia", replace(FULL, body_part="CHEST"))
    assert "chest sonogram with pneumonia caused by a virus" in said
    assert len(set(said)) == len(said) > 10
    assert not words(said) & {"left", "child", "zview", "zstudy", "zcomment", "zlabel"}
    assert "CT with contrast" in prompts("contrast", Facts(Kind.STILL, "CT"))


def test_every_slot_of_the_templates_can_be_known() -> None:
    slots = {slot for each in TEMPLATES for _, slot, _, _ in Formatter().parse(each) if slot}
    labels = [next(iter(table)) for table in LABELS.values()]
    known = set().union(*(wordings(replace(FULL, label=label)) for label in labels))
    assert slots == known
    assert len(set(TEMPLATES)) == len(TEMPLATES)


def test_every_patient_has_a_name() -> None:
    bands = [name for _, name in AGE_BANDS]
    assert set(PATIENTS) == {*product(bands, ("", "F", "M")), ("", "F"), ("", "M")}
    assert wordings(Facts(Kind.STILL, age_band="child", sex="O"))["patient"][0] == "a child"


def test_no_label_is_said_in_two_ways_and_no_phrase_stands_twice() -> None:
    tables = list(LABELS.values())
    assert sum(map(len, tables)) == len(set().union(*tables))
    for table in (METHODS, PICTURES, ACQUISITIONS, PATIENTS, *tables):
        for ways in table.values():
            assert len(set(ways)) == len(ways)


def test_facts_have_no_field_that_this_test_forgets() -> None:
    assert asdict(FULL).keys() == {"kind", *SAID}


@pytest.mark.parametrize("label", ["normal", "contrast", "pelvis", "zlabel", ""])
@pytest.mark.parametrize("modality", ["US", ""])
def test_every_caption_is_what_can_be_drawn_and_nothing_else(modality: str, label: str) -> None:
    facts = Facts(Kind.STILL, modality, "CHEST", label=label, comments=("zcomment",))

    every = every_caption(facts)
    drawn = set(captions(facts, random.Random(1), count=len(every) + 1))

    assert drawn <= every
    assert len(drawn) > 0.8 * len(every)
    assert not label or set(prompts(label, facts)) <= every


@pytest.mark.parametrize(
    ("label", "name"),
    [
        ("normal", "normal findings"),
        ("healthy", "normal findings"),
        ("Zlabel", "zlabel"),
        ("pelvis", ""),
        ("no contrast", ""),
        ("", ""),
    ],
)
def test_a_finding_has_one_name_and_other_labels_none(label: str, name: str) -> None:
    assert finding(label) == name
