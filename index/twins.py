"""Ids that share one identical vector, and thereby one node of the graph.

Identical vectors (black frames, repeated instances) would fill each other's neighbour lists and
cut the rest of the graph off, so only one of them enters it: its id is the node's label. Knows no
graph.
"""

from __future__ import annotations

from hashlib import blake2b

import numpy as np

from index.vectors import Candidates, Ids, Vectors


class Twins:
    """Which ids stand behind which label."""

    def __init__(self) -> None:
        self._members: dict[int, list[int]] = {}  # label → ids
        self._label_of: dict[int, int] = {}  # id → label
        self._label_by_digest: dict[bytes, int] = {}
        self._digest_of: dict[int, bytes] = {}  # label → digest of its vector

    def __len__(self) -> int:
        """Return the number of labels."""
        return len(self._members)

    def labels(self) -> Ids:
        """Return all labels, ascending."""
        return np.array(sorted(self._members), dtype=np.int64)

    def admit(self, key: int, vector: Vectors) -> bool:
        """Take an id in; True when its vector is new, so that it needs a node of its own."""
        digest = blake2b(vector.tobytes(), digest_size=16).digest()
        label = self._label_by_digest.setdefault(digest, key)
        self._label_of[key] = label
        if label != key:
            self._members[label].append(key)
            return False
        self._members[key] = [key]
        self._digest_of[key] = digest
        return True

    def dismiss(self, key: int) -> int | None:
        """Let an id go; returns its label when it was the last behind it."""
        label = self._label_of.pop(key)
        members = self._members[label]
        members.remove(key)
        if members:
            return None
        del self._members[label]
        del self._label_by_digest[self._digest_of.pop(label)]
        return label

    def expand(self, labels: Ids, scores: Vectors) -> Candidates:
        """Return the ids behind labels, each with its label's score."""
        groups = [self._members[label] for label in labels.tolist()]
        sizes = [len(group) for group in groups]
        ids = np.array([key for group in groups for key in group], dtype=np.int64)
        return Candidates(ids, np.repeat(scores, sizes), exact=False)
