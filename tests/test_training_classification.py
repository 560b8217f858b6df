from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from encoder.clip import Kind
from training.classification import Choice, accuracy, choices, figure, row
from training.manifest import Item, Split
from training.resampling import units_of


def item(split: str, label: str, patient: str = "", source: str = "one") -> Item:
    return Item(
        "x", (Path("x"),), Split(split), Kind.STILL, "CT", "", label, patient, source=source
    )


def choice(labels: list[str], patients: list[str], classes: tuple[str, ...]) -> Choice:
    rows = np.arange(len(labels))
    units = units_of(np.array(patients))
    return Choice("one", rows, rows[:0], np.array(labels), units, classes, classes[0])


def test_eval_items_are_told_into_the_classes_of_the_train_items() -> None:
    items = [
        item("train", "b"),
        item("train", "b"),
        item("train", "a", "p"),
        item("eval", "a", "q"),
        item("eval", "c"),
        item("eval", ""),
        item("train", "a", "q"),
        item("train", "a", source="two"),
        item("train", "b", source="two"),
    ]

    (made,), (left_out,) = choices(items)

    assert (made.name, made.classes, made.commonest) == ("one", ("a", "b"), "b")
    assert made.tested.tolist() == [3], "a class that nobody can learn is not asked for"
    assert made.learnt.tolist() == [0, 1, 2], "nothing is learnt from a patient who is tested"
    assert made.labels.tolist() == ["a"]
    assert (left_out.name, left_out.reason) == ("two", "no labelled item of the eval split")


def test_without_a_train_part_the_classes_are_those_of_the_eval_items() -> None:
    (made,), _ = choices([item("eval", "b"), item("eval", "a")])

    assert made.classes == ("a", "b")
    assert made.learnt.size == 0


@pytest.mark.parametrize(
    ("items", "reason"),
    [
        ([("train", "a"), ("eval", "a")], "one class only"),
        ([("train", "a"), ("train", "b"), ("eval", "c")], "no eval item is of a class"),
    ],
)
def test_what_cannot_be_told_apart_says_why(items: list[tuple[str, str]], reason: str) -> None:
    made, (left_out,) = choices([item(split, label) for split, label in items])

    assert made == []
    assert reason in left_out.reason


def test_every_class_weighs_the_same() -> None:
    """Of a three are right of four, of b none of one: (3/4 + 0) / 2."""
    asked = choice(["a", "a", "a", "a", "b"], [""] * 5, ("a", "b", "c"))
    right = np.array([[True, True, True, False, False]])

    found = accuracy(asked, right)

    assert found.value == 0.375
    assert found.chance == pytest.approx(1 / 3)
    assert found.majority == 0.5


def test_repetitions_are_averaged() -> None:
    asked = choice(["a", "b"], ["p", "q"], ("a", "b"))

    assert accuracy(asked, np.array([[True, True], [False, False], [True, False]])).value == 0.5


def test_the_interval_is_that_of_draws_of_whole_patients() -> None:
    """Two patients, one of them all right: a draw brings both, or one of them twice."""
    asked = choice(["a", "b", "a", "b"], ["p", "p", "q", "q"], ("a", "b"))

    found = accuracy(asked, np.array([[True, True, False, False]]))

    assert found.drawn is not None
    assert set(np.round(found.drawn, 9)) == {0.0, 0.5, 1.0}
    assert 0.2 < (found.drawn == 1).mean() < 0.3
    assert figure([found]).interval == (0.0, 1.0)


def test_repetitions_are_drawn_anew_too() -> None:
    asked = choice(["a", "a"], ["p", "q"], ("a", "b"))

    found = accuracy(asked, np.array([[True, True], [False, False]]))

    assert found.drawn is not None
    assert set(found.drawn) == {0.0, 0.5, 1.0}


def test_a_class_that_a_draw_lacks_does_not_count_in_it() -> None:
    asked = choice(["a", "b"], ["p", "q"], ("a", "b"))

    found = accuracy(asked, np.array([[True, False]]))

    assert found.drawn is not None
    assert set(found.drawn) == {0.0, 0.5, 1.0}


def test_one_patient_has_no_interval() -> None:
    asked = choice(["a", "b"], ["p", "p"], ("a", "b"))

    found = accuracy(asked, np.array([[True, False]]))

    assert found.drawn is None
    assert row(asked, "x", {"m": found}).figures["m"].interval is None
    assert row(asked, "x", {"m": found}).units == 1


def test_choices_of_one_size_draw_numbers_of_their_own_and_methods_the_same() -> None:
    right = np.array([[True, True, False, False]])
    one = choice(["a", "b", "a", "b"], ["p", "p", "q", "q"], ("a", "b"))
    other = replace(one, name="two")

    drawn, again, elsewhere = (accuracy(each, right).drawn for each in (one, one, other))

    assert drawn is not None
    assert again is not None
    assert elsewhere is not None
    assert (drawn == again).all(), "methods are compared patient by patient"
    assert abs(np.corrcoef(drawn, elsewhere)[0, 1]) < 0.15


def test_the_macro_figure_averages_draw_by_draw() -> None:
    asked = choice(["a", "b"], ["p", "q"], ("a", "b"))
    all_right = accuracy(asked, np.array([[True, True]]))
    all_wrong = accuracy(asked, np.array([[False, False]]))

    macro = figure([all_right, all_wrong])

    assert (macro.value, macro.interval) == (0.5, (0.5, 0.5))
