from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest
from catalogues import MODEL, open_catalogue
from hypothesis import given
from hypothesis import strategies as st

from index.catalogue import Catalogue
from index.config import IndexConfig
from index.hnsw import HnswIndex
from index.near_duplicates import groups
from index.records import ClipRecord, Header, PatientKey, Query, QuietRule, StoredFile
from index.search import Search
from index.vectors import ExactIndex

DIM, THRESHOLD = 16, 0.98
RULE = QuietRule(series_s=30, study_s=120, cap_s=600)


def unit(rows: np.ndarray) -> np.ndarray:
    return (rows / np.linalg.norm(rows, axis=-1, keepdims=True)).astype(np.float32)


def by_hand(vectors: np.ndarray, k: int) -> list[list[int]]:
    """Group a whole ranking in plain Python, and cut it before the row that begins case k + 1."""
    found: list[list[int]] = []
    for row in range(len(vectors)):
        for group in found:
            if sum(a * b for a, b in zip(vectors[group[0]], vectors[row], strict=True)) >= 0.98:
                group.append(row)
                break
        else:
            if len(found) == k:
                break
            found.append([row])
    return found


@st.composite
def rankings(draw: st.DrawFn) -> np.ndarray:
    """Draw vectors around a few places, each at an angle that is clearly near or clearly not."""
    rng = np.random.default_rng(draw(st.integers(0, 10_000)))
    places = rng.standard_normal((draw(st.integers(1, 6)), 4))
    count = draw(st.integers(1, 30))
    spread = draw(st.sampled_from((0.0, 0.05, 0.4)))
    return unit(places[rng.integers(len(places), size=count)] + spread * rng.random((count, 4)))


@given(rankings(), st.integers(1, 8))
def test_groups_are_those_made_by_hand(vectors: np.ndarray, k: int) -> None:
    found = groups(vectors, k=k, threshold=THRESHOLD)
    assert [list(group) for group in found[:k]] == by_hand(vectors.tolist(), k)


@given(rankings(), st.integers(1, 8), st.integers(0, 30))
def test_what_ranks_below_changes_no_settled_group(vectors: np.ndarray, k: int, cut: int) -> None:
    whole = groups(vectors, k=k, threshold=THRESHOLD)
    part = groups(vectors[:cut], k=k, threshold=THRESHOLD)
    if len(part) > k:
        assert part == whole
    elif cut >= len(vectors):
        assert sorted(row for group in part for row in group) == list(range(len(vectors)))


def test_a_chain_of_small_steps_is_no_group() -> None:
    angles = np.radians([0, 10, 20, 30])  # cos 10° is .985, cos 20° .940
    vectors = np.stack([np.cos(angles), np.sin(angles)], axis=1).astype(np.float32)
    assert groups(vectors, k=4, threshold=THRESHOLD) == ((0, 1), (2, 3))


def test_no_vectors_have_no_groups() -> None:
    assert groups(np.empty((0, 4), np.float32), k=3, threshold=THRESHOLD) == ()


# --- through the search ------------------------------------------------------------------------


def enter(catalogue: Catalogue, study: str, vectors: np.ndarray, patient: str) -> None:
    head = Header(
        study_instance_uid=study,
        series_instance_uid=f"{study}.1",
        sop_instance_uid=f"{study}.1.1",
        sop_class_uid="1.2.840.10008.5.1.4.1.1.2",
        transfer_syntax_uid="1.2.840.10008.1.2.1",
        patient_id=patient,
    )
    recorded = catalogue.record(head, StoredFile("a.dcm", study.rjust(64, "0"), 1), RULE)
    clips = [ClipRecord("still", 1, (f"{study}.1.{n}",), v) for n, v in enumerate(vectors)]
    catalogue.save_clips(recorded.series_id, 1, MODEL, clips)


@pytest.fixture
def catalogue(tmp_path: Path) -> Catalogue:
    catalogue = open_catalogue(
        f"sqlite:///{tmp_path / 'similis.db'}", lambda: datetime(2026, 1, 1, tzinfo=UTC)
    )
    with closing(catalogue.engine.raw_connection()) as connection:  # the one pooled connection
        connection.cursor().execute("PRAGMA synchronous = OFF")
    return catalogue


def exact_search(catalogue: Catalogue) -> Search:
    index = ExactIndex(model_id=MODEL, dim=DIM)
    index.add(*catalogue.vectors(catalogue.embedding_ids(MODEL).tolist()))
    return Search(catalogue, index)


def graph_search(catalogue: Catalogue, folder: Path) -> Search:
    config = IndexConfig(exact_below=0)
    index = HnswIndex.open(folder, catalogue, model_id=MODEL, dim=DIM, config=config)
    return Search(catalogue, index, config)


