from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest
from catalogues import MODEL, Clock, open_catalogue

from index.catalogue import Catalogue
from index.config import IndexConfig
from index.health import LEAST, drift, health
from index.hnsw import HnswIndex
from index.records import ClipRecord, Header, QuietRule, StoredFile
from index.vectors import ExactIndex

DIM = 8
RULE = QuietRule(series_s=30, study_s=120, cap_s=600)


def unit(rows: np.ndarray) -> np.ndarray:
    return (rows / np.linalg.norm(rows, axis=-1, keepdims=True)).astype(np.float32)


def enter(catalogue: Catalogue, number: int, vector: np.ndarray, patient: str) -> None:
    head = Header(
        study_instance_uid=f"1.2.{number}",
        series_instance_uid=f"1.2.{number}.1",
        sop_instance_uid=f"1.2.{number}.1.1",
        sop_class_uid="1.2.840.10008.5.1.4.1.1.2",
        transfer_syntax_uid="1.2.840.10008.1.2.1",
        patient_id=patient,
    )
    recorded = catalogue.record(head, StoredFile("a.dcm", f"{number:064}", 1), RULE)
    record = ClipRecord("still", 1, (f"1.2.{number}.1.1",), vector)
    catalogue.save_clips(recorded.series_id, 1, MODEL, [record])


def open_hasty(folder: Path, clock: Clock) -> Catalogue:
    """Open a catalogue that need not survive a crash."""
    catalogue = open_catalogue(f"sqlite:///{folder / 'similis.db'}", clock)
    with closing(catalogue.engine.raw_connection()) as connection:  # the one pooled connection
        connection.cursor().execute("PRAGMA synchronous = OFF")
    return catalogue


@pytest.fixture
def clock() -> Clock:
    clock = Clock()
    clock.now = datetime(2026, 1, 15, tzinfo=UTC)
    return clock


@pytest.fixture(scope="module")
def catalogue(tmp_path_factory: pytest.TempPathFactory) -> Catalogue:
    """Three hundred patients in 2025, alike; forty in January 2026, otherwise alike."""
    rng, clock = np.random.default_rng(0), Clock()
    catalogue = open_hasty(tmp_path_factory.mktemp("archive"), clock)
    for number in range(340):
        old = number < 300
        clock.now = datetime(2025, 6, 1, tzinfo=UTC) if old else datetime(2026, 1, 15, tzinfo=UTC)
        vector = unit(np.eye(DIM)[0] + (0.3 if old else 3.0) * rng.standard_normal(DIM))
        enter(catalogue, number, vector, f"P{number}")
    return catalogue


def exact_index(catalogue: Catalogue) -> ExactIndex:
    index = ExactIndex(model_id=MODEL, dim=DIM)
    index.add(*catalogue.vectors(catalogue.embedding_ids(MODEL).tolist()))
    return index


def test_an_exact_index_finds_all_of_its_nearest(catalogue: Catalogue, clock: Clock) -> None:
    found = health(catalogue, exact_index(catalogue), now=clock.now)
    assert found.recall is not None and found.hubness is not None
    assert (found.recall.recall, found.recall.exact, found.recall.queries) == (1.0, True, 100)
    assert (found.model_id, found.stats.vectors) == (MODEL, 340)
    assert (found.hubness.sampled, found.hubness.k) == (340, 10)


class Forgetful(ExactIndex):
    """Gives every second of the nearest only."""

    def candidates(self, vector: np.ndarray, k: int, **_: object):  # type: ignore[no-untyped-def]
        found = super().candidates(vector, 2 * k)
        return type(found)(found.ids[::2], found.scores[::2], exact=False)


def test_recall_is_the_share_of_the_nearest_that_is_given(catalogue: Catalogue) -> None:
    index = Forgetful(model_id=MODEL, dim=DIM)
    index.add(*catalogue.vectors(catalogue.embedding_ids(MODEL).tolist()))
    found = health(catalogue, index, now=datetime(2026, 1, 31, tzinfo=UTC))
    assert found.recall is not None
    assert found.recall.recall == pytest.approx(0.5)  # itself, then the second, the fourth, …
    assert not found.recall.exact


def test_a_graph_tells_what_is_deleted(catalogue: Catalogue, tmp_path: Path, clock: Clock) -> None:
    config = IndexConfig(exact_below=0)
    index = HnswIndex.open(tmp_path, catalogue, model_id=MODEL, dim=DIM, config=config)
    index.remove(index.ids()[:40])
    found = health(catalogue, index, now=clock.now)
    assert (found.stats.vectors, found.stats.deleted) == (300, 40)
    assert found.recall is not None and found.recall.recall > 0.9


def test_a_month_of_other_images_drifts(catalogue: Catalogue, clock: Clock) -> None:
    (month,) = health(catalogue, exact_index(catalogue), now=clock.now).drift
    assert (month.month, month.vectors) == ("2026-01", 40)
    assert month.distance > 2 * month.chance


def test_a_month_like_those_before_does_not_drift(tmp_path: Path, clock: Clock) -> None:
    rng = np.random.default_rng(1)
    catalogue = open_hasty(tmp_path, clock)
    for number in range(400):
        clock.now = datetime(2025 + number // 300, 1, 15, tzinfo=UTC)
        enter(catalogue, number, unit(rng.standard_normal(DIM)), "")  # each a patient of its own
    (month,) = health(catalogue, exact_index(catalogue), now=clock.now).drift
    assert month.vectors == 100
    assert month.distance < month.chance


def test_the_score_that_drifts_is_that_of_another_patient(tmp_path: Path, clock: Clock) -> None:
    """Each patient comes twice: were the own images neighbours, all scores would be 1."""
    rng = np.random.default_rng(2)
    catalogue = open_hasty(tmp_path, clock)
    for number in range(4 * LEAST):
        vector = unit(rng.standard_normal(DIM))
        for again in range(2):
            clock.now = datetime(2025 + again, 1, 15, tzinfo=UTC)
            enter(catalogue, 2 * number + again, vector, f"P{number}")
    (month,) = health(catalogue, exact_index(catalogue), now=clock.now).drift
    assert month.distance < month.chance


def test_a_thin_month_and_a_young_archive_say_nothing(catalogue: Catalogue, clock: Clock) -> None:
    sample = catalogue.origins(catalogue.embedding_ids(MODEL).tolist())
    late = datetime(2026, 4, 1, tzinfo=UTC)  # its months begin in February
    assert drift(catalogue, sample, late) == ()
    assert drift(catalogue, sample, datetime(2025, 7, 1, tzinfo=UTC)) == ()


def test_an_empty_index_has_no_figures(tmp_path: Path, clock: Clock) -> None:
    catalogue = open_hasty(tmp_path, clock)
    found = health(catalogue, ExactIndex(model_id=MODEL, dim=DIM), now=clock.now)
    assert (found.recall, found.hubness, found.drift) == (None, None, ())
