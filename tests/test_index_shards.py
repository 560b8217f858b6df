"""Vectors on two shards by patient: what goes beyond the contract of all engines."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from catalogues import Clock, open_catalogue
from engines import DIM, MODEL, clustered, enter, exact, sharded, unit
from postgres import Server, closed_connections
from sqlalchemy import delete, text

from index.catalogue import Catalogue
from index.half import halved
from index.models import Clip
from index.pgvector_rows import halfvec_text
from index.vectors import VectorIndex

COUNT = 20_000  # more than are added with the graph in place elsewhere


@pytest.fixture(scope="module")
def catalogue(postgresql: Server) -> Iterator[Catalogue]:
    with postgresql.database("migrated") as url, closed_connections():
        catalogue = open_catalogue(url, Clock())
        enter(catalogue, clustered(COUNT))
        yield catalogue


@pytest.fixture(scope="module")
def index(catalogue: Catalogue) -> VectorIndex:
    return sharded(Path(), catalogue, MODEL)


def test_recall_at_ten_is_that_of_one_database(index: VectorIndex, catalogue: Catalogue) -> None:
    oracle = exact(Path(), catalogue, MODEL)
    rng = np.random.default_rng(1)
    hits, at = 0, range(0, COUNT, 100)
    for vector in clustered(COUNT).vectors[at]:
        query = unit(vector + 0.05 * rng.standard_normal(DIM))
        found = index.candidates(query, 10)
        assert not found.exact
        hits += int((found.scores[:10] >= oracle.candidates(query, 10).scores[9] - 1e-6).sum())
    assert hits >= 0.98 * 10 * len(at), f"recall {hits / (10 * len(at)):.4f}"


def test_every_shard_looks_in_its_own_graph(index: VectorIndex, catalogue: Catalogue) -> None:
    query = halfvec_text(halved(clustered(1).vectors[0]))
    nearest = f"SELECT id FROM \"vector_{MODEL}\" ORDER BY vector <#> '{query}' LIMIT 10"
    with catalogue.reading() as connection:
        plan = connection.exec_driver_sql(f"EXPLAIN VERBOSE {nearest}").scalars().all()
    asked = [line for line in plan if "Remote SQL" in line]
    assert len(asked) == 2
    assert all("ORDER BY (vector OPERATOR(public.<#>)" in line for line in asked)


def test_a_patient_lies_on_one_shard(index: VectorIndex, catalogue: Catalogue) -> None:
    by_patient = text(
        f'SELECT patient_of_embedding(id), tableoid::regclass::text FROM "vector_{MODEL}"'
    )
    with catalogue.reading() as connection:
        rows = {tuple(row) for row in connection.execute(by_patient)}
    patients = [patient for patient, _ in rows]
    assert len(patients) == len(set(patients)) > 1_000
    shares = [sum(shard == one for _, shard in rows) for one in {shard for _, shard in rows}]
    assert len(shares) == 2
    assert min(shares) > 0.45 * len(rows)


def test_a_vector_leaves_its_shard_with_its_embedding(
    index: VectorIndex, catalogue: Catalogue
) -> None:
    with catalogue.writing() as connection:
        connection.execute(delete(Clip).where(Clip.id <= 16))
    assert len(index.ids()) == COUNT - 16
    assert not index.verify(catalogue)


def test_a_rebuild_leaves_the_graphs_of_the_shards(
    index: VectorIndex, catalogue: Catalogue
) -> None:
    index.rebuild(catalogue)
    assert index.health() == ""
    assert not index.verify(catalogue)
