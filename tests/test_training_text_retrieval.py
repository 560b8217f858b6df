"""Retrieval by words against an oracle that asks one sentence and one image at a time."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from spaces_of_words import image, lying_at, open_space

from training.captions import every_caption, prompts
from training.errors import NothingToScore
from training.evaluate import Embedded
from training.facts import facts_of
from training.resampling import RESAMPLES, times_drawn
from training.text_retrieval import (
    MODALITY,
    SHOWN,
    asked,
    hits_within,
    questions,
    text_retrieval,
)

SPACE = open_space()
KNOWN = (
    ("CR", "CHEST", "normal"),
    ("CR", "CHEST", "viral pneumonia"),
    ("US", "BREAST", "normal"),
    ("US", "BREAST", "malignant"),
    ("CT", "CHEST", "contrast"),
)


def drawn(count: int, seed: int) -> Embedded:
    random = np.random.default_rng(seed)
    kinds = [*range(len(KNOWN)), *random.integers(0, len(KNOWN), count - len(KNOWN))]
    items = [image(*KNOWN[kind], patient=f"p{number // 2}") for number, kind in enumerate(kinds)]
    return lying_at(items, random.normal(size=(count, 12)))


def test_a_sentence_is_right_for_every_image_that_it_can_be_said_of() -> None:
    every = drawn(5, 1)
    found = asked(every, SPACE)
    facts = [facts_of(item) for item in every.items]
    sentences = sorted({one for each in facts for one in questions(each)})

    assert found.right.shape == (len(sentences), 5)
    for sentence, right in zip(sentences, found.right, strict=True):
        assert right.tolist() == [sentence in every_caption(each) for each in facts]
    said = dict(zip(sentences, found.right.tolist(), strict=True))
    assert said["normal findings"] == [True, False, True, False, False], "it names no modality"
    assert said["chest x-ray with normal findings"] == [True, False, False, False, False]
    assert said["CT with contrast"] == [False, False, False, False, True]
    like = dict(zip(sentences, found.like.tolist(), strict=True))
    assert like["normal findings"] == [True, True, True, True, False]
    assert like["chest x-ray with normal findings"] == [True, True, False, False, False]


def test_only_eval_items_are_asked_and_comments_ask_too() -> None:
    items = [
        image("US", "LUNG", "healthy", caption="A-lines on both sides. | No effusion"),
        image("US", "LUNG", "COVID-19", split="train"),
    ]
    found = asked(lying_at(items, np.ones((2, 12))), SPACE)

    facts = facts_of(items[0])
    assert len(found.images) == 1
    assert questions(facts) == (*prompts("healthy", facts), "A-lines on both sides", "No effusion")
    assert len(found.texts) == len(set(questions(facts)))


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_figures_are_what_the_slow_oracle_says(seed: int) -> None:
    every = drawn(14, seed)
    found = asked(every, SPACE)
    cosines = found.texts @ found.images.T
    rows = {row.name: row for row in text_retrieval("e", every, SPACE).rows}

    for name, ranked, right in (
        ("all: text to image", cosines, found.right),
        ("all: image to text", cosines.T, found.right.T),
    ):
        values = [slow(scores, hits) for scores, hits in zip(ranked, right, strict=True)]
        figures = rows[name].figures
        for place, metric in enumerate(("R@1", "R@5", "R@10", "P@10")):
            assert figures[metric].value == pytest.approx(np.mean([one[place] for one in values]))
            low, high = figures[metric].interval or (2, 2)
            assert 0 <= low <= high <= 1
    modality = [np.mean(like[np.argsort(-scores)[:10]])
                for scores, like in zip(cosines, found.like, strict=True)]  # fmt: skip
    assert rows["all: text to image"].figures[MODALITY].value == pytest.approx(np.mean(modality))
    assert rows["all: text to image"].figures[MODALITY].chance == pytest.approx(found.like.mean())


def slow(scores: np.ndarray, right: np.ndarray) -> tuple[float, float, float, float]:
    ranking = sorted(range(len(scores)), key=lambda row: -scores[row])
    hits = [bool(right[row]) for row in ranking]
    return any(hits[:1]), any(hits[:5]), any(hits[:10]), sum(hits[:10]) / 10


def test_each_modality_has_its_own_gallery_and_its_sentences_the_mixed_one() -> None:
    every = drawn(14, 4)
    rows = {row.name: row for row in text_retrieval("e", every, SPACE).rows}

    assert list(rows) == [
        *(f"{m}{rest}" for m in ("CR", "CT", "US")
          for rest in (": text to image", ": image to text", " among all: text to image")),
        "all: text to image",
        "all: image to text",
    ]  # fmt: skip
    assert MODALITY not in rows["CR: text to image"].figures
    assert rows["CT: text to image"].figures["R@1"].value == 1, "all of its images are right"
    count = sum(item.modality == "US" for item in every.items)
    assert rows["US: image to text"].queries == count
    alone = [row for row, item in enumerate(every.items) if item.modality == "US"]
    only = Embedded(tuple(every.items[row] for row in alone), every.vectors[alone], "x", ())
    names = [row.name for row in text_retrieval("e", only, SPACE).rows]
    assert names == ["US: text to image", "US: image to text"]


def test_images_that_lie_at_a_sentence_of_theirs_find_it_first() -> None:
    items = [image(*known) for known in KNOWN]
    shortest = [min(prompts(item.label, facts_of(item)), key=len) for item in items]
    places = SPACE.texts(shortest)

    right = text_retrieval("e", lying_at(items, places), SPACE).rows[-1]
    wrong = text_retrieval("e", lying_at(items, np.roll(places, 1, axis=0)), SPACE).rows[-1]

    assert right.name == wrong.name == "all: image to text"
    assert right.figures["R@1"].value == 1
    assert wrong.figures["R@1"].value == 0


@settings(max_examples=60)
@given(
    st.lists(st.tuples(st.integers(0, 4), st.booleans()), min_size=1, max_size=15),
    st.integers(1, 10),
)
def test_hits_of_a_drawn_gallery_are_those_of_its_items_repeated(
    ranking: list[tuple[int, bool]], cut: int
) -> None:
    times = np.array([[float(count) for count, _ in ranking]])
    hits = np.array([hit for _, hit in ranking])

    repeated = [hit for count, hit in ranking for _ in range(count)]

    found = hits_within(cut, times, np.cumsum(times, axis=1), hits)
    assert found.tolist() == [sum(repeated[:cut])]


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_intervals_are_those_of_galleries_whose_patients_were_literally_drawn_anew(
    seed: int,
) -> None:
    every = drawn(14, seed)
    found = asked(every, SPACE)
    cosines = found.texts @ found.images.T
    patients = np.unique(found.units)
    # The draws of the product: how often each patient (R, U) is in a gallery.
    times, column = times_drawn(found.units, np.random.default_rng(seed))
    assert times.shape == (RESAMPLES, len(patients))
    means = []
    for draw in times:
        gallery = [row for row in range(14) for _ in range(int(draw[column[row]]))]
        kept = [s for s in range(len(cosines)) if found.right[s, gallery].any()]
        values = [slow(cosines[s, gallery], found.right[s, gallery]) for s in kept]
        order = np.argsort(-cosines[:, gallery], axis=1, kind="stable")[:, :10]
        like = [np.mean(found.like[s, gallery][order[s]]) for s in kept]
        if kept:
            means.append([*np.mean(values, axis=0), np.mean(like)])
    rows = {row.name: row for row in text_retrieval("e", every, SPACE, seed=seed).rows}
    bounds = np.quantile(means, [0.025, 0.975], axis=0).T
    figures = rows["all: text to image"].figures
    for metric, expected in zip((*SHOWN, MODALITY), bounds, strict=True):
        assert figures[metric].interval == pytest.approx(tuple(expected)), metric


def test_labels_and_comments_in_another_script_do_not_ask_and_are_counted() -> None:
    items = [
        image("US", "LUNG", "healthy", caption="Норма | No effusion"),
        image("US", "ГРУДЬ", "肺炎", caption="Норма"),
    ]
    found = asked(lying_at(items, np.eye(2, 12)), SPACE)
    assert (len(found.images), found.unread) == (2, 3)
    assert len(found.texts) == len({*prompts("healthy", facts_of(items[0])), "No effusion"})
    (left_out,) = text_retrieval("e", lying_at(items, np.eye(2, 12)), SPACE).not_scorable
    assert left_out.reason.startswith("3 cannot be read")


def test_nothing_to_ask_is_said() -> None:
    with pytest.raises(NothingToScore, match="no eval item has a label or a comment"):
        text_retrieval("e", lying_at([image("CR", "CHEST", "")], np.ones((1, 12))), SPACE)
