"""Rocchio: toward the positive examples, away from the negative ones."""

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from test_index_parts import unit_rows

from index.errors import BadQuery, BadVector
from index.refine import refined

seeds, counts = st.integers(0, 9999), st.integers(1, 6)
NONE = np.empty((0, 16), np.float32)


@given(seed=seeds, positive=counts, negative=counts, beta=st.floats(0, 1))
def test_the_answer_is_the_formula_brought_to_length_one(
    seed: int, positive: int, negative: int, beta: float
) -> None:
    likes, dislikes = unit_rows(seed, positive, 16), unit_rows(seed + 1, negative, 16)
    expected = sum(likes) / positive - beta * sum(dislikes) / negative
    assume(np.linalg.norm(expected) > 0.01)
    (found,) = refined(likes, dislikes, beta=beta)
    assert np.linalg.norm(found) == pytest.approx(1, abs=1e-5)
    np.testing.assert_allclose(found * np.linalg.norm(expected), expected, atol=1e-5)


@given(seed=seeds)
def test_one_example_alone_is_itself(seed: int) -> None:
    example = unit_rows(seed, 1, 16)
    np.testing.assert_allclose(refined(example, NONE), example, atol=1e-6)


@given(seed=seeds, negative=counts)
def test_a_negative_example_moves_the_query_away_from_it(seed: int, negative: int) -> None:
    likes, dislikes = unit_rows(seed, 2, 16), unit_rows(seed + 1, negative, 16)
    middle = dislikes.mean(axis=0)
    before, after = refined(likes, NONE)[0] @ middle, refined(likes, dislikes)[0] @ middle
    assert after <= before + 1e-6


@given(seed=seeds, positive=counts)
def test_the_order_of_examples_does_not_matter(seed: int, positive: int) -> None:
    likes, dislikes = unit_rows(seed, positive, 16), unit_rows(seed + 1, 3, 16)
    turned = refined(likes[::-1], dislikes[::-1])
    np.testing.assert_allclose(turned, refined(likes, dislikes), atol=1e-6)


def test_examples_that_say_nothing_are_refused() -> None:
    one = unit_rows(1, 1, 16)
    with pytest.raises(BadQuery, match="none of what is looked for"):
        refined(NONE, one)
    with pytest.raises(BadQuery, match="cancel each other out"):
        refined(np.concatenate([one, -one]), NONE)
    with pytest.raises(BadQuery, match="cancel each other out"):
        refined(one, one, beta=1.0)
    with pytest.raises(BadVector):
        refined(one, np.full((1, 16), np.nan, np.float32))
