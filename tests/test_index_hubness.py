import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from index.hubness import hubness, ks_chance, ks_distance

K = 5


def unit(rows: np.ndarray) -> np.ndarray:
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)


def occurrences(vectors: np.ndarray, owners: np.ndarray) -> list[int]:
    """Count in plain Python how often each is among the K nearest of the others."""
    counts = [0] * len(vectors)
    for asking, vector in enumerate(vectors):
        others = [n for n in range(len(vectors)) if owners[n] != owners[asking]]
        for near in sorted(others, key=lambda n: -float(vectors[n] @ vector))[:K]:
            counts[near] += 1
    return counts


@given(st.integers(0, 10_000), st.integers(1, 3))
def test_hubness_is_the_third_moment_of_the_k_occurrences(seed: int, each: int) -> None:
    rng = np.random.default_rng(seed)
    vectors, owners = unit(rng.standard_normal((40, 8))), np.arange(40) // each
    counts = np.array(occurrences(vectors, owners))
    found = hubness(vectors, owners, k=K)
    assert found is not None
    assert (found.sampled, found.k, found.largest) == (40, K, counts.max())
    assert found.antihubs == pytest.approx((counts == 0).mean())
    skewness = ((counts - K) ** 3).mean() / ((counts - K) ** 2).mean() ** 1.5
    assert found.skewness == pytest.approx(skewness, abs=1e-6)


def test_hubs_grow_with_the_dimension() -> None:
    """Radovanović et al. 2010, figure 1; off centre, since on the sphere they vanish."""
    rng = np.random.default_rng(0)
    owners = np.arange(1000)
    flat, deep = (hubness(unit(1 + rng.standard_normal((1000, d))), owners) for d in (3, 100))
    assert flat is not None and deep is not None
    assert flat.skewness < 0.5 < 1.5 < deep.skewness
    assert flat.antihubs < deep.antihubs
    assert flat.largest < deep.largest


def test_few_vectors_or_patients_have_no_hubness() -> None:
    vectors = unit(np.random.default_rng(0).standard_normal((12, 8)))
    assert hubness(vectors[:K], np.arange(K), k=K) is None
    assert hubness(vectors, np.arange(12) // 11, k=K) is None
    assert hubness(vectors[:0], np.arange(0), k=K) is None


@given(
    st.lists(st.integers(0, 9), min_size=1, max_size=20),
    st.lists(st.integers(0, 9), min_size=1, max_size=20),
)
def test_the_ks_distance_is_the_greatest_of_all_steps(one: list[int], other: list[int]) -> None:
    def below(values: list[int], limit: int) -> float:
        return sum(v <= limit for v in values) / len(values)

    expected = max(abs(below(one, n) - below(other, n)) for n in range(10))
    found = ks_distance(np.array(one, np.float32), np.array(other, np.float32))
    assert found == pytest.approx(expected)


def test_samples_of_one_distribution_rarely_exceed_what_chance_gives() -> None:
    rng = np.random.default_rng(0)
    chance = ks_chance(200, 300)
    distances = [
        ks_distance(rng.random(200, np.float32), rng.random(300, np.float32)) for _ in range(400)
    ]
    assert 0.02 < np.mean([d > chance for d in distances]) < 0.07
