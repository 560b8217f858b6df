import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from training.logistic import Matrix, fit


def drawn(
    seed: int, count: int = 12, width: int = 4, classes: int = 3
) -> tuple[Matrix, np.ndarray]:
    random = np.random.default_rng(seed)
    labels = np.concatenate([np.arange(classes), random.integers(0, classes, count - classes)])
    return random.normal(size=(count, width)).astype(np.float32), labels


def objective(
    vectors: Matrix, labels: np.ndarray, weight: np.ndarray, bias: np.ndarray, penalty: float
) -> float:
    """What `fit` promises to make small, written out item by item."""
    wide = vectors.astype(float) - vectors.astype(float).mean(axis=0)
    wide /= np.sqrt(np.square(wide).sum(axis=1).mean())
    losses = []
    for name in np.unique(labels):
        logits = wide[labels == name] @ weight + bias
        losses.append(np.mean(np.log(np.exp(logits).sum(axis=1)) - logits[:, name]))
    return float(np.mean(losses) + penalty / 2 * np.square(weight).sum())


@settings(max_examples=20)
@given(st.integers(0, 1000), st.sampled_from([1e-2, 0.1, 1.0]))
def test_no_step_from_the_solution_lowers_the_loss(seed: int, penalty: float) -> None:
    vectors, labels = drawn(seed)
    found = fit(vectors, labels, 3, penalty=penalty)
    weight, bias = found.weight.numpy(), found.bias.numpy()
    lowest = objective(vectors, labels, weight, bias, penalty)

    random = np.random.default_rng(seed)
    for size in (1e-3, 1e-1):
        for _ in range(10):
            moved = weight + size * random.normal(size=weight.shape)
            shifted = bias + size * random.normal(size=bias.shape)
            assert objective(vectors, labels, moved, shifted, penalty) >= lowest - 1e-9


def test_classes_that_lie_apart_are_told_apart() -> None:
    vectors = np.array([[0, 0], [0.1, 0], [5, 0], [5, 0.1], [0, 5]], np.float32)
    found = fit(vectors, np.array([0, 0, 1, 1, 2]), 3)

    assert found.scores(vectors).argmax(axis=1).tolist() == [0, 0, 1, 1, 2]


def test_neither_place_nor_scale_of_the_vectors_matters() -> None:
    vectors, labels = drawn(5)
    moved = (7 * vectors + 3).astype(np.float32)

    here, there = fit(vectors, labels, 3), fit(moved, labels, 3)

    assert there.scores(moved) == pytest.approx(here.scores(vectors), abs=1e-3)


def test_vectors_that_are_all_the_same_give_no_preference() -> None:
    vectors = np.ones((3, 2), np.float32)

    assert fit(vectors, np.array([0, 1, 1]), 2).scores(vectors) == pytest.approx(0, abs=1e-4)
