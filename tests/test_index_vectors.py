import threading
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from index.config import IndexConfig
from index.errors import BadVector
from index.half import halved, widened
from index.hnsw import HnswIndex
from index.lock import ReadWriteLock
from index.twins import Twins
from index.vectors import ExactIndex, VectorIndex, unit_rows

DIM = 16
GRAPH_ONLY = IndexConfig(exact_below=0)


def unit(count: int, *, seed: int = 0) -> np.ndarray:
    rows = np.random.default_rng(seed).standard_normal((count, DIM)).astype(np.float32)
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    return widened(halved(rows))  # as they are kept: nearly of unit length


def ids(*values: int) -> np.ndarray:
    return np.array(values, dtype=np.int64)


def exact(_: Path) -> VectorIndex:
    return ExactIndex(model_id="m", dim=DIM)


def graph(folder: Path) -> VectorIndex:
    return HnswIndex(folder, model_id="m", dim=DIM, config=GRAPH_ONLY)


def small_graph(folder: Path) -> VectorIndex:
    return HnswIndex(folder, model_id="m", dim=DIM, config=IndexConfig())


# Every engine passes the same tests.
@pytest.fixture(params=[exact, graph, small_graph])
def index(request: pytest.FixtureRequest, tmp_path: Path) -> VectorIndex:
    make: Callable[[Path], VectorIndex] = request.param
    return make(tmp_path)


def test_a_vector_finds_itself_first(index: VectorIndex) -> None:
    rows = unit(200)
    index.add(np.arange(200) * 3 + 1, rows)
    for at in (0, 77, 199):
        found = index.candidates(rows[at], 5)
        assert found.ids[0] == at * 3 + 1
        assert found.scores[0] == pytest.approx(1.0, abs=1e-3)
        assert (np.diff(found.scores) <= 0).all()


def test_asking_for_more_than_there_is_returns_all(index: VectorIndex) -> None:
    assert index.candidates(unit(1)[0], 10).ids.tolist() == []
    index.add(ids(5, 6, 7), unit(3))
    assert sorted(index.candidates(unit(1)[0], 10).ids.tolist()) == [5, 6, 7]
    index.remove(ids(6))
    assert sorted(index.candidates(unit(1)[0], 10).ids.tolist()) == [5, 7]


def test_scores_among_ids_are_exact_and_unknown_ids_score_nothing(index: VectorIndex) -> None:
    rows, queries = unit(50), unit(3, seed=1)
    index.add(np.arange(50), rows)
    scores = index.among(queries, ids(4, 999, 2))
    assert scores.shape == (3, 3)
    assert np.allclose(scores[:, [0, 2]], queries @ rows[[4, 2]].T, atol=1e-6)
    assert (scores[:, 1] == -np.inf).all()
    assert index.among(queries, ids()).shape == (3, 0)


def test_adding_an_id_again_leaves_it_as_it_is(index: VectorIndex) -> None:
    rows = unit(2)
    index.add(ids(1), rows[:1])
    index.add(ids(1), rows[1:])
    assert len(index) == 1
    assert index.among(rows[:1], ids(1))[0, 0] == pytest.approx(1.0, abs=1e-3)


def test_an_id_that_comes_back_has_its_new_vector(index: VectorIndex) -> None:
    rows = unit(60)
    index.add(np.arange(50), rows[:50])
    index.remove(ids(7))
    index.add(ids(7, 7), rows[[55, 56]])
    assert index.candidates(rows[55], 1).ids[0] == 7
    assert index.candidates(rows[55], 1).scores[0] == pytest.approx(1.0, abs=1e-3)
    assert len(index) == 50


def test_removed_vectors_are_not_found(index: VectorIndex) -> None:
    rows = unit(100)
    index.add(np.arange(100), rows)
    index.remove(np.arange(0, 100, 2))
    index.remove(ids(4, 12345))
    assert index.ids().tolist() == list(range(1, 100, 2))
    assert 3 in index
    assert 4 not in index
    assert set(index.candidates(rows[0], 50).ids.tolist()) == set(range(1, 100, 2))


def test_identical_vectors_are_all_found(index: VectorIndex) -> None:
    rows = unit(300)
    black = np.repeat(unit(1, seed=9), 200, axis=0)
    index.add(np.arange(300), rows)
    index.add(np.arange(1000, 1200), black)
    assert set(index.candidates(black[0], 200).ids[:200].tolist()) == set(range(1000, 1200))
    index.remove(np.arange(1000, 1199))
    assert index.candidates(black[0], 1).ids[0] == 1199
    hits = sum(int(index.candidates(row, 1).ids[0]) == at for at, row in enumerate(rows))
    assert hits >= 299


@pytest.mark.parametrize(
    "vector",
    [np.zeros(DIM), np.full(DIM, np.nan), np.full(DIM, 2.0), np.eye(DIM - 1)[0], np.eye(9)],
    ids=["zero", "nan", "long", "short", "matrix"],
)
def test_an_unfit_vector_is_refused_at_every_door(index: VectorIndex, vector: np.ndarray) -> None:
    index.add(ids(1), unit(1))
    with pytest.raises(BadVector):
        index.add(np.arange(len(np.atleast_2d(vector))) + 2, vector)
    with pytest.raises(BadVector):
        index.candidates(vector, 1)
    with pytest.raises(BadVector):
        index.among(vector, ids(1))
    assert index.ids().tolist() == [1]


def test_a_closed_index_is_empty(index: VectorIndex) -> None:
    index.add(np.arange(10), unit(10))
    index.close()
    assert len(index) == 0


steps = st.lists(
    st.tuples(st.sampled_from(["add", "remove"]), st.lists(st.integers(0, 30), max_size=8))
)


