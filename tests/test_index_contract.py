"""What every vector engine does alike; `engines.ENGINES` names them."""

from collections.abc import Iterator
from contextlib import nullcontext
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from catalogues import Clock, NewDatabase, open_catalogue
from engines import DIM, ENGINES, GRAPH, MODEL, Engine, Gallery, clustered, enter, exact, unit
from postgres import Server, closed_connections
from sqlalchemy import delete, insert

from index.catalogue import Catalogue
from index.errors import BadVector
from index.half import halved
from index.models import Clip, Embedding
from index.records import PatientKey, Query, Ranking
from index.search import Search
from index.vectors import Effort, ExactIndex, VectorIndex

COUNT = 4_000


@dataclass(frozen=True)
class World:
    gallery: Gallery
    index: VectorIndex
    search: Search
    oracle: ExactIndex
    by_comparing: Search


@pytest.fixture(scope="module", params=ENGINES.values(), ids=ENGINES.keys())
def chosen(request: pytest.FixtureRequest) -> tuple[Engine, str]:
    chosen: tuple[Engine, str] = request.param
    return chosen


@pytest.fixture(scope="module")
def engine(chosen: tuple[Engine, str]) -> Engine:
    return chosen[0]


@pytest.fixture(scope="module")
def new_database(
    chosen: tuple[Engine, str],
    request: pytest.FixtureRequest,
    tmp_path_factory: pytest.TempPathFactory,
) -> NewDatabase:
    """A source of databases of the kind that the engine is tested on."""
    if chosen[1] == "postgresql":
        server: Server = request.getfixturevalue("postgresql")
        return partial(server.database, template="migrated")
    return lambda: nullcontext(f"sqlite:///{tmp_path_factory.mktemp('sqlite') / 'similis.db'}")


