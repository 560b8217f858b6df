"""pgvector as the engine: what goes beyond the contract of all engines."""

import json
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from catalogues import Clock, open_catalogue
from postgres import Server, closed_connections
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError
from test_index_vectors import DIM, ids, unit

from index.catalogue import Catalogue
from index.config import IndexConfig
from index.errors import ExtensionMissing
from index.generation import Made
from index.pgvector import PgVectorIndex
from index.pgvector_table import Efforts, GraphTable
from index.vectors import Effort, ExactIndex, Ids, Vectors

MODEL = "0123456789abcdef"
OTHER = "fedcba9876543210"
CONFIG = IndexConfig()


def catalogue_vectors(catalogue: Catalogue, keys: Ids, vectors: Vectors) -> None:
    """Make rows that hold these vectors, all of one clip: nothing else matters here."""
    rows = [
        {"id": int(key), "vector": row.tobytes()}
        for key, row in zip(keys, np.atleast_2d(vectors).astype("<f4"), strict=False)
    ]
    with catalogue.writing() as connection:
        connection.execute(text("SET LOCAL session_replication_role = replica"))  # no clips
        connection.execute(
            text(
                "INSERT INTO embedding (id, clip_id, model_id, revision, decoder, vector)"
                " VALUES (:id, :id, '" + MODEL + "', 1, '', :vector) ON CONFLICT DO NOTHING"
            ),
            rows,
        )


@pytest.fixture
def catalogue(postgresql: Server, clock: Clock) -> Iterator[Catalogue]:
    with postgresql.database("migrated") as url, closed_connections():
        yield open_catalogue(url, clock)


def reopen(catalogue: Catalogue, **options: Any) -> PgVectorIndex:
    values: dict[str, Any] = {"model_id": MODEL, "dim": DIM, "config": CONFIG} | options
    return PgVectorIndex.open(catalogue, **values)


@pytest.fixture
def filled(catalogue: Catalogue) -> PgVectorIndex:
    """An index of 5,000 vectors, beyond what is compared one by one."""
    catalogue_vectors(catalogue, np.arange(5_000), unit(5_000))
    return reopen(catalogue)


def test_the_graph_finds_what_the_oracle_finds(filled: PgVectorIndex) -> None:
    oracle = ExactIndex(model_id=MODEL, dim=DIM)
    oracle.add(np.arange(5_000), unit(5_000))
    near = unit(5_000)[::50] + 0.3 * unit(100, seed=1)
    hits, queries = 0, near / np.linalg.norm(near, axis=1, keepdims=True)
    for query in queries:
        found, expected = filled.candidates(query, 10), oracle.candidates(query, 10)
        assert not found.exact
        assert (np.diff(found.scores) <= 0).all()
        hits += len(np.intersect1d(found.ids, expected.ids))
        exact = filled.candidates(query, 10, effort=Effort.EXACT)
        assert exact.exact
        assert exact.ids.tolist() == expected.ids.tolist()
        assert np.allclose(exact.scores, expected.scores, atol=1e-6)
    assert hits >= 0.98 * 10 * len(queries)


def test_a_query_is_answered_by_the_graph(filled: PgVectorIndex, catalogue: Catalogue) -> None:
    with catalogue.reading() as connection:
        zeros = "[" + ",".join(["0.25"] * DIM) + "]"
        plan = connection.exec_driver_sql(
            f"EXPLAIN SELECT id, vector FROM vector_{MODEL}"
            f" ORDER BY vector <#> '{zeros}'::halfvec({DIM}) LIMIT 40"
        )
        assert any(f"vector_{MODEL}_hnsw" in line for (line,) in plan)


def test_efforts_are_measured_once_and_shared_by_all_nodes(
    filled: PgVectorIndex, catalogue: Catalogue
) -> None:
    with catalogue.reading() as connection:
        note = connection.execute(text(f"SELECT obj_description(to_regclass('vector_{MODEL}'))"))
        before = note.scalar_one()
    measured = json.loads(before)
    assert measured["vectors"] == 5_000
    assert measured["fast"] <= measured["normal"]
    other = reopen(catalogue)
    assert {effort.value: ef for effort, ef in other._ef.items()} | {"vectors": 5_000} == measured


def test_an_index_opened_by_another_node_holds_the_same(
    filled: PgVectorIndex, catalogue: Catalogue
) -> None:
    other = reopen(catalogue, read_only=True)
    assert other.ids().tolist() == list(range(5_000))
    query = unit(1, seed=3)[0]
    assert other.candidates(query, 10).ids.tolist() == filled.candidates(query, 10).ids.tolist()


def test_vectors_that_another_node_embedded_are_caught_up_with(
    filled: PgVectorIndex, catalogue: Catalogue
) -> None:
    catalogue_vectors(catalogue, np.arange(5_000, 5_010), unit(10, seed=5))
    assert filled.catch_up(catalogue).added == 10
    assert filled.candidates(unit(10, seed=5)[3], 1).ids.tolist() == [5_003]


