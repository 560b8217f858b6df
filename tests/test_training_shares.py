import math

import numpy as np
import pytest
import torch
from bindings import CONFIG, generated_items, generated_pairs, known_as_it_is
from hypothesis import given
from hypothesis import strategies as st
from torch.nn import functional

from training.pairs import gather
from training.shares import START, TRIED, likeliest, shares

PAIRS = generated_pairs(of_each=40)
TEMPERATURES = st.floats(0.01, 1)


@given(st.lists(st.floats(-1, 1), min_size=2, max_size=9), TEMPERATURES)
def test_shares_sum_to_one_and_keep_the_order(cosines: list[float], temperature: float) -> None:
    found = shares(np.sort(np.array(cosines)), temperature)

    assert found.sum() == pytest.approx(1)
    assert (np.diff(found) >= 0).all()


def test_a_higher_temperature_makes_shares_alike() -> None:
    cold, warm = (shares(np.array([0.1, 0.2]), each) for each in (0.01, 1.0))

    assert cold[1] == pytest.approx(1 / (1 + math.exp(-10)))
    assert warm[1] == pytest.approx(1 / (1 + math.exp(-0.1)))


def test_the_likeliest_temperature_is_the_one_that_labels_were_drawn_at() -> None:
    """Two labels whose captions lie apart, and images told by chance at a known temperature."""
    wanted = 0.2
    captions = torch.zeros(len(PAIRS.captions), 2)
    draws = np.random.default_rng(0)
    placed = np.zeros((len(PAIRS.paths), 2), np.float32)
    modality = ""
    for group in PAIRS.groups:
        axis = int(modality == group.modality)  # the first and second label of each modality
        modality = group.modality
        rows = [c for c in group.captions if "finding" in dict(PAIRS.captions[c].said)]
        captions[rows, axis] = 1.0
        placed[group.rows] = _told(axis, wanted, len(group.rows), draws)

    found = likeliest(PAIRS, torch.from_numpy(placed), functional.normalize(captions, dim=1))

    assert found in TRIED
    assert 0.14 < found < 0.28


def _told(axis: int, temperature: float, count: int, draws: np.random.Generator) -> np.ndarray:
    """Draw unit rows (N, 2) that are of the label of an axis as likely as their shares say."""
    kept: list[np.ndarray] = []
    while len(kept) < count:
        angle = draws.uniform(0, math.pi / 2)
        row = np.array([math.cos(angle), math.sin(angle)])
        if draws.uniform() < shares(row, temperature)[axis]:
            kept.append(row)
    return np.array(kept, np.float32)


def test_without_labels_to_tell_apart_there_is_a_start() -> None:
    items = [item for item in generated_items() if item.label == "normal"]
    vectors = np.ones((len(items), 2), np.float32)
    pairs = gather(items, vectors, known_as_it_is(items), CONFIG)

    assert likeliest(pairs, pairs.vectors, torch.ones(len(pairs.captions), 2)) == START
