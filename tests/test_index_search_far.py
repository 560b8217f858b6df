"""A filter whose vectors lie far from the query: where a graph's candidates end."""

from dataclasses import replace
from pathlib import Path

import numpy as np
from catalogues import Clock, open_catalogue
from engines import DIM, GRAPH, MODEL, Gallery, enter, shown, unit

from index.hnsw import HnswIndex
from index.records import Query
from index.search import Search
from index.vectors import Effort

GROUPS, SIZE = 40, 200  # of body parts, and the vectors of each
FAR = 8  # groups that are of the modality asked for


def grouped(rng: np.random.Generator) -> Gallery:
    """Return groups with a modality each, larger than what the graph looks through to link them."""
    parts = unit(rng.standard_normal((GROUPS, DIM)))
    studies = GROUPS * SIZE // 4
    group = np.repeat(rng.integers(GROUPS, size=studies), 4)
    vectors = unit(parts[group] + 0.10 * rng.standard_normal((len(group), DIM)))
    rows = [
        replace(shown(at // 4, at // 2), modality="CT" if part < FAR else "MR", guest=False)
        for at, part in enumerate(group.tolist())
    ]
    return Gallery(vectors, rows)


def test_a_filter_far_from_the_query_loses_no_recall(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    catalogue = open_catalogue(f"sqlite:///{tmp_path / 'similis.db'}", Clock())
    gallery = grouped(rng)
    enter(catalogue, gallery)
    config = replace(GRAPH, m=8, ef_construction=40, ef_search=300)
    index = HnswIndex.open(tmp_path, catalogue, model_id=MODEL, dim=DIM, config=config)
    search = Search(catalogue, index, config)
    near = [at for at, row in enumerate(gallery.shown) if row.modality == "MR"]
    hits = asked = 0
    for at in rng.choice(near, 60, replace=False):
        query = Query(vectors=gallery.vectors[[at]], modality="CT")
        right = search.similar(replace(query, effort=Effort.EXACT)).cases
        found = search.similar(query).cases
        hits += len({c.study_instance_uid for c in right} & {c.study_instance_uid for c in found})
        asked += len(right)
    assert asked == 600
    assert hits >= 0.98 * asked, f"recall {hits / asked:.4f}"
