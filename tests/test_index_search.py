from contextlib import closing
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from index.catalogue import Catalogue
from index.config import IndexConfig
from index.db import connect, migrate
from index.errors import BadQuery, BadVector
from index.half import halved, widened
from index.hnsw import HnswIndex
from index.records import Case, ClipRecord, Header, PatientKey, Query, QuietRule, StoredFile
from index.search import Search
from index.vectors import ExactIndex

DIM = 32
STUDIES = 1000  # with 1 to 3 series of 1 to 4 clips each: about 5,000 vectors
MODEL = "0123456789abcdef"
GRAPH = IndexConfig(exact_below=0)


@dataclass(frozen=True)
class Row:
    """A vector as the test knows it, without any database."""

    vector: np.ndarray
    study: str
    series: str
    patient: PatientKey
    modality: str
    body_part: str
    date: str


@dataclass(frozen=True)
class World:
    catalogue: Catalogue
    rows: list[Row]
    searches: dict[str, Search]
    index: HnswIndex


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    folder = tmp_path_factory.mktemp("world")
    engine = connect(f"sqlite:///{folder / 'similis.db'}")
    migrate(engine)
    with closing(engine.raw_connection()) as connection:  # the one pooled connection
        connection.cursor().execute("PRAGMA synchronous = OFF")
    catalogue = Catalogue(engine, lambda: datetime(2026, 1, 1, tzinfo=UTC))
    rows = populate(catalogue)
    index = HnswIndex.open(folder, catalogue, model_id=MODEL, dim=DIM, config=GRAPH)
    oracle = ExactIndex(model_id=MODEL, dim=DIM)
    oracle.add(*catalogue.vectors(catalogue.embedding_ids(MODEL).tolist()))
    searches = {
        "graph": Search(catalogue, index, GRAPH),
        "graph, few allowed": Search(catalogue, index, replace(GRAPH, exact_below=500)),
        "graph, scan only": Search(catalogue, index, replace(GRAPH, max_candidates=0)),
        "exact index": Search(catalogue, oracle),
    }
    return World(catalogue, rows, searches, index)


def populate(catalogue: Catalogue) -> list[Row]:
    """Fill the catalogue with patients whose own vectors lie close together."""
    rng = np.random.default_rng(0)
    parts = unit(rng.standard_normal((60, DIM)))
    rows: list[Row] = []
    for number in range(STUDIES):
        owner = number // 2 if number % 10 else -1  # every tenth has no patient id
        centre = unit(parts[max(owner, 0) % 60] + 0.12 * rng.standard_normal(DIM))
        study = f"1.2.{number}"
        patient = PatientKey("" if owner < 0 else f"P{owner % 300}", f"H{owner % 2}")
        date = "" if number % 7 == 0 else f"2024{1 + number % 12:02}{1 + number % 28:02}"
        for at in range(1 + number % 3):
            clips = unit(centre + 0.06 * rng.standard_normal((1 + number % 4, DIM)))
            new = Row(
                clips[0],
                study,
                f"{study}.{at}",
                patient,
                ("CT", "CR", "US")[at % 3],
                ("CHEST", "HEAD", "")[number % 3],
                date,
            )
            enter(catalogue, new, clips)
            rows += [replace(new, vector=clip) for clip in clips]
    return rows


def unit(vectors: np.ndarray) -> np.ndarray:
    rows = np.asarray(vectors, dtype=np.float32)
    return rows / np.linalg.norm(rows, axis=-1, keepdims=True)


def enter(catalogue: Catalogue, row: Row, clips: np.ndarray) -> tuple[int, ...]:
    head = Header(
        study_instance_uid=row.study,
        series_instance_uid=row.series,
        sop_instance_uid=f"{row.series}.1",
        sop_class_uid="1.2.840.10008.5.1.4.1.1.2",
        transfer_syntax_uid="1.2.840.10008.1.2.1",
        patient_id=row.patient.patient_id,
        issuer_of_patient_id=row.patient.issuer_of_patient_id,
        modality=row.modality,
        body_part_examined=row.body_part,
        study_date=row.date,
    )
    rule = QuietRule(30, 120, 1800)
    stored = StoredFile("a.dcm", row.series.rjust(64, "0"), 1)
    recorded = catalogue.record(head, stored, rule)
    records = [
        ClipRecord("volume", 3, tuple(f"{row.series}.{n}.{at}" for n in range(3)), clip)
        for at, clip in enumerate(clips)
    ]
    return catalogue.save_clips(recorded.series_id, 1, MODEL, records)