@settings(max_examples=60)
@given(steps)
def test_the_graph_holds_what_the_oracle_holds(script: list[tuple[str, list[int]]]) -> None:
    pool = np.concatenate([unit(20), unit(11)])  # ids 20.. repeat the vectors of ids 0..
    oracle = ExactIndex(model_id="m", dim=DIM)
    tested = HnswIndex(Path("unused"), model_id="m", dim=DIM, config=GRAPH_ONLY)
    fresh = 0  # ids are never given twice
    for action, numbers in script:
        if action == "add" and numbers:
            new = np.arange(fresh, fresh + len(numbers))
            fresh += len(numbers)
            for each in (oracle, tested):
                each.add(new, pool[numbers])
        elif action == "remove":
            for each in (oracle, tested):
                each.remove(np.array(numbers, dtype=np.int64))
    assert tested.ids().tolist() == oracle.ids().tolist()
    found = tested.candidates(pool[0], 100)
    expected = oracle.candidates(pool[0], 100)
    assert sorted(found.ids.tolist()) == sorted(expected.ids.tolist())
    assert np.allclose(np.sort(found.scores), np.sort(expected.scores), atol=1e-6)


def test_a_graph_grows_past_its_capacity(tmp_path: Path) -> None:
    index = graph(tmp_path)
    rows = unit(3000)
    for start in range(0, 3000, 700):
        part = np.arange(start, min(start + 700, 3000))
        index.add(part, rows[part])
    assert index.stats().nodes == 3000
    found = [int(index.candidates(row, 1).ids[0]) for row in rows[::50]]
    assert found == list(range(0, 3000, 50))


def test_queries_run_beside_changes_without_error(tmp_path: Path) -> None:
    index = graph(tmp_path)
    rows = unit(2000)
    index.add(np.arange(500), rows[:500])
    stop = threading.Event()
    wrong: list[int] = []

    def ask() -> None:
        while not stop.is_set():
            for at in range(1, 500, 50):
                if int(index.candidates(rows[at], 3).ids[0]) != at:
                    wrong.append(at)

    readers = [threading.Thread(target=ask) for _ in range(2)]
    for reader in readers:
        reader.start()
    for start in range(500, 2000, 100):
        index.add(np.arange(start, start + 100), rows[start : start + 100])
        index.remove(np.arange(start, start + 100, 2))
    index.save()
    stop.set()
    for reader in readers:
        reader.join()
    assert wrong == []


def test_a_single_vector_and_a_batch_are_both_rows() -> None:
    assert unit_rows(unit(1)[0]).shape == (1, DIM)
    assert unit_rows(unit(4), DIM).dtype == np.float32


# --- parts ---------------------------------------------------------------------------------


def test_twins_share_a_label_until_the_last_is_gone() -> None:
    twins, row = Twins(), halved(unit(1))
    assert twins.admit(ids(1), row).tolist() == [1]
    assert twins.admit(ids(2), row).tolist() == []
    assert twins.followers().tolist() == [2]
    gone, heirs = twins.dismiss(ids(1), row)
    assert (gone.tolist(), heirs.tolist()) == ([1], [2])
    found, _ = twins.expand(ids(2), np.array([0.5], np.float32))
    assert found.tolist() == [2]
    gone, heirs = twins.dismiss(ids(2), row)
    assert (gone.tolist(), heirs.tolist()) == ([2], [])
    assert twins.admit(ids(3), row).tolist() == [3]


@settings(max_examples=50)
@given(st.lists(st.tuples(st.booleans(), st.sets(st.integers(0, 40), max_size=12))))
def test_every_id_has_one_label_whose_vector_is_its_own(
    script: list[tuple[bool, set[int]]],
) -> None:
    """Ids modulo 7 tell the vector; few are sorted in at a time, so that all is gone through."""
    pool, twins, present = halved(unit(7)), Twins(recent=3), set[int]()
    labels: set[int] = set()
    for come, chosen in script:
        keys = np.array(sorted(chosen - present if come else chosen & present), dtype=np.int64)
        if come:
            labels |= set(twins.admit(keys, pool[keys % 7]).tolist())
            present |= set(keys.tolist())
        else:
            gone, heirs = twins.dismiss(keys, pool[keys % 7])
            labels = labels - set(gone.tolist()) | set(heirs.tolist())
            present -= set(keys.tolist())
        groups = [twins.expand(ids(label), np.zeros(1, np.float32))[0] for label in sorted(labels)]
        assert sorted(key for group in groups for key in group) == sorted(present)
        assert all(len({key % 7 for key in group}) == 1 for group in groups)
        assert len(labels) == len({key % 7 for key in present})


def test_readers_share_the_lock_and_a_writer_waits_for_them_and_goes_first() -> None:
    lock, order = ReadWriteLock(), []
    inside, leave = threading.Barrier(3), threading.Event()

    def read_together() -> None:
        with lock.reading():
            inside.wait(5)  # both readers are in, or this breaks
            leave.wait(5)
            order.append("reader")

    def write() -> None:
        with lock.writing():
            order.append("writer")

    def read_late() -> None:
        with lock.reading():
            order.append("late reader")

    early = [threading.Thread(target=read_together) for _ in range(2)]
    for thread in early:
        thread.start()
    inside.wait(5)
    writer = threading.Thread(target=write)
    writer.start()
    while not lock._waiting_writers:
        time.sleep(0.001)
    late = threading.Thread(target=read_late)
    late.start()
    leave.set()
    for thread in (*early, writer, late):
        thread.join(5)
    assert order == ["reader", "reader", "writer", "late reader"]
