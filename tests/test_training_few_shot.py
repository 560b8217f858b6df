from pathlib import Path

import numpy as np
import pytest

from encoder.clip import Kind
from training.classification import choices
from training.errors import NothingToScore
from training.evaluate import Embedded
from training.few_shot import DRAWS, HEADS, SHOTS, few_shot, prototypes, shots
from training.manifest import Item, Split

CLASSES = ("a", "b", "c")


def items(per_class: int = 20) -> tuple[Item, ...]:
    return tuple(
        Item(f"{label}{number}", (Path("x"),), Split.EVAL if number % 4 == 0 else Split.TRAIN,
             Kind.STILL, "CT", "", label, f"{label}{number}", source="one")
        for label in CLASSES
        for number in range(per_class)
    )  # fmt: skip


def embedded(spread: float, per_class: int = 20) -> Embedded:
    """Lay every class around an axis of its own; with a wide spread nothing is left of it."""
    every = items(per_class)
    noise = np.random.default_rng(3).normal(size=(len(every), 6)) * spread
    axes = np.array([np.eye(6)[CLASSES.index(item.label)] for item in every])
    return Embedded(every, (axes + noise).astype(np.float32), "model", ("x: gone",))


@pytest.mark.parametrize("head", HEADS)
def test_classes_that_lie_apart_are_learnt_from_one_shot(head: str) -> None:
    found = few_shot({"apart": embedded(0.01)})

    of_head, _macro = (row for row in found.rows if row.method == f"apart, {head}")
    assert [figure.value for figure in of_head.figures.values()] == [1.0] * len(SHOTS)
    for figure in of_head.figures.values():
        assert figure.interval == pytest.approx((1, 1))
    assert (of_head.queries, of_head.units) == (15, 15)


def test_noise_is_told_by_chance() -> None:
    found = few_shot({"noise": embedded(1000)})

    for row in found.rows:
        one = row.figures["1-shot"]
        assert one.chance == pytest.approx(1 / 3)
        assert one.value == pytest.approx(1 / 3, abs=0.12)
        assert one.interval is not None
        assert one.interval[0] < 1 / 3 < one.interval[1]


def test_shots_are_learnt_items_of_every_class_and_more_hold_the_fewer() -> None:
    every = items(per_class=8)  # six to learn from: fewer than the most shots
    labels = np.array([item.label for item in every])
    (choice,), _ = choices(every)

    drawn = {count: shots(choice, labels, count, seed=1) for count in SHOTS}

    for count, each in drawn.items():
        assert len(each) == DRAWS
        for rows in each:
            assert len(set(rows)) == len(rows) == 3 * min(count, 6)
            assert set(rows) <= set(choice.learnt)
            assert sorted(labels[rows]) == sorted("abc" * min(count, 6))
    for few, more in zip(drawn[2], drawn[4], strict=True):
        assert set(few) < set(more)
    assert {tuple(rows) for rows in drawn[1]} != {tuple(drawn[1][0])}, "draws differ"


def test_the_same_seed_draws_the_same_shots_for_every_encoder() -> None:
    both = few_shot({"one": embedded(0.5), "again": embedded(0.5)}, seed=4)

    by_name = {(row.name, row.method): row.figures for row in both.rows}
    for head in HEADS:
        for name in ("one", "macro"):
            assert by_name[name, f"one, {head}"] == by_name[name, f"again, {head}"]
    other = few_shot({"one": embedded(0.5)}, seed=5)
    assert other.rows[0].figures != both.rows[0].figures


def test_a_prototype_is_the_mean_of_its_shots() -> None:
    learnt = np.array([[0, 0], [0, 4], [3, 2]], np.float32)

    told = prototypes(learnt, np.array([0, 0, 1]), np.array([[1.4, 2], [1.6, 2]], np.float32))

    assert told.tolist() == [0, 1]


def test_findings_name_the_encoders_and_what_was_left_out() -> None:
    found = few_shot({"apart": embedded(0.01)})

    assert found.model_ids == {"apart": "model"}
    assert found.unreadable == ("x: gone",)


def test_nothing_to_learn_from_is_said() -> None:
    every = embedded(1)
    asked = [row for row, item in enumerate(every.items) if item.split is Split.EVAL]
    only = Embedded(tuple(every.items[row] for row in asked), every.vectors[asked], "model", ())

    with pytest.raises(NothingToScore, match="one: no train item to learn from"):
        few_shot({"x": only})
