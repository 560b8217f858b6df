"""What vectors are filtered by, in memory: one column of small codes per facet, a row per vector.

A filter is a test of texts; it is run once for each distinct text and then looked up by code, so
that candidates are filtered without SQL. Follows the catalogue. About 60 bytes per vector.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping
from hashlib import blake2b
from threading import Lock

import numpy as np
from numpy.typing import NDArray

from index.catalogue import Catalogue
from index.changes import Bookmark
from index.gallery import FACETS, AnyRow, Condition, Conditions, same_issuer
from index.lock import ReadWriteLock
from index.rows import Rows
from index.vectors import Ids

Mask = NDArray[np.bool_]
_REMEMBERED = 64  # tests per facet
_FOLLOWED = 100_000  # changes read at a time
_BLOCK = 65_536  # rows looked at before asking whether too many pass


class Vocabulary:
    """The distinct texts of a facet, and which of them pass a test."""

    def __init__(self) -> None:
        self._codes: dict[str, int] = {}
        self._passing: dict[Hashable, Mask] = {}
        self._lock = Lock()

    def code(self, text: str) -> int:
        """Return the code of a text, a new one if need be."""
        return self._codes.setdefault(text, len(self._codes))

    def known(self, text: str) -> int:
        """Return the code of a text; -1 if no vector has it."""
        return self._codes.get(text, -1)

    def passing(self, key: Hashable, test: Callable[[str], bool]) -> Mask:
        """Return by code which texts pass; `key` stands for the test."""
        with self._lock:
            found = self._passing.pop(key, np.empty(0, dtype=np.bool_))
            if len(found) < len(self._codes):
                new = list(self._codes)[len(found) :]
                found = np.concatenate([found, np.array([test(text) for text in new])])
            while len(self._passing) >= _REMEMBERED:
                del self._passing[next(iter(self._passing))]
            self._passing[key] = found
            return found


class Facets:
    """The facets of all vectors of one model; may be asked by many threads beside one follower."""

    def __init__(self, model_id: str) -> None:
        self._model_id = model_id
        self._lock = ReadWriteLock()
        self._following = Lock()
        self._empty()

    def _empty(self) -> None:
        self.bookmark: Bookmark | None = None  # None: nothing was read yet
        self._rows = Rows()
        self._free: list[int] = []
        self._end = 0
        self._newest = -1
        self._ids = np.empty(0, dtype=np.int64)  # of each row; -1 where none is
        self._study = np.empty(0, dtype=np.int64)
        self._shown = np.empty(0, dtype=np.bool_)
        self._columns = {name: np.empty(0, dtype=np.int32) for name in FACETS}
        self._vocabularies = {name: Vocabulary() for name in FACETS}

    def __len__(self) -> int:
        return self._end - len(self._free)

    def newest(self) -> int:
        """Return the highest id; -1 where there is none."""
        return self._newest

    def follow(self, catalogue: Catalogue, *, limit: int | None = None) -> Bookmark:
        """Come level with the catalogue, or nearer by so many changes; return how far it is now."""
        with self._following:
            bookmark, more = self.bookmark, True
            if bookmark is None:
                bookmark = catalogue.bookmark()
                self._read_all(catalogue, bookmark)
            while more:
                changed = catalogue.changes(bookmark, limit=limit or _FOLLOWED)
                if changed.ids is None:
                    self._read_all(catalogue, changed.bookmark)
                elif len(changed.ids):
                    self._read(catalogue, changed.ids)
                self.bookmark = bookmark = changed.bookmark
                more = changed.more and limit is None
            return bookmark

    def filtered(self, ids: Ids, wanted: Conditions) -> Mask:
        """Tell which of these ids pass."""
        with self._lock.reading():
            rows = self._rows.of(ids)
            passed = rows >= 0
            passed[passed] = self._pass(rows[passed], wanted)
            return passed

    def allowed(self, wanted: Conditions) -> Ids:
        """Return all ids that pass."""
        with self._lock.reading():
            ids: Ids = self._ids[np.concatenate(list(self._passing(wanted)))]
            return ids

    def few_allowed(self, wanted: Conditions, most: int) -> Ids | None:
        """Return all ids that pass; None if there are more, which need not all be looked at."""
        found, count = [], 0
        with self._lock.reading():
            for rows in self._passing(wanted):
                found.append(rows)
                count += len(rows)
                if count > most:
                    return None
            return self._ids[np.concatenate(found)]

    def studies(self, ids: Ids) -> Ids:
        """Return which study each id is of, as a number without other meaning; -1 if unknown."""
        with self._lock.reading():
            rows = self._rows.of(ids)
            return np.where(rows >= 0, self._study[rows], -1) if self._end else rows

    # --- under the lock ---------------------------------------------------------------------

    def _passing(self, wanted: Conditions) -> Iterator[Ids]:
        """Yield the rows that pass, block by block; at least once."""
        for start in range(0, max(self._end, 1), _BLOCK):
            block = slice(start, min(start + _BLOCK, self._end))
            rows = np.flatnonzero(self._shown[block] & self._widest(wanted, block)) + start
            yield rows[self._pass(rows, wanted)]

    def _pass(self, rows: Ids, wanted: Conditions) -> Mask:
        passed: Mask = self._shown[rows]
        for condition in wanted.all_of:
            passed &= self._meets(rows, condition)
        if wanted.studies is not None:
            passed &= self._of_studies(rows, wanted.studies)
        if wanted.other_than_study is not None:
            passed &= self._study[rows] != study_number(wanted.other_than_study)
        if wanted.other_than is not None:
            patient = wanted.other_than
            code = self._vocabularies["patient_id"].known(patient.patient_id)
            same = self._columns["patient_id"][rows] == code
            issuer = patient.issuer_of_patient_id
            same[same] = self._vocabularies["issuer"].passing(
                issuer, lambda other: same_issuer(issuer, other)
            )[self._columns["issuer"][rows[same]]]
            passed &= ~same
        return passed

    def _widest(self, wanted: Conditions, block: slice) -> Mask | np.bool_:
        """Tell of all rows of a block whether they meet the first condition, in one pass."""
        if wanted.studies is not None:
            return self._of_studies(block, wanted.studies)
        if not wanted.all_of or len(wanted.all_of[0].facets) > 1:
            return np.True_
        first = wanted.all_of[0]
        passing = self._vocabularies[first.facets[0]].passing(first.key, first.test)
        column = self._columns[first.facets[0]][block]
        codes = np.flatnonzero(passing)
        return column == codes[0] if len(codes) == 1 else passing.take(column)

    def _of_studies(self, rows: Ids | slice, studies: Iterable[str]) -> Mask:
        numbers = np.array([study_number(uid) for uid in studies], dtype=np.int64)
        return np.isin(self._study[rows], numbers)

    def _meets(self, rows: Ids, condition: Condition) -> Mask:
        met = np.zeros(len(rows), dtype=np.bool_)
        for name in condition.facets:
            passing = self._vocabularies[name].passing(condition.key, condition.test)
            met |= passing[self._columns[name][rows]]
        return met

    def _read_all(self, catalogue: Catalogue, bookmark: Bookmark) -> None:
        members = catalogue.members(self._model_id)
        with self._lock.writing():
            self._empty()
            self._write(members.ids, members.series, members.rows)
            self.bookmark = bookmark

    def _read(self, catalogue: Catalogue, ids: Ids) -> None:
        members = catalogue.members(self._model_id, ids)
        with self._lock.writing():
            gone = np.setdiff1d(ids, members.ids)
            rows = self._rows.of(gone)
            rows = rows[rows >= 0]
            self._rows.put(gone, np.full(len(gone), -1))
            self._shown[rows], self._ids[rows] = False, -1
            self._free += rows.tolist()
            if self._newest in gone:
                self._newest = int(self._ids[: self._end].max(initial=-1))
            self._write(members.ids, members.series, members.rows)

    def _write(self, ids: Ids, series: Ids, by_series: Mapping[int, AnyRow]) -> None:
        rows = self._rows.of(ids)
        new = rows < 0
        rows[new] = self._places(int(new.sum()))
        self._rows.put(ids, rows)
        self._ids[rows] = ids
        self._newest = max(self._newest, int(ids.max(initial=-1)))
        keys, which = np.unique(series, return_inverse=True)
        told = [by_series[key] for key in keys.tolist()]
        self._study[rows] = np.array([study_number(r.study_instance_uid) for r in told], np.int64)[
            which
        ]
        self._shown[rows] = np.array([not row.guest for row in told], dtype=np.bool_)[which]
        for name, tell in FACETS.items():
            code = self._vocabularies[name].code
            self._columns[name][rows] = np.array([code(tell(row)) for row in told], np.int32)[which]

    def _places(self, count: int) -> Ids:
        """Return rows for so many new vectors."""
        reused = [self._free.pop() for _ in range(min(count, len(self._free)))]
        first, self._end = self._end, self._end + count - len(reused)
        if self._end > len(self._ids):
            more = max(self._end, 1024, 2 * len(self._ids)) - len(self._ids)
            self._ids = np.concatenate([self._ids, np.full(more, -1)])
            self._study = np.concatenate([self._study, np.full(more, -1)])
            self._shown = np.concatenate([self._shown, np.zeros(more, np.bool_)])
            for name, column in self._columns.items():
                self._columns[name] = np.concatenate([column, np.zeros(more, np.int32)])
        return np.concatenate([np.array(reused, np.int64), np.arange(first, self._end)])


def study_number(study_instance_uid: str) -> int:
    """Return a number that stands for a study: 64 bits of a digest of its UID."""
    digest = blake2b(study_instance_uid.encode(), digest_size=8).digest()
    return int.from_bytes(digest, "little", signed=True)
