"""The second look: MaxSim as a loop would count it, and the two parts that are most alike."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from catalogues import MODEL, Clock, open_catalogue
from hypothesis import given
from hypothesis import strategies as st
from test_index_parts import unit_rows
from test_index_search import Row, enter

from index.catalogue import Catalogue
from index.errors import BadQuery
from index.parts import ClipParts, PartPlace, quantised, restored
from index.records import Case, ClipRecord, PatientKey, Query
from index.rerank import DEPTH, max_sim
from index.search import Search
from index.vectors import ExactIndex

DIM, PART_DIM = 8, 16


@given(
    seed=st.integers(0, 9999),
    query=st.integers(1, 32),
    sizes=st.lists(st.integers(1, 32), min_size=1, max_size=12),
)
def test_max_sim_is_what_a_loop_over_all_pairs_gives(
    seed: int, query: int, sizes: list[int]
) -> None:
    asked = unit_rows(seed, query, PART_DIM)
    cases = [quantised(unit_rows(seed + n + 1, size, PART_DIM)) for n, size in enumerate(sizes)]
    found = max_sim(asked, cases)
    for number, steps in enumerate(cases):
        pairs = [[float(one @ other) for other in restored(steps)] for one in asked]
        expected = sum(max(row) for row in pairs) / len(pairs)
        assert found.scores[number] == pytest.approx(expected, abs=1e-5)
        best = pairs[found.query_parts[number]][found.case_parts[number]]
        assert best == pytest.approx(max(map(max, pairs)), abs=1e-5)


@pytest.fixture
def catalogue(tmp_path: Path) -> Catalogue:
    return open_catalogue(f"sqlite:///{tmp_path / 'similis.db'}", Clock())


class Archive:
    """Studies with one clip each, whose likeness to the query is set, of clips and of parts."""

    def __init__(self, catalogue: Catalogue) -> None:
        self.catalogue = catalogue
        self.index = ExactIndex(model_id=MODEL, dim=DIM)

    def add(self, number: int, cosine: float, parts: np.ndarray | None) -> None:
        vector = np.zeros(DIM, np.float32)
        vector[:2] = cosine, np.sqrt(1 - cosine**2)
        study = f"1.2.{number}"
        row = Row(vector, study, f"{study}.1", PatientKey(f"P{number}"), "CT", "CHEST", "")
        enter(self.catalogue, row, vector[None])
        places = tuple(PartPlace(f"{study}.1.1.0", n + 1, (n, n, 4, 4)) for n in range(9))
        kept = None if parts is None else ClipParts(parts, places[: len(parts)])
        sources = tuple(f"{study}.1.{n}.0" for n in range(3))
        record = ClipRecord("volume", 3, sources, vector, parts=kept)
        with self.catalogue.reading() as connection:
            series = connection.exec_driver_sql(
                f"SELECT id FROM series WHERE series_instance_uid = '{study}.1'"
            ).scalar_one()
        ids = self.catalogue.save_clips(series, 1, MODEL, [record])
        self.index.add(np.array(ids), vector[None])

    def similar(self, **changes: object) -> tuple[Case, ...]:
        own = tuple(PartPlace("1.9.1", n + 1, (0, 0, 9, 9)) for n in range(2))
        parts = ClipParts(np.eye(2, PART_DIM, dtype=np.float32), own)
        query = Query(vectors=np.eye(1, DIM, dtype=np.float32), parts=(parts,))
        return Search(self.catalogue, self.index).similar(replace(query, **changes)).cases


def toward(*cosines: float) -> np.ndarray:
    """Parts with these cosines to the first part of the query, and none to the second."""
    rows = np.zeros((len(cosines), PART_DIM), np.float32)
    rows[:, 0], rows[:, 5] = cosines, np.sqrt(1 - np.square(cosines))
    return rows


@pytest.fixture
def archive(catalogue: Catalogue) -> Archive:
    archive = Archive(catalogue)
    archive.add(1, 0.9, toward(0.1, 0.2))
    archive.add(2, 0.8, None)
    archive.add(3, 0.7, toward(0.0, 0.5, 1.0))
    return archive


def test_without_weight_parts_point_but_do_not_rank(archive: Archive) -> None:
    cases = archive.similar()
    assert [case.score for case in cases] == pytest.approx([0.9, 0.8, 0.7], abs=1e-3)
    assert [case.rank for case in cases] == [1, 2, 3]
    assert [case.case_part and case.case_part.frame for case in cases] == [2, None, 3]
    assert [case.query_part and case.query_part.frame for case in cases] == [1, None, 1]
    assert cases[2].case_part == PartPlace("1.2.3.1.1.0", 3, (2, 2, 4, 4))
    assert [case.sop_instance_uid for case in cases] == [f"1.2.{n}.1.1.0" for n in (1, 2, 3)]


def test_by_their_weight_parts_move_cases_and_scores(archive: Archive) -> None:
    # MaxSim: the second part of the query is like none of any case.
    cases = archive.similar(part_weight=1.0)
    assert [case.study_instance_uid for case in cases] == ["1.2.2", "1.2.3", "1.2.1"]
    assert [case.score for case in cases] == pytest.approx([0.8, 0.5, 0.1], abs=0.01)
    mixed = archive.similar(part_weight=0.5, k=2)
    assert [case.score for case in mixed] == pytest.approx([0.8, 0.6], abs=0.01)
    assert [case.rank for case in mixed] == [1, 2]


def test_cases_below_the_minimum_are_left_out_by_either_score(archive: Archive) -> None:
    found = archive.similar(part_weight=1.0, min_score=0.45)
    assert [case.study_instance_uid for case in found] == ["1.2.2", "1.2.3"]
    found = archive.similar(part_weight=1.0, min_score=0.75)
    assert [case.study_instance_uid for case in found] == ["1.2.2"]


def test_a_query_without_parts_is_ranked_by_its_clips(archive: Archive) -> None:
    assert [case.case_part for case in archive.similar(parts=())] == [None] * 3
    assert [case.case_part for case in archive.similar(parts=(None,))] == [None] * 3


def test_parts_of_another_length_are_not_compared(archive: Archive) -> None:
    other = ClipParts(np.eye(1, PART_DIM + 1, dtype=np.float32), (None,))
    cases = archive.similar(parts=(other,), part_weight=1.0)
    assert [case.score for case in cases] == pytest.approx([0.9, 0.8, 0.7], abs=1e-3)


def test_parts_are_one_for_each_vector(archive: Archive) -> None:
    with pytest.raises(BadQuery, match="one for each"):
        archive.similar(parts=(None, None))


def test_the_first_hundred_are_looked_at_however_few_are_asked_for(catalogue: Catalogue) -> None:
    archive = Archive(catalogue)
    for number in range(DEPTH):
        archive.add(number + 1, 0.9 - number / 1000, toward(0.5))
    archive.add(DEPTH + 1, 0.6, toward(1.0))
    assert archive.similar(part_weight=0.9, k=1)[0].score == pytest.approx(
        0.1 * 0.9 + 0.9 * 0.25, abs=0.01
    ), "the last one lies behind the hundred"
    (nearer,) = archive.similar(part_weight=0.9, k=1, exclude_study_uid="1.2.50")
    assert nearer.study_instance_uid == f"1.2.{DEPTH + 1}"
