"""The scores against an oracle that does everything one query and one item at a time."""

import itertools
import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from training.errors import NothingToScore
from training.scores import (
    CUTS,
    DEPTH,
    METRICS,
    Judged,
    chance_of,
    judge,
    metrics_of,
    rankme,
    score,
)
from training.tasks import Task


def task(classes: list[str], patients: list[str], queries: list[int], gallery: list[int]) -> Task:
    rows = np.array(queries, dtype=np.intp), np.array(gallery, dtype=np.intp)
    return Task("test", *rows, np.array(classes), np.array(patients), "rule")


@st.composite
def tasks(draw: st.DrawFn) -> tuple[NDArray[np.float32], Task]:
    count = draw(st.integers(4, 30))
    classes = draw(st.lists(st.sampled_from("ab"), min_size=count, max_size=count))
    patients = draw(st.lists(st.sampled_from(["", "p", "q", "r"]), min_size=count, max_size=count))
    split = draw(st.integers(1, count - 1))
    everyone = list(range(count))
    queries, gallery = (everyone[:split], everyone[split:])
    if draw(st.booleans()):  # leave-one-out
        queries = gallery = everyone
    vectors = np.random.default_rng(draw(st.integers(0, 99))).normal(size=(count, 5))
    return vectors.astype(np.float32), task(classes, patients, queries, gallery)


def slow_metrics(vectors: NDArray[np.float32], asked: Task) -> dict[int, list[float]]:
    """The definition in the docstring of `scores`, by loops; queries without a hit are absent."""
    found: dict[int, list[float]] = {}
    for query in asked.queries:
        patient = asked.patients[query]
        gallery = [
            row
            for row in asked.gallery
            if row != query and (patient == "" or asked.patients[row] != patient)
        ]
        cosines = {
            row: float(np.dot(vectors[query].astype(float), vectors[row].astype(float)))
            / math.dist(vectors[row], np.zeros(vectors.shape[1]))
            for row in gallery
        }
        ranking = sorted(gallery, key=lambda row: -cosines[row])
        rel = [asked.classes[row] == asked.classes[query] for row in ranking]
        total = sum(rel)
        if not total:
            continue
        recall = [float(any(rel[:k])) for k in CUTS]
        precision = [sum(rel[:k]) / k for k in CUTS]
        average = 0.0
        for i in range(1, min(DEPTH, len(rel)) + 1):
            average += sum(rel[:i]) / i * rel[i - 1]
        found[int(query)] = [*recall, *precision, average / min(total, DEPTH)]
    return found


@settings(max_examples=200)
@given(tasks())
def test_metrics_are_what_the_slow_oracle_says(
    given_task: tuple[NDArray[np.float32], Task],
) -> None:
    vectors, asked = given_task
    expected = slow_metrics(vectors, asked)
    if not expected:
        with pytest.raises(NothingToScore):
            judge(vectors, asked)
        return

    judged = judge(vectors, asked)

    assert judged.queries.tolist() == list(expected)
    assert judged.unanswerable == len(asked.queries) - len(expected)
    assert judged.metrics == pytest.approx(np.array(list(expected.values())))


@settings(max_examples=50)
@given(tasks(), st.integers(0, 99))
def test_nothing_changes_when_the_space_is_rotated_and_scaled(
    given_task: tuple[NDArray[np.float32], Task], seed: int
) -> None:
    vectors, asked = given_task
    rotation, _ = np.linalg.qr(np.random.default_rng(seed).normal(size=(5, 5)))
    if not slow_metrics(vectors, asked):
        return

    before = judge(vectors, asked)
    after = judge((3 * vectors @ rotation).astype(np.float32), asked)

    assert after.metrics == pytest.approx(before.metrics)
    assert after.rankme == pytest.approx(before.rankme, rel=1e-4)


def test_an_item_of_the_querys_patient_is_neither_hit_nor_gallery() -> None:
    vectors = np.array([[1, 0], [1, 0.01], [1, 0.3], [0, 1]], np.float32)
    asked = task(["a", "a", "a", "b"], ["p", "p", "q", "r"], [0], [1, 2, 3])

    judged = judge(vectors, asked)

    assert judged.top[0].tolist() == [2, 3] + [-1] * 8
    assert judged.hits[0].tolist() == [True] + [False] * 9
    assert judged.metrics[0].tolist() == [1, 1, 1, 1, 0.2, 0.1, 1]