def brute_force(rows: list[Row], query: Query) -> list[tuple[str, float]]:
    """Rank study UIDs by comparing everything with everything, in plain Python."""
    best: dict[str, float] = {}
    kept = widened(halved(np.stack([row.vector for row in rows])))
    scores = kept @ unit(query.vectors).T
    for row, score in zip(rows, scores.max(axis=1), strict=True):
        patient = query.exclude_patient
        if (
            (query.modality is not None and row.modality != query.modality)
            or (query.body_part is not None and row.body_part != query.body_part)
            or (query.date_from is not None and row.date < query.date_from)
            or (query.date_to is not None and not "" < row.date <= query.date_to)
            or row.study == query.exclude_study_uid
            or (query.studies is not None and row.study not in query.studies)
            or (patient is not None and patient.patient_id and row.patient == patient)
            or (query.min_score is not None and score < query.min_score)
        ):
            continue
        best[row.study] = max(best.get(row.study, -1.0), float(score))
    return sorted(best.items(), key=lambda item: -item[1])[: query.k]


FILTERS: dict[str, dict[str, Any]] = {
    "none": {},
    "modality": {"modality": "US"},
    "body part": {"body_part": "HEAD"},
    "no body part": {"body_part": ""},
    "dates": {"date_from": "20240301", "date_to": "20240415"},
    "until": {"date_to": "20240601"},
    "all": {"modality": "CR", "body_part": "CHEST", "date_from": "20240201"},
    "score": {"min_score": 0.9},
    "nothing": {"modality": "XX"},
    "many": {"k": 200},
    "one": {"k": 1},
    "more than there are": {"k": 1000},
    "these studies": {"studies": frozenset({*(f"1.2.{n}" for n in range(0, 90, 3)), "9.9"})},
    "these and more": {"studies": frozenset({"1.2.1", "1.2.2", "1.2.5"}), "modality": "CR"},
    "no study": {"studies": frozenset()},
}


@pytest.mark.parametrize("kind", ["graph", "graph, few allowed", "graph, scan only", "exact index"])
@pytest.mark.parametrize("name", FILTERS)
def test_search_equals_brute_force_under_every_filter(world: World, name: str, kind: str) -> None:
    rng = np.random.default_rng(1)
    hits = wanted = 0
    for _ in range(12):
        own = world.rows[rng.integers(len(world.rows))]
        vectors = unit(own.vector + 0.02 * rng.standard_normal((rng.integers(1, 4), DIM)))
        query = Query(
            vectors=vectors,
            exclude_patient=own.patient,
            exclude_study_uid=own.study,
            **FILTERS[name],
        )
        expected = brute_force(world.rows, query)
        ranking = world.searches[kind].similar(query)
        found = [(case.study_instance_uid, case.score) for case in ranking.cases]

        assert len(found) == len(expected)
        assert ranking.complete
        assert [case.rank for case in ranking.cases] == list(range(1, len(found) + 1))
        assert all(near.score >= far.score for near, far in pairwise(ranking.cases))
        shared = dict(expected)
        for uid, score in found:
            assert score == pytest.approx(shared.get(uid, score), abs=2e-6)
        if ranking.exact:
            assert [s for _, s in found] == pytest.approx([s for _, s in expected], abs=2e-6)
        hits += len({uid for uid, _ in found} & set(shared))
        wanted += len(expected)
    assert hits >= 0.98 * wanted


def test_recall_at_ten_of_the_graph(world: World) -> None:
    rng = np.random.default_rng(2)
    hits = 0
    for _ in range(100):
        query = Query(vectors=unit(world.rows[rng.integers(len(world.rows))].vector[None]))
        ranking = world.searches["graph"].similar(query)
        assert not ranking.exact
        expected = {uid for uid, _ in brute_force(world.rows, query)}
        hits += len(expected & {case.study_instance_uid for case in ranking.cases})
    assert hits >= 0.98 * 1000


def test_a_case_tells_why_it_is_near(world: World) -> None:
    own = next(row for row in world.rows if row.study == "1.2.8")
    far = -own.vector
    query = Query(vectors=np.stack([far, own.vector]), k=1)
    case = world.searches["graph"].similar(query).cases[0]
    assert case == Case(
        rank=1,
        score=pytest.approx(1.0, abs=1e-3),
        study_instance_uid="1.2.8",
        series_instance_uid="1.2.8.0",
        sop_instance_uid="1.2.8.0.1.0",
        query_clip=1,
        kind="volume",
        modality="CT",
        body_part="",
        study_date="20240909",
        study_description="",
        patient_id=own.patient.patient_id,
        issuer_of_patient_id=own.patient.issuer_of_patient_id,
        patient_sex="",
        patient_age="",
    )


def test_two_patients_without_an_id_are_not_one(world: World) -> None:
    own = next(row for row in world.rows if not row.patient.patient_id)
    query = Query(vectors=own.vector[None], exclude_patient=own.patient)
    cases = world.searches["graph"].similar(query).cases
    assert cases[0].study_instance_uid == own.study


