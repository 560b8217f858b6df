"""Ids that share one identical vector, and thereby one node of the graph.

Identical vectors (black frames, repeated instances) would fill each other's neighbour lists and
cut the rest of the graph off, so only one of them enters it: its id is the node's label. Knows no
graph. Costs 16 bytes per vector that has no twin.
"""

from __future__ import annotations

from hashlib import blake2b

import numpy as np
from numpy.typing import NDArray

from index.half import Halves
from index.vectors import Ids, Vectors

Digests = NDArray[np.uint64]

_RECENT = 16_384  # digests kept in a dict before they are sorted in
_GONE = -1


def digests(halves: Halves) -> Digests:
    """Return 64 bits of a digest of each row."""
    rows = np.ascontiguousarray(halves)
    found = b"".join(blake2b(row, digest_size=8).digest() for row in rows)
    return np.frombuffer(found, dtype=np.uint64)


class Twins:
    """Which ids stand behind which label."""

    def __init__(self, *, recent: int = _RECENT) -> None:
        self._most_recent = recent
        self._digests = np.empty(0, dtype=np.uint64)  # ascending
        self._labels = np.empty(0, dtype=np.int64)  # of each digest
        self._recent: dict[int, int] = {}  # digest → label or _GONE, counts before the arrays
        self._members: dict[int, list[int]] = {}  # label → ids, where there are several
        self._label_of: dict[int, int] = {}  # of those ids

    def admit(self, ids: Ids, halves: Halves) -> Ids:
        """Take ids in; return those whose vector is new, so that they need a node."""
        each, firsts, which = np.unique(digests(halves), return_index=True, return_inverse=True)
        labels = self._find(each)
        new = labels == _GONE
        labels[new] = ids[firsts[new]]
        self._keep(each[new], labels[new])
        of_ids = labels[which]
        for at in np.flatnonzero(of_ids != ids).tolist():
            label, key = int(of_ids[at]), int(ids[at])
            self._members.setdefault(label, [label]).append(key)
            self._label_of[label] = self._label_of[key] = label
        needing: Ids = ids[np.sort(firsts[new])]
        return needing

    def dismiss(self, ids: Ids, halves: Halves) -> tuple[Ids, Ids]:
        """Let ids go; return the labels that are no more, and those that need a node instead."""
        gone: list[int] = []
        heirs: set[int] = set()
        for key, digest in zip(ids.tolist(), digests(halves), strict=True):
            label = self._label_of.pop(key, key)
            members = self._members.pop(label, [key])
            members.remove(key)
            heir = members[0] if members else _GONE  # the label itself, unless it goes
            if label == key:
                if key not in heirs:  # else it never had a node
                    gone.append(key)
                heirs.discard(key)
                heirs.update(members[:1])
                self._keep(np.array([digest]), np.array([heir]))
            if len(members) > 1:
                self._members[heir] = members
                self._label_of.update(dict.fromkeys(members, heir) if label == key else {})
            else:
                self._label_of.pop(heir, None)
        return np.array(gone, np.int64), np.array(sorted(heirs), np.int64)

    def followers(self) -> Ids:
        """Return the ids that share the node of another."""
        shared = (key for label, keys in self._members.items() for key in keys if key != label)
        return np.fromiter(shared, dtype=np.int64)

    def expand(self, labels: Ids, scores: Vectors) -> tuple[Ids, Vectors]:
        """Return the ids behind labels, each with its label's score."""
        if not self._members:
            return labels, scores
        groups = [self._members.get(label, [label]) for label in labels.tolist()]
        sizes = [len(group) for group in groups]
        ids = np.array([key for group in groups for key in group], dtype=np.int64)
        return ids, np.repeat(scores, sizes)

    def _find(self, wanted: Digests) -> Ids:
        """Return the label of each digest, _GONE where there is none."""
        labels = np.full(len(wanted), _GONE, dtype=np.int64)
        if len(self._digests):
            at = np.searchsorted(self._digests, wanted).clip(max=len(self._digests) - 1)
            found = self._digests[at] == wanted
            labels[found] = self._labels[at[found]]
        if self._recent:
            for number, digest in enumerate(wanted.tolist()):
                labels[number] = self._recent.get(digest, labels[number])
        return labels

    def _keep(self, new: Digests, labels: Ids) -> None:
        self._recent.update(zip(new.tolist(), labels.tolist(), strict=True))
        if len(self._recent) < self._most_recent:
            return
        recent = np.fromiter(self._recent.keys(), np.uint64, len(self._recent))
        after = np.fromiter(self._recent.values(), np.int64, len(self._recent))
        old = ~np.isin(self._digests, recent)
        every = np.concatenate([self._digests[old], recent[after != _GONE]])
        order = np.argsort(every)
        self._labels = np.concatenate([self._labels[old], after[after != _GONE]])[order]
        self._digests, self._recent = every[order], {}