def test_an_unknown_patient_is_nobodys() -> None:
    vectors = np.array([[1, 0], [1, 0.01], [0, 1]], np.float32)

    judged = judge(vectors, task(["a", "a", "b"], ["", "", ""], [0], [1, 2]))

    assert judged.top[0, :2].tolist() == [1, 2]


def test_a_task_of_one_patient_says_that_it_cannot_be_scored() -> None:
    asked = task(["a", "a", "b"], ["p", "p", "p"], [0], [1, 2])

    with pytest.raises(NothingToScore, match="from another patient"):
        judge(np.eye(3, dtype=np.float32), asked)


@pytest.mark.parametrize(("relevant", "size"), [(1, 3), (2, 3), (3, 3), (2, 6), (5, 7), (1, 1)])
def test_chance_is_the_average_over_every_order_of_the_gallery(relevant: int, size: int) -> None:
    orders = set(itertools.permutations([True] * relevant + [False] * (size - relevant)))
    hits = np.zeros((len(orders), DEPTH), dtype=np.bool_)
    hits[:, :size] = sorted(orders)

    every_order = metrics_of(hits, np.full(len(orders), relevant)).mean(axis=0)

    assert chance_of(np.array([relevant]), np.array([size]))[0] == pytest.approx(every_order)


def test_chance_holds_for_a_gallery_longer_than_the_ranking() -> None:
    random = np.random.default_rng(1)
    orders = random.permuted(np.tile(np.arange(40) < 7, (100_000, 1)), axis=1)[:, :DEPTH]

    drawn = metrics_of(orders, np.full(len(orders), 7)).mean(axis=0)

    assert chance_of(np.array([7]), np.array([40]))[0] == pytest.approx(drawn, abs=0.005)


def test_the_majority_level_is_the_share_of_queries_of_the_commonest_class() -> None:
    classes = [*"aab", *"a" * 12, *"b" * 11]
    asked = task(classes, [""] * 26, [0, 1, 2], list(range(3, 26)))

    judged = judge(np.eye(26, dtype=np.float32), asked)

    assert judged.majority == pytest.approx(np.full(len(METRICS), 2 / 3))


def judged_of(metrics: NDArray[np.float64], units: list[int]) -> Judged:
    one = judge(np.eye(3, dtype=np.float32), task(["a", "a", "b"], [""] * 3, [0], [1, 2]))
    return replace(one, metrics=metrics, units=np.array(units, dtype=np.intp))


def test_the_interval_is_over_patients_not_over_their_items() -> None:
    random = np.random.default_rng(3)
    of_patient = random.random((40, len(METRICS)))
    repeated = judged_of(
        np.repeat(of_patient, 25, axis=0), [n for n in range(40) for _ in range(25)]
    )
    alone = judged_of(of_patient, list(range(40)))

    (wide,) = [score([repeated]).intervals]
    (same,) = [score([alone]).intervals]

    assert wide is not None
    assert same is not None
    low, high = wide["mAP@10"]
    expected = 2 * 1.96 * of_patient[:, -1].std() / 40**0.5
    assert high - low == pytest.approx(expected, rel=0.15)
    assert wide["mAP@10"] == pytest.approx(same["mAP@10"])


def test_one_patient_gives_no_interval() -> None:
    assert score([judged_of(np.ones((5, len(METRICS))), [4] * 5)]).intervals is None


def test_macro_gives_every_task_the_same_weight() -> None:
    small = judged_of(np.zeros((2, len(METRICS))), [0, 1])
    large = judged_of(np.ones((200, len(METRICS))), list(range(200)))

    assert score([small, large]).values["P@5"] == 0.5


@pytest.mark.parametrize("rank", [1, 3, 8])
def test_rankme_counts_the_directions_that_are_used_alike(rank: int) -> None:
    directions = np.linalg.qr(np.random.default_rng(0).normal(size=(20, rank)))[0].T

    assert rankme(np.tile(directions, (6, 1)).astype(np.float32)) == pytest.approx(rank, abs=0.05)
