"""A catalogue of random vectors, and an index over it that must answer like the oracle."""

from datetime import UTC, datetime
from pathlib import Path

import numpy as np

from index.catalogue import Catalogue
from index.config import IndexConfig
from index.db import connect, migrate
from index.hnsw import HnswIndex
from index.records import ClipRecord, Header, QuietRule, StoredFile
from index.vectors import ExactIndex

DIM = 32
COUNT = 400
MODEL = "0123456789abcdef"
CONFIG = IndexConfig(exact_below=0)


def filled(folder: Path, *, series: int = 1) -> Catalogue:
    engine = connect(f"sqlite:///{folder / 'similis.db'}")
    migrate(engine)
    catalogue = Catalogue(engine, lambda: datetime(2026, 1, 1, tzinfo=UTC))
    fill(catalogue, COUNT, series=series)
    return catalogue


def fill(catalogue: Catalogue, count: int, *, series: int, model_id: str = MODEL) -> None:
    """Make one series with `count` random vectors."""
    head = Header(
        study_instance_uid="1.2",
        series_instance_uid=f"1.2.{series}",
        sop_instance_uid=f"1.2.{series}.1",
        sop_class_uid="1.2.840.10008.5.1.4.1.1.2",
        transfer_syntax_uid="1.2.840.10008.1.2.1",
    )
    rule = QuietRule(30, 120, 1800)
    recorded = catalogue.record(head, StoredFile("a.dcm", f"{series:064}", 1), rule)
    rows = np.random.default_rng(series).standard_normal((count, DIM)).astype(np.float32)
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    clips = [ClipRecord("still", 1, (f"1.2.{series}.1",), row) for row in rows]
    catalogue.save_clips(recorded.series_id, 1, model_id, clips)


def reopen(
    catalogue: Catalogue,
    folder: Path,
    *,
    config: IndexConfig = CONFIG,
    dim: int = DIM,
    read_only: bool = False,
) -> HnswIndex:
    return HnswIndex.open(
        folder, catalogue, model_id=MODEL, dim=dim, config=config, read_only=read_only
    )


def assert_answers_like_the_oracle(index: HnswIndex, catalogue: Catalogue) -> None:
    oracle = ExactIndex(model_id=MODEL, dim=DIM)
    found, vectors = catalogue.vectors(catalogue.embedding_ids(MODEL).tolist())
    oracle.add(found, vectors)
    assert index.ids().tolist() == oracle.ids().tolist()
    for query in vectors[::20]:
        expected = oracle.candidates(query, 10)
        answered = index.candidates(query, 100)
        assert answered.ids[:10].tolist() == expected.ids.tolist()
        assert np.allclose(answered.scores[:10], expected.scores, atol=1e-6)
