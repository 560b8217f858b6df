import numpy as np
import pytest
from spaces_of_words import image, lying_at, open_space

from encoder.clip import Kind
from training.captions import prompts
from training.errors import NothingToScore
from training.facts import Facts
from training.few_shot import SHOTS
from training.zero_shot import METRIC, label_vectors, shared_facts, zero_shot

SPACE = open_space()
LABELS = ("normal", "polyp small", "viral pneumonia")
FACTS = Facts(Kind.STILL, "CR", "CHEST")


def items(split: str, *, each: int = 4) -> list:
    return [image("CR", "CHEST", label, split=split) for label in LABELS for _ in range(each)]


def test_a_label_is_the_mean_direction_of_its_prompts() -> None:
    (vector,) = label_vectors(SPACE, ["normal"], FACTS)

    mean = np.mean(SPACE.texts(prompts("normal", FACTS)), axis=0)
    assert vector == pytest.approx(mean / np.linalg.norm(mean), abs=1e-6)


def test_images_that_lie_at_their_labels_are_told_right_and_swapped_ones_wrong() -> None:
    asked = [*items("eval"), *items("train")]
    words = label_vectors(SPACE, LABELS, FACTS)
    right = np.tile(np.repeat(words, 4, axis=0), (2, 1))

    told = zero_shot("e", lying_at(asked, right), SPACE).rows[0]
    swapped = zero_shot("e", lying_at(asked, np.roll(right, 4, axis=0)), SPACE).rows[0]

    assert told.method == "small-space, zero-shot"
    assert told.figures[METRIC].value == 1.0
    assert told.figures[METRIC].interval == (1.0, 1.0)
    assert told.figures[METRIC].chance == pytest.approx(1 / 3)
    assert swapped.figures[METRIC].value == 0.0


def test_a_source_with_a_label_in_another_script_is_left_out_and_the_others_are_told() -> None:
    foreign = [image("US", "LUNG", label, split="eval") for label in ("肺炎", "normal")]
    words = label_vectors(SPACE, LABELS, FACTS)
    vectors = np.concatenate([np.repeat(words, 4, axis=0), words[:2]])

    found = zero_shot("e", lying_at([*items("eval"), *foreign], vectors), SPACE)

    assert {row.name for row in found.rows} == {"CR", "macro"}
    assert [(one.name, "English" in one.reason) for one in found.not_scorable] == [("US", True)]
    told = label_vectors(SPACE, LABELS, Facts(Kind.STILL, "CR", "ГРУДЬ"))
    np.testing.assert_array_equal(told, label_vectors(SPACE, LABELS, Facts(Kind.STILL, "CR")))


def test_a_few_shots_of_the_encoder_stand_beside() -> None:
    words = label_vectors(SPACE, LABELS, FACTS)
    every = lying_at(
        [*items("eval"), *items("train")], np.tile(np.repeat(words, 4, axis=0), (2, 1))
    )

    found = zero_shot("e", every, SPACE)

    methods = ["small-space, zero-shot", *(f"e, {count}-shot" for count in SHOTS)]
    assert [(row.name, row.method) for row in found.rows] == [
        (name, method) for name in ("CR", "macro") for method in methods
    ]
    assert found.rows[1].figures[METRIC].value == pytest.approx(1)
    assert found.model_ids == {"e": every.model_id, "small-space": SPACE.space_id}
    alone, _macro = zero_shot("e", lying_at(items("eval"), np.repeat(words, 4, axis=0)), SPACE).rows
    assert alone.figures[METRIC].value == 1.0


def test_prompts_say_only_what_all_items_of_a_source_share() -> None:
    same = shared_facts([image("CT", "CHEST", "a"), image("CT", "CHEST", "b")])
    parts = shared_facts([image("CT", "CHEST", "a"), image("CT", "LUNG", "b")])
    mixed = shared_facts([image("CT", "LUNG", "a"), image("US", "LUNG", "b")])

    assert same == Facts(Kind.STILL, "CT", "CHEST")
    assert parts == Facts(Kind.STILL, "CT", "")
    assert mixed == Facts(Kind.STILL, "", "LUNG")


def test_one_class_says_that_there_is_nothing_to_score() -> None:
    with pytest.raises(NothingToScore, match="CR: there is one class only"):
        zero_shot("e", lying_at([image("CR", "CHEST", "a")], np.ones((1, 12))), SPACE)