@pytest.mark.parametrize("k", [0, -1, 1001])
def test_an_absurd_k_is_refused(world: World, k: int) -> None:
    with pytest.raises(BadQuery, match="between 1 and 1000"):
        world.searches["graph"].similar(Query(vectors=world.rows[0].vector[None], k=k))


def test_unfit_query_vectors_are_refused(world: World) -> None:
    with pytest.raises(BadQuery, match="none"):
        world.searches["graph"].similar(Query(vectors=np.empty((0, DIM), np.float32)))
    with pytest.raises(BadVector):
        world.searches["graph"].similar(Query(vectors=np.full((1, DIM), np.nan, np.float32)))
    with pytest.raises(BadVector):
        world.searches["graph"].similar(Query(vectors=np.eye(DIM + 1, dtype=np.float32)[:1]))


@pytest.fixture
def empty(tmp_path: Path) -> Catalogue:
    engine = connect(f"sqlite:///{tmp_path / 'similis.db'}")
    migrate(engine)
    return Catalogue(engine, lambda: datetime(2026, 1, 1, tzinfo=UTC))


def test_an_empty_index_finds_nothing(empty: Catalogue, tmp_path: Path) -> None:
    index = HnswIndex.open(tmp_path, empty, model_id=MODEL, dim=DIM, config=GRAPH)
    ranking = Search(empty, index).similar(Query(vectors=np.eye(DIM, dtype=np.float32)[:1]))
    assert (ranking.cases, ranking.complete, ranking.searched) == ((), True, 0)


def test_equal_scores_come_in_order_of_study_uid(empty: Catalogue, tmp_path: Path) -> None:
    vector = np.eye(DIM, dtype=np.float32)[:1]
    patient = PatientKey("", "")
    for study in ("1.9", "1.5", "1.7", "1.6", "1.8"):
        enter(empty, Row(vector, study, f"{study}.0", patient, "CT", "", ""), vector)
    index = HnswIndex.open(tmp_path, empty, model_id=MODEL, dim=DIM, config=GRAPH)
    cases = Search(empty, index).similar(Query(vectors=vector, k=3)).cases
    assert [case.study_instance_uid for case in cases] == ["1.5", "1.6", "1.7"]


def test_a_crowded_study_does_not_hide_the_next(empty: Catalogue, tmp_path: Path) -> None:
    """Its clips fill one query row's candidates, worse studies the other's."""
    rng = np.random.default_rng(3)

    def towards(axis: int, cosine: float, count: int) -> np.ndarray:
        rest = rng.standard_normal((count, DIM))
        rest[:, :2] = 0.0
        return unit(cosine * np.eye(DIM)[axis] + np.sqrt(1 - cosine**2) * unit(rest))

    def study(uid: str, clips: np.ndarray) -> None:
        enter(empty, Row(clips[0], uid, f"{uid}.0", PatientKey(""), "CT", "", ""), clips)

    study("1.1", towards(1, 0.95, 60))
    study("1.2", towards(1, 0.9, 1))
    for number in range(45):
        study(f"1.3.{number}", towards(0, 0.5, 1))
    index = HnswIndex.open(tmp_path, empty, model_id=MODEL, dim=DIM, config=GRAPH)
    query = Query(vectors=np.eye(DIM, dtype=np.float32)[:2], k=2)
    cases = Search(empty, index, GRAPH).similar(query).cases
    assert [case.study_instance_uid for case in cases] == ["1.1", "1.2"]


def test_a_vector_not_yet_indexed_is_told(empty: Catalogue, tmp_path: Path) -> None:
    vectors = np.eye(DIM, dtype=np.float32)
    index = HnswIndex.open(tmp_path, empty, model_id=MODEL, dim=DIM, config=GRAPH)
    enter(empty, Row(vectors[0], "1.5", "1.5.0", PatientKey(""), "CT", "", ""), vectors[:1])
    search = Search(empty, index)
    assert not search.similar(Query(vectors=vectors[:1])).complete
    index.catch_up(empty)
    assert search.similar(Query(vectors=vectors[:1])).complete


def test_a_vector_gone_from_the_catalogue_is_not_found(empty: Catalogue, tmp_path: Path) -> None:
    vectors = np.eye(DIM, dtype=np.float32)
    enter(empty, Row(vectors[0], "1.5", "1.5.0", PatientKey(""), "CT", "", ""), vectors[:1])
    index = HnswIndex.open(tmp_path, empty, model_id=MODEL, dim=DIM, config=GRAPH)
    empty.skip(1, 1, "Withdrawn.")
    assert Search(empty, index).similar(Query(vectors=vectors[:1])).cases == ()