def populate(catalogue: Catalogue) -> dict[str, np.ndarray]:
    """Keep 40 images in one to eight studies each, most of them a little changed."""
    rng = np.random.default_rng(0)
    kept: dict[str, np.ndarray] = {}
    for image in range(40):
        original = unit(np.eye(DIM)[0] + 0.5 * rng.standard_normal(DIM))
        for copy in range(1 + image % 8):
            changed = unit(original + 0.02 * (copy % 3) * rng.standard_normal(DIM))
            other = unit(-np.eye(DIM)[0] + 0.5 * rng.standard_normal(DIM))
            study = f"1.2.{image}.{copy}"
            enter(catalogue, study, np.stack([other, changed]), f"P{image}.{copy}")
            kept[study] = np.stack([other, changed])
    return kept


def halved(rows: np.ndarray) -> np.ndarray:
    return rows.astype(np.float16).astype(np.float32)


def expected(kept: dict[str, np.ndarray], vector: np.ndarray, k: int) -> list[tuple[str, ...]]:
    """Rank every study by its best clip, then group in plain Python."""
    scores = {uid: halved(clips) @ vector for uid, clips in kept.items()}  # as indexes keep them
    best = {uid: kept[uid][each.argmax()] for uid, each in scores.items()}
    order = sorted(best, key=lambda uid: (-round(float(scores[uid].max()), 6), uid))
    rows = by_hand(np.array([best[uid] for uid in order]).tolist(), k)
    return [tuple(order[row] for row in group) for group in rows]


@pytest.mark.parametrize("k", [1, 5, 10, 39, 100])
def test_a_search_groups_as_a_whole_ranking_would(
    catalogue: Catalogue, tmp_path: Path, k: int
) -> None:
    kept = populate(catalogue)
    rng = np.random.default_rng(1)
    for search in (exact_search(catalogue), graph_search(catalogue, tmp_path)):
        for _ in range(5):
            vector = unit(np.eye(DIM)[0] + 0.5 * rng.standard_normal(DIM))
            query = Query(vectors=vector[None], k=k, near_duplicate=THRESHOLD)
            ranking = search.similar(query)
            found = [(c.study_instance_uid, *c.near_duplicates) for c in ranking.cases]
            assert found == expected(kept, vector, k)
            assert [case.rank for case in ranking.cases] == list(range(1, len(found) + 1))
            assert ranking.complete


def test_identical_images_are_one_case_that_lists_them_all(catalogue: Catalogue) -> None:
    first, second = np.eye(DIM, dtype=np.float32)[:2]
    for study in ("1.7", "1.5", "1.6"):
        enter(catalogue, study, first[None], study)
    enter(catalogue, "1.1", unit(first + second)[None], "P")
    search = exact_search(catalogue)
    cases = search.similar(Query(vectors=first[None], k=2, near_duplicate=THRESHOLD)).cases
    assert [case.study_instance_uid for case in cases] == ["1.5", "1.1"]
    assert [case.near_duplicates for case in cases] == [("1.6", "1.7"), ()]
    alone = search.similar(Query(vectors=first[None], k=2)).cases
    assert [case.study_instance_uid for case in alone] == ["1.5", "1.6"]


def test_the_patient_who_asks_is_not_listed_as_a_near_duplicate(catalogue: Catalogue) -> None:
    vector = np.eye(DIM, dtype=np.float32)[:1]
    for study in ("1.5", "1.6"):
        enter(catalogue, study, vector, study)
    query = Query(vectors=vector, near_duplicate=THRESHOLD, exclude_patient=PatientKey("1.6"))
    (case,) = exact_search(catalogue).similar(query).cases
    assert (case.study_instance_uid, case.near_duplicates) == ("1.5", ())


def test_nothing_found_is_no_case(catalogue: Catalogue) -> None:
    vector = np.eye(DIM, dtype=np.float32)[:1]
    assert exact_search(catalogue).similar(Query(vectors=vector, near_duplicate=0.9)).cases == ()


def test_more_copies_than_are_looked_through_are_told(
    catalogue: Catalogue, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("index.search._LOOKED_THROUGH", 8)
    first, second = np.eye(DIM, dtype=np.float32)[:2]
    for study in range(10):
        enter(catalogue, f"1.{study}", first[None], str(study))
    enter(catalogue, "1.99", second[None], "P")
    query = Query(vectors=first[None], k=2, near_duplicate=THRESHOLD)
    ranking = exact_search(catalogue).similar(query)
    assert [len(case.near_duplicates) for case in ranking.cases] == [7]
    assert not ranking.complete