@pytest.fixture(scope="module")
def world(
    engine: Engine, new_database: NewDatabase, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[World]:
    with new_database() as url, closed_connections():
        yield from filled_world(engine, open_catalogue(url, Clock()), tmp_path_factory)


def filled_world(
    engine: Engine, catalogue: Catalogue, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[World]:
    folder = tmp_path_factory.mktemp("world")
    gallery = clustered(COUNT)
    enter(catalogue, gallery)
    index, oracle = engine(folder, catalogue, MODEL), exact(folder, catalogue, MODEL)
    searches = (Search(catalogue, each, replace(GRAPH, exact_below=50)) for each in (index, oracle))
    yield World(gallery, index, next(searches), oracle, next(searches))
    index.close()
    catalogue.engine.dispose()


@pytest.fixture
def small(engine: Engine, tmp_path: Path, catalogue: Catalogue) -> VectorIndex:
    """An engine with 40 vectors."""
    enter(catalogue, clustered(40))
    return engine(tmp_path / "vectors", catalogue, MODEL)


def asked(gallery: Gallery, at: int, **filters: Any) -> Query:
    row, rng = gallery.shown[at], np.random.default_rng(at)
    vector = unit(gallery.vectors[at] + 0.03 * rng.standard_normal(DIM))
    patient = PatientKey(*row.patient)
    return Query(
        vectors=vector[None], exclude_patient=patient, exclude_study_uid=row.study, **filters
    )


def found(ranking: Ranking) -> dict[str, float]:
    return {case.study_instance_uid: case.score for case in ranking.cases}


# --- recall and scores ---------------------------------------------------------------------


def test_recall_at_ten_of_the_candidates(world: World) -> None:
    rng = np.random.default_rng(1)
    hits = 0
    for at in range(0, COUNT, 40):
        query = unit(world.gallery.vectors[at] + 0.05 * rng.standard_normal(DIM))
        least = world.oracle.candidates(query, 10).scores[9]
        hits += int((world.index.candidates(query, 10).scores[:10] >= least - 1e-6).sum())
    assert hits >= 0.98 * 1000


def test_scores_are_those_of_the_oracle(world: World) -> None:
    for query in world.gallery.vectors[:10]:
        answer = world.index.candidates(query, 20)
        assert np.allclose(answer.scores, world.oracle.among(query, answer.ids)[0], atol=1e-6)
        assert (np.diff(answer.scores) <= 1e-6).all()
    everything = world.oracle.ids()
    queries = world.gallery.vectors[:3]
    expected = world.oracle.among(queries, everything)
    assert np.allclose(world.index.among(queries, everything), expected, atol=1e-6)


def test_exact_effort_compares_everything(world: World) -> None:
    for query in world.gallery.vectors[:20]:
        answer = world.index.candidates(query, 10, effort=Effort.EXACT)
        assert answer.exact
        assert answer.ids.tolist() == world.oracle.candidates(query, 10).ids.tolist()


# --- scopes --------------------------------------------------------------------------------

SCOPES: dict[str, dict[str, Any]] = {
    "other patients": {},
    "modality": {"modality": "MR"},
    "part and dates": {"body_part": "HEAD", "date_from": "20240201", "date_to": "20240930"},
    "sex and age": {"patient_sex": "F", "age_from_years": 30, "age_to_years": 60},
    "infants": {"age_to_years": 1},
    "institution": {"institution": "südklinik"},
    "words": {"description": "thorax ct"},
    "words of a series": {"description": "MPR thorax"},
    "nothing": {"modality": "XX"},
    "many": {"k": 150},
    "all": {"k": 1000},
}


@pytest.mark.parametrize("scope", SCOPES.values(), ids=SCOPES.keys())
def test_a_scope_is_kept_and_filled(world: World, scope: dict[str, Any]) -> None:
    hits = wanted = 0
    for at in range(3, COUNT, 500):
        query = asked(world.gallery, at, **scope)
        ranking = world.search.similar(query)
        expected = found(world.by_comparing.similar(replace(query, effort=Effort.EXACT)))
        answer = found(ranking)
        assert ranking.complete
        assert len(answer) == len(ranking.cases) == len(expected)
        shared = answer.keys() & expected.keys()
        assert all(answer[uid] == pytest.approx(expected[uid], abs=1e-5) for uid in shared)
        hits, wanted = hits + len(shared), wanted + len(expected)
        allowed = studies_allowed(world.gallery, query)
        assert answer.keys() <= allowed
        assert len(answer) == min(query.k, len(allowed))
    assert hits >= 0.97 * wanted


def studies_allowed(gallery: Gallery, query: Query) -> set[str]:
    """Return the studies that pass, by what the words of the filters mean."""
    patient = query.exclude_patient
    allowed = set()
    for row in gallery.shown:
        texts = (row.study_description.lower(), row.series_description.lower())
        years = age_in_years(row)
        wrong = (
            row.guest
            or row.study == query.exclude_study_uid
            or (patient is not None and is_same(patient, row.patient))
            or query.modality not in (None, row.modality)
            or query.body_part not in (None, row.body_part)
            or query.patient_sex not in (None, row.sex)
            or (query.institution or row.institution).lower() != row.institution.lower()
            or (query.date_from is not None and row.date < query.date_from)
            or (query.date_to is not None and not "" < row.date <= query.date_to)
            or (
                query.age_from_years is not None and (years is None or years < query.age_from_years)
            )
            or (query.age_to_years is not None and (years is None or years > query.age_to_years))
            or any(
                word not in texts[0] and word not in texts[1]
                for word in (query.description or "").lower().split()
            )
        )
        if not wrong:
            allowed.add(row.study)
    return allowed


def is_same(patient: PatientKey, other: tuple[str, str]) -> bool:
    known = {patient.issuer_of_patient_id, other[1]} - {""}
    return patient.patient_id != "" and patient.patient_id == other[0] and len(known) < 2


def age_in_years(row: Any) -> int | None:
    if row.age in ("045Y", "006M"):
        return 45 if row.age == "045Y" else 0
    if row.birth_date != "19610517" or not row.date:  # the other one is no date: 1970 had no 29 Feb
        return None
    return int(row.date[:4]) - 1961 - (row.date[4:] < "0517")


def test_what_is_far_from_the_query_is_found_where_nothing_else_is_allowed(world: World) -> None:
    recalled = wanted = 0
    for row in range(0, 400, 20):
        query = asked(world.gallery, row, modality="CR", body_part="HEAD")
        query = replace(query, vectors=-query.vectors)
        expected = found(world.by_comparing.similar(replace(query, effort=Effort.EXACT)))
        answered = found(world.search.similar(query))
        assert len(answered) == len(expected) == query.k
        shared = {study: expected[study] for study in answered if study in expected}
        assert {study: answered[study] for study in shared} == pytest.approx(shared, abs=1e-5)
        recalled, wanted = recalled + len(shared), wanted + query.k
    assert recalled >= 0.97 * wanted


# --- edges ---------------------------------------------------------------------------------


def test_more_than_there_are_are_all_there_are(small: VectorIndex) -> None:
    for k in (40, 41, 10**6):
        assert sorted(small.candidates(clustered(40).vectors[0], k).ids.tolist()) == list(
            range(1, 41)
        )


def test_an_empty_index_answers(engine: Engine, tmp_path: Path, catalogue: Catalogue) -> None:
    index = engine(tmp_path / "vectors", catalogue, MODEL)
    assert (len(index), index.candidates(unit(np.ones(DIM)), 5).ids.tolist()) == (0, [])
    assert index.health() == ""
    ranking = Search(catalogue, index).similar(Query(vectors=unit(np.ones((1, DIM)))))
    assert (ranking.cases, ranking.complete) == ((), True)


# pgvector keeps ten identical vectors at most in a node: thousands of them get in each other's way,
# and cut some others off, which no effort brings back. Of seven graphs the worst found 93 %;
# two shards once found 84 %. README says that up to a fifth may be missed.
LEAST_FOUND = {"pgvector": 0.85, "two shards": 0.80}


def test_two_thousand_black_frames_hide_nothing(
    chosen: tuple[Engine, str], tmp_path: Path, catalogue: Catalogue
) -> None:
    engine = chosen[0]
    gallery = clustered(COUNT)
    black = np.random.default_rng(0).permutation(COUNT)[:2_000]
    gallery.vectors[black] = unit(np.ones(DIM))
    enter(catalogue, gallery)
    index = engine(tmp_path / "vectors", catalogue, MODEL)
    others = np.setdiff1d(np.arange(COUNT), black)[::10]
    hits = sum(int(index.candidates(gallery.vectors[at], 1).ids[0]) == at + 1 for at in others)
    least = next((LEAST_FOUND[n] for n in LEAST_FOUND if ENGINES[n] == chosen), 0.99)
    assert hits >= least * len(others)
    blacks = index.candidates(unit(np.ones(DIM)), 2_000).ids[:2_000]
    assert set(blacks.tolist()) == set((black + 1).tolist())


@pytest.mark.parametrize(
    "vector",
    [np.zeros(DIM), np.full(DIM, np.nan), np.full(DIM, np.inf), np.ones(DIM), np.eye(DIM - 1)[0]],
    ids=["zero", "nan", "infinite", "long", "short"],
)
def test_an_unfit_vector_is_refused(small: VectorIndex, vector: np.ndarray) -> None:
    with pytest.raises(BadVector):
        small.add(np.array([99]), vector[None])
    with pytest.raises(BadVector):
        small.candidates(vector, 1)
    with pytest.raises(BadVector):
        small.among(vector, np.array([1]))
    assert len(small) == 40


def test_two_models_lie_side_by_side(
    small: VectorIndex, engine: Engine, tmp_path: Path, catalogue: Catalogue
) -> None:
    other = unit(np.random.default_rng(9).standard_normal((1, DIM)))
    with catalogue.writing() as connection:
        row = {"id": 41, "clip_id": 1, "model_id": "another", "revision": 1, "decoder": ""}
        connection.execute(insert(Embedding), [row | {"vector": other.astype("<f4").tobytes()}])
    second = engine(tmp_path / "vectors", catalogue, "another")
    small.catch_up(catalogue)
    assert (second.ids().tolist(), len(small)) == ([41], 40)
    found = Search(catalogue, second).similar(Query(vectors=other))
    assert [(case.study_instance_uid, found.model_id) for case in found.cases] == [
        ("1.9.0", "another")
    ]


# --- what goes -----------------------------------------------------------------------------


def test_what_the_catalogue_dropped_is_not_found(
    small: VectorIndex, engine: Engine, tmp_path: Path, catalogue: Catalogue
) -> None:
    with catalogue.writing() as connection:
        connection.execute(delete(Clip).where(Clip.id <= 10))
    assert small.catch_up(catalogue).added == 0
    assert small.ids().tolist() == list(range(11, 41))
    assert not small.verify(catalogue)
    small.save()
    small.close()
    again = engine(tmp_path / "vectors", catalogue, MODEL)
    assert again.ids().tolist() == list(range(11, 41))


def test_a_purged_vector_is_in_no_file(
    small: VectorIndex, tmp_path: Path, catalogue: Catalogue
) -> None:
    small.save()
    vector = halved(clustered(40).vectors[4])
    with catalogue.writing() as connection:
        connection.execute(delete(Clip).where(Clip.id == 5))
    small.purge(np.array([5]))
    files = [path.read_bytes() for path in (tmp_path / "vectors").glob("*")]
    for kept in (vector.tobytes(), vector.astype("<f4").tobytes()):
        assert not any(kept in file for file in files)
    assert 5 not in small
    assert not small.verify(catalogue)


def test_what_differs_is_named_and_rebuilt(small: VectorIndex, catalogue: Catalogue) -> None:
    other = unit(np.random.default_rng(9).standard_normal((2, DIM)))
    small.remove(np.array([3, 7]))
    small.add(np.array([7, 77]), other)
    found = small.verify(catalogue)
    assert (found.missing.tolist(), found.stale.tolist()) == ([3], [7])
    assert (77 in small) == (found.extra.tolist() == [77])  # a table takes what is catalogued only
    small.rebuild(catalogue)
    assert not small.verify(catalogue)
    assert small.health() == ""
    nearest = small.candidates(clustered(40).vectors[6], 1).ids[0]
    assert nearest == 7
