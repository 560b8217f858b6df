"""Cases that show one image: sent again, derived, or also in another study.

The likeliest cases of all would else be one picture ten times. Nothing is dropped: who looks like
an earlier case to within `threshold` is listed under it. Knows vectors only, no studies.

With the shipped encoder .98 tells them apart: of 238 images, 98.7 % after JPEG of quality 50 (of
20: 97.5 %), 96.6 % at half the size and 99.6 % with 1 % noise are that near to themselves; of 4,198
images of known patients none is to another patient's (.955 at most). One without a border of 5 %
(10.5 %) or in another window (5.0 %) is another image to it: training/LOG.md.
"""

from __future__ import annotations

import numpy as np

from index.vectors import Vectors


def groups(vectors: Vectors, *, k: int, threshold: float) -> tuple[tuple[int, ...], ...]:
    """Return the rows of ranked unit vectors (N, D) in groups of near-duplicates, k + 1 at most.

    Each row joins the first group whose first row is as near as `threshold` (cosine), or begins
    one: a chain of small steps is no group. The row that begins group k + 1 ends the search, so
    whatever ranks below changes nothing, and a group lists those that rank above that row. Fewer
    than k + 1 groups: the rows are used up, more of them might add to any group.
    """
    heads = np.empty((k + 1, vectors.shape[1]), dtype=np.float32)
    found: list[list[int]] = []
    for row, vector in enumerate(vectors):
        near = heads[: len(found)] @ vector >= threshold
        if near.any():
            found[int(near.argmax())].append(row)
            continue
        heads[len(found)] = vector
        found.append([row])
        if len(found) > k:
            break
    return tuple(map(tuple, found))
