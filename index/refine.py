"""Several examples as one query: toward what is like it, away from what is not.

Owns Rocchio's formula (in Salton, The SMART Retrieval System, 1971, ch. 14), with the original
query left out, for here every example is one that was judged. Knows no studies.
"""

from __future__ import annotations

import numpy as np

from index.errors import BadQuery
from index.vectors import Vectors, unit_rows

# What is unlike counts less than what is like: Manning, Raghavan & Schütze, Introduction to
# Information Retrieval, ch. 9.1.1, take .15 to .75, here rounded up for the few that are given.
BETA = 0.25
_LEAST_LENGTH = 1e-3  # of a sum of unit rows; less is rounding and points nowhere


def refined(positive: Vectors, negative: Vectors, *, beta: float = BETA) -> Vectors:
    """Return the unit row (1, D) of mean(positive) - beta * mean(negative).

    `positive` (P, D) and `negative` (N, D) are unit rows, N may be 0. Raises BadQuery where there
    is no positive one or all cancel out, BadVector for what are no unit rows.
    """
    if not len(positive):
        raise BadQuery("examples", "there is none of what is looked for")
    wanted = unit_rows(positive).mean(axis=0)
    if len(negative):
        wanted = wanted - np.float32(beta) * unit_rows(negative, positive.shape[1]).mean(axis=0)
    length = float(np.linalg.norm(wanted))
    if length < _LEAST_LENGTH:
        raise BadQuery("examples", "they cancel each other out")
    return np.asarray(wanted[None] / length, dtype=np.float32)