def test_a_vector_leaves_with_its_embedding(filled: PgVectorIndex, catalogue: Catalogue) -> None:
    with catalogue.writing() as connection:
        connection.execute(text("DELETE FROM embedding WHERE id = 7"))
    assert 7 not in filled
    assert filled.candidates(unit(5_000)[7], 1).ids.tolist() != [7]
    assert len(filled) == 4_999


def test_a_vector_without_an_embedding_stays_out(filled: PgVectorIndex) -> None:
    filled.add(ids(9_000), unit(1))
    assert 9_000 not in filled


def test_verify_names_what_differs_and_rebuild_mends_it(
    filled: PgVectorIndex, catalogue: Catalogue
) -> None:
    assert not filled.verify(catalogue)
    filled.remove(ids(3))
    with catalogue.writing() as connection:
        table = f"vector_{MODEL}"
        change = f"UPDATE {table} SET vector = (SELECT vector FROM {table} WHERE id = 5)"
        connection.execute(text(f"{change} WHERE id = 4"))
    found = filled.verify(catalogue)
    assert (found.missing.tolist(), found.extra.tolist(), found.stale.tolist()) == ([3], [], [4])
    filled.rebuild(catalogue)
    assert not filled.verify(catalogue)
    assert filled.candidates(unit(5_000)[4], 1).ids.tolist() == [4]


def test_a_graph_that_was_not_finished_is_built_again(
    filled: PgVectorIndex, catalogue: Catalogue
) -> None:
    with catalogue.writing() as connection:
        unfinished = f"'vector_{MODEL}_hnsw'::regclass"
        mark = "UPDATE pg_index SET indisvalid = false WHERE indexrelid = "
        connection.execute(text(mark + unfinished.replace(":", r"\:")))
    assert "built" in filled.health()
    assert filled.candidates(unit(5_000)[4], 1).ids.tolist() == [4]
    filled.catch_up(catalogue)
    assert filled.health() == ""


def test_a_failed_build_lets_another_node_build(
    filled: PgVectorIndex, catalogue: Catalogue
) -> None:
    table = GraphTable(catalogue, MODEL, DIM, CONFIG)
    with pytest.raises(DBAPIError), table._alone() as connection:
        assert connection is not None
        connection.execute(text("SELECT 1 / 0"))
    with catalogue.reading() as connection:
        held = text("SELECT count(*) FROM pg_locks WHERE locktype = 'advisory'")
        assert connection.execute(held).scalar_one() == 0


def test_a_table_of_another_length_is_made_anew(
    filled: PgVectorIndex, catalogue: Catalogue
) -> None:
    with catalogue.writing() as connection:
        connection.execute(text("DELETE FROM embedding"))
    assert len(reopen(catalogue, dim=DIM + 1)) == 0


def test_a_server_without_the_extension_is_told_with_advice(
    catalogue: Catalogue, monkeypatch: pytest.MonkeyPatch
) -> None:
    missing = text("CREATE EXTENSION no_such_extension")
    monkeypatch.setattr("index.pgvector_table._EXTENSION", missing)
    with pytest.raises(ExtensionMissing, match="hnswlib"):
        reopen(catalogue)


def test_purged_vectors_are_gone_from_the_pages_of_the_graph(
    filled: PgVectorIndex, catalogue: Catalogue, postgresql: Server
) -> None:
    secret = unit(5_000)[7].astype(">f2").tobytes(), unit(5_000)[7].astype("<f2").tobytes()
    with catalogue.reading() as connection:
        wanted = (
            "SELECT pg_relation_filepath('vector_{0}'), pg_relation_filepath('vector_{0}_hnsw')"
        )
        files = [
            postgresql.data / path for path in connection.execute(text(wanted.format(MODEL))).one()
        ]
    postgresql.execute("CHECKPOINT")
    assert all(any(each in file.read_bytes() for each in secret) for file in files)
    filled.purge(ids(7))
    postgresql.execute("CHECKPOINT")
    assert not any(each in file.read_bytes() for each in secret for file in files)


def test_a_second_process_takes_the_effort_that_the_node_measured(
    catalogue: Catalogue, filled: PgVectorIndex
) -> None:
    filled._table.keep_efforts(Efforts(5_000, {Effort.FAST: 61, Effort.NORMAL: 213}))

    reader = reopen(catalogue, read_only=True)

    assert dict(reader._ef) == {Effort.FAST: 61, Effort.NORMAL: 213}


def test_the_table_of_a_generation_goes_with_its_row(
    catalogue: Catalogue, filled: PgVectorIndex
) -> None:
    made = [Made(model_id=id, name=id, version=id, trained=True, dim=DIM) for id in (MODEL, OTHER)]
    catalogue.adopt_generation(made[1])
    catalogue.begin_generation(made[0])
    reopen(catalogue, model_id=OTHER)

    assert catalogue.drop_generations() == (MODEL,)
    while catalogue.delete_dropped():
        pass

    assert tables(catalogue) == {f"vector_{OTHER}"}


def tables(catalogue: Catalogue) -> set[str]:
    named = text("SELECT relname FROM pg_class WHERE relkind = 'r' AND relname LIKE 'vector%'")
    with catalogue.reading() as connection:
        return set(connection.execute(named).scalars())
