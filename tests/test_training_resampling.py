import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from training.resampling import (
    RESAMPLES,
    interval,
    resampled_means,
    resampled_sums,
    times_drawn,
    units_of,
)


def test_unknown_patients_are_units_of_their_own() -> None:
    units = units_of(np.array(["p", "", "q", "p", ""]))

    assert units[0] == units[3]
    assert len(set(units)) == 4


@settings(max_examples=30)
@given(st.lists(st.integers(0, 4), min_size=1, max_size=12), st.integers(0, 50))
def test_sums_and_means_are_those_of_the_items_repeated(units: list[int], seed: int) -> None:
    """The oracle repeats every item as often as its unit was drawn."""
    owner = np.array(units, dtype=np.intp)
    values = np.random.default_rng(seed).normal(size=(len(units), 2))
    drawn, column = times_drawn(owner, np.random.default_rng(seed))
    sums = resampled_sums(values, owner, np.random.default_rng(seed))
    means = resampled_means(values, owner, np.random.default_rng(seed))

    assert (drawn.sum(axis=1) == len(set(units))).all()
    for draw in (0, RESAMPLES - 1):
        repeated = np.repeat(values, drawn[draw, column].astype(int), axis=0)
        assert sums[draw] == pytest.approx(repeated.sum(axis=0))
        assert means[draw] == pytest.approx(repeated.mean(axis=0))


def test_the_interval_holds_95_of_100_draws_of_each_column() -> None:
    draws = np.column_stack([np.arange(1001.0), np.zeros(1001)])

    assert interval(draws) == [(25.0, 975.0), (0.0, 0.0)]
