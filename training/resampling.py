"""Intervals of scores: who is drawn anew, and how often.

Owns: the bootstrap over patients. Does not own: what is scored (`scores`, `classification`,
`text_retrieval`). NumPy only.
"""

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
Units = NDArray[np.intp]

RESAMPLES = 1000


def units_of(patients: NDArray[np.str_]) -> Units:
    """Number the patients; every item of an unknown patient is one of its own."""
    known, numbers = np.unique(patients, return_inverse=True)
    alone = len(known) + np.arange(len(patients))
    return np.where(patients == "", alone, numbers).astype(np.intp)


def times_drawn(units: Units, random: np.random.Generator) -> tuple[Array, Units]:
    """Draw as many units as there are, with replacement, RESAMPLES times.

    Returns how often each was drawn (RESAMPLES, U), and the column of each item (N,).
    """
    known, column = np.unique(units, return_inverse=True)
    share = np.full(len(known), 1 / len(known))
    drawn = random.multinomial(len(known), share, size=RESAMPLES).astype(np.float64)
    return drawn, column


def resampled_sums(values: Array, units: Units, random: np.random.Generator) -> Array:
    """Return the sums (RESAMPLES, M) of the values (N, M) of the items that each draw brings."""
    drawn, column = times_drawn(units, random)
    sums = np.zeros((drawn.shape[1], values.shape[1]))
    np.add.at(sums, column, values)
    resampled: Array = drawn @ sums
    return resampled


def resampled_means(values: Array, units: Units, random: np.random.Generator) -> Array:
    """Return the means (RESAMPLES, M) of the values (N, M) of the items that each draw brings."""
    counted = np.column_stack([values, np.ones(len(values))])
    sums = resampled_sums(counted, units, random)
    return sums[:, :-1] / sums[:, -1:]


def interval(drawn: Array) -> list[tuple[float, float]]:
    """Return the 2.5th to the 97.5th percentile of every column of draws (RESAMPLES, M)."""
    low, high = np.percentile(drawn, (2.5, 97.5), axis=0)
    return [(float(a), float(b)) for a, b in zip(low, high, strict=True)]
