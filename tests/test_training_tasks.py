from pathlib import Path

import pytest

from encoder.clip import Kind
from training.errors import NothingToScore
from training.manifest import Item, Split
from training.tasks import AS_GIVEN, LEAVE_ONE_OUT, Hit, across, by_source, every_pair


def item(split: str, label: str, **changes: str) -> Item:
    values = {"modality": "CT", "source": "one", **changes}
    return Item("x", (Path("x"),), Split(split), Kind.STILL, label=label, **values)


def test_eval_items_ask_the_train_items_of_their_source() -> None:
    items = [
        item("train", "a"),
        item("eval", "a"),
        item("train", "b"),
        item("eval", "b", source="two"),
        item("train", "a", source="two"),
        item("train", "b", source="two"),
        item("train", ""),
    ]

    tasks, left_out = by_source(items)

    assert left_out == []
    assert [(t.name, t.queries.tolist(), t.gallery.tolist(), t.rule) for t in tasks] == [
        ("one", [1], [0, 2], AS_GIVEN),
        ("two", [3], [4, 5], AS_GIVEN),
    ]


def test_a_source_without_a_train_part_is_asked_leave_one_out() -> None:
    ((task,), _) = by_source([item("eval", "a"), item("eval", "b"), item("eval", "a")])

    assert task.queries.tolist() == task.gallery.tolist() == [0, 1, 2]
    assert task.rule == LEAVE_ONE_OUT


@pytest.mark.parametrize(
    ("rows", "reason"),
    [
        ([("train", "a"), ("train", "b")], "no labelled item of the eval split"),
        ([("train", "a"), ("eval", "")], "no labelled item of the eval split"),
        ([("train", "a"), ("eval", "a")], "one class only"),
        ([("train", "a"), ("train", "b"), ("eval", "c")], "no class of the queries"),
    ],
)
def test_what_cannot_be_scored_says_why(rows: list[tuple[str, str]], reason: str) -> None:
    tasks, (left_out,) = by_source([item(split, label) for split, label in rows])

    assert tasks == []
    assert left_out.name == "one"
    assert reason in left_out.reason


ACROSS = [
    item("eval", "", modality="MR", body_part="HEAD", patient_id="p"),
    item("train", "", modality="MR", body_part="HEAD", patient_id="q"),
    item("eval", "", modality="CT", body_part="HEAD", patient_id="p"),
    item("eval", "", modality="CT", body_part="CHEST", patient_id=""),
    item("train", "", modality="CT", body_part="HEAD", patient_id="r"),
]


def test_across_modalities_eval_items_ask_and_answer() -> None:
    task = across(ACROSS, "MR", "CT", Hit.BODY_PART)

    assert (task.queries.tolist(), task.gallery.tolist()) == ([0], [2, 3])
    assert task.classes.tolist() == ["HEAD", "HEAD", "HEAD", "CHEST", "HEAD"]
    assert task.patients[0] == "p"
    assert "own patient left out" in task.rule


def test_across_modalities_the_same_patient_can_be_what_is_looked_for() -> None:
    task = across(ACROSS, "MR", "CT", Hit.PATIENT)

    assert task.gallery.tolist() == [2], "an unknown patient cannot be found"
    assert task.classes[2] == "p"
    assert set(task.patients) == {""}, "nobody is left out"


def test_a_modality_without_items_is_named() -> None:
    with pytest.raises(NothingToScore, match="no eval item of US"):
        across(ACROSS, "US", "CT", Hit.BODY_PART)


def test_across_modalities_findings_that_say_the_same_are_hits() -> None:
    items = [
        item("eval", "normal", modality="CR"),
        item("eval", "contrast", modality="CR"),
        item("eval", "healthy", modality="US"),
        item("eval", "malignant", modality="US"),
    ]

    task = across(items, "CR", "US", Hit.FINDING)

    assert task.queries.tolist() == [0], "a contrast medium is no finding"
    assert task.gallery.tolist() == [2, 3]
    assert task.classes[0] == task.classes[2] != task.classes[3]
    assert "hit: same finding, the query's own patient left out" in task.rule


def test_every_pair_that_shares_something_asks() -> None:
    items = [
        item("eval", "normal", modality="CR", body_part="CHEST"),
        item("train", "viral pneumonia", modality="CR", body_part="CHEST"),
        item("eval", "upper chest", modality="CT", body_part="CHEST"),
        item("eval", "pelvis", modality="CT", body_part="PELVIS"),
        item("eval", "healthy", modality="US", body_part="LUNG"),
        item("eval", "malignant", modality="US", body_part="BREAST"),
        item("eval", "polyp small", modality="ES", body_part="COLON"),
    ]

    tasks, left_out = every_pair(items)

    assert [(t.name, t.queries.tolist(), t.gallery.tolist()) for t in tasks] == [
        ("CR:CT by body part", [0], [2, 3]),
        ("CR:US by finding", [0], [4, 5]),
    ]
    assert [(one.name, one.reason) for one in left_out] == [
        ("CT:CR by body part", "the gallery has one class only: every answer is right"),
        ("US:CR by finding", "the gallery has one class only: every answer is right"),
    ]
