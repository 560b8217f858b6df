"""An index that follows: beside queries, in another process, and after a crash."""

from pathlib import Path
from threading import Thread

import numpy as np
import pytest
from catalogues import statements
from graphs import CONFIG, COUNT, DIM, MODEL, assert_answers_like_the_oracle, fill, filled, reopen

from index.catalogue import Catalogue
from index.errors import DatabaseUnavailable
from index.hnsw import HnswIndex
from index.vectors import Effort, Ids, Vectors


@pytest.fixture
def catalogue(tmp_path: Path) -> Catalogue:
    return filled(tmp_path)


def test_queries_are_answered_while_the_graph_is_built(
    catalogue: Catalogue, tmp_path: Path
) -> None:
    index = reopen(catalogue, tmp_path / "vectors")
    with index._inserting:  # as whoever builds holds it
        index._graph = None
        assert_answers_like_the_oracle(index, catalogue)
        assert "compared" in index.health()
        fill(catalogue, 20, series=2)
        index._follow(catalogue)
        assert_answers_like_the_oracle(index, catalogue)
    index.catch_up(catalogue)
    assert (index.health(), index.stats().nodes) == ("", COUNT + 20)


def test_a_graph_is_built_in_the_background(catalogue: Catalogue, tmp_path: Path) -> None:
    index = HnswIndex.open(
        tmp_path / "vectors", catalogue, model_id=MODEL, dim=DIM, config=CONFIG, background=True
    )
    assert_answers_like_the_oracle(index, catalogue)
    assert index._builder is not None
    index._builder.join(60)
    assert index.stats().nodes == COUNT
    index.close()


def test_a_reader_follows_the_writer_by_what_changed(catalogue: Catalogue, tmp_path: Path) -> None:
    writer = reopen(catalogue, tmp_path / "vectors")
    writer.save()
    reader = reopen(catalogue, tmp_path / "vectors", read_only=True)
    fill(catalogue, 20, series=2)
    with statements(catalogue) as run:
        caught_up = reader.catch_up(catalogue)
    assert (caught_up.added, caught_up.removed) == (20, 0)
    assert len(run) < 8
    assert_answers_like_the_oracle(reader, catalogue)


def test_what_was_added_for_a_study_that_is_gone_goes_too(
    catalogue: Catalogue, tmp_path: Path
) -> None:
    """The vectors come to the index after the rows, which may be gone by then."""
    index = reopen(catalogue, tmp_path / "vectors")
    vector = np.eye(1, DIM, dtype=np.float32)
    index.add(np.array([9_999]), vector)
    assert index.candidates(vector, 1).ids[0] == 9_999
    assert index.catch_up(catalogue).removed == 1
    assert_answers_like_the_oracle(index, catalogue)


def test_a_vector_is_added_while_another_thread_builds(
    catalogue: Catalogue, tmp_path: Path
) -> None:
    index = reopen(catalogue, tmp_path / "vectors")
    vector = np.eye(1, DIM, dtype=np.float32)
    adds = Thread(target=index.add, args=(np.array([9_999]), vector), daemon=True)
    with index._inserting:  # as whoever builds holds it
        adds.start()
        adds.join(10)
        assert not adds.is_alive()
        assert index.candidates(vector, 1).ids[0] == 9_999
    index._insert_waiting()
    assert (index.stats().nodes, index.stats().waiting) == (COUNT + 1, 0)


def test_an_addition_is_checked_though_the_index_follows_meanwhile(
    catalogue: Catalogue, tmp_path: Path
) -> None:
    index = reopen(catalogue, tmp_path / "vectors")

    class Overtaken(list[Ids]):
        def append(self, ids: Ids) -> None:
            index.catch_up(catalogue)
            super().append(ids)

    index._unchecked = Overtaken()
    index.add(np.array([9_999]), np.eye(1, DIM, dtype=np.float32))
    assert index.catch_up(catalogue).removed == 1


def test_an_addition_is_checked_once_the_catalogue_answers_again(
    catalogue: Catalogue, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    index = reopen(catalogue, tmp_path / "vectors")
    index.add(np.array([9_999]), np.eye(1, DIM, dtype=np.float32))

    def fails(*_: object) -> None:
        raise DatabaseUnavailable("sqlite:///similis.db", "test")

    with monkeypatch.context() as patch, pytest.raises(DatabaseUnavailable):
        patch.setattr(catalogue, "surviving", fails)
        index.catch_up(catalogue)
    assert index.catch_up(catalogue).removed == 1


def test_the_effort_is_measured_and_kept(catalogue: Catalogue, tmp_path: Path) -> None:
    first = reopen(catalogue, tmp_path / "vectors")
    assert 0 < first._efforts[Effort.FAST] <= first._efforts[Effort.NORMAL]
    assert first._measured == COUNT
    first.save()
    second = reopen(catalogue, tmp_path / "vectors")
    assert (second._efforts, second._measured) == (first._efforts, COUNT)


class Interrupted(HnswIndex):
    """An index that is asked to stop at the first comparison, as by a node that goes down."""

    comparisons = 0

    def among(self, vectors: Vectors, ids: Ids) -> Vectors:
        self.comparisons += 1
        self.interrupt()
        return super().among(vectors, ids)


def test_neither_measuring_nor_compacting_holds_up_a_stop(
    catalogue: Catalogue, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("index.calibration._ROWS", 10)
    index = Interrupted.open(
        tmp_path / "vectors", catalogue, model_id=MODEL, dim=DIM, config=CONFIG
    )
    assert index.comparisons == 1, "of the forty that all rows would take"
    assert index._measured == 0

    index.remove(index.ids()[: COUNT * 3 // 4])
    graph = index._graph
    index.compact()
    assert index._graph is graph, "it is built anew at the next start"
    assert_answers_like_the_oracle(index, remaining(catalogue, index))


def remaining(catalogue: Catalogue, index: HnswIndex) -> Catalogue:
    """Delete from the catalogue what the index no longer has."""
    gone = np.setdiff1d(catalogue.embedding_ids(MODEL), index.ids())
    statement = f"DELETE FROM embedding WHERE id IN ({','.join(map(str, gone.tolist()))})"
    with catalogue.writing() as connection:
        connection.exec_driver_sql(statement)
    return catalogue
