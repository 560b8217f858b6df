"""A filter whose vectors lie far from the query: where a graph's candidates end."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from catalogues import Clock, open_catalogue
from engines import DIM, GRAPH, MODEL, Gallery, enter, shown, unit

from index.hnsw import HnswIndex
from index.records import Query
from index.search import Search
from index.vectors import Effort

GROUPS, SIZE = 80, 200  # of body parts, and the vectors of each


def grouped(rng: np.random.Generator, far: int) -> Gallery:
    """Return groups larger than what the graph looks through to link them; `far` of them are CT."""
    parts = unit(rng.standard_normal((GROUPS, DIM)))
    studies = GROUPS * SIZE // 4
    group = np.repeat(rng.integers(GROUPS, size=studies), 4)
    vectors = unit(parts[group] + 0.10 * rng.standard_normal((len(group), DIM)))
    rows = [
        replace(shown(at // 4, at // 2), modality="CT" if part < far else "MR", guest=False)
        for at, part in enumerate(group.tolist())
    ]
    return Gallery(vectors, rows)


@pytest.mark.parametrize(("far", "exact"), [(8, True), (60, False)])
def test_a_filter_far_from_the_query_loses_no_recall(tmp_path: Path, far: int, exact: bool) -> None:
    rng = np.random.default_rng(0)
    catalogue = open_catalogue(f"sqlite:///{tmp_path / 'similis.db'}", Clock())
    gallery = grouped(rng, far)
    enter(catalogue, gallery)
    config = replace(GRAPH, m=8, ef_construction=40, ef_search=300)
    index = HnswIndex.open(tmp_path, catalogue, model_id=MODEL, dim=DIM, config=config)
    search = Search(catalogue, index, config)
    near = [at for at, row in enumerate(gallery.shown) if row.modality == "MR"]
    hits = asked = exactly = 0
    for at in rng.choice(near, 60, replace=False):
        query = Query(vectors=gallery.vectors[[at]], modality="CT")
        right = search.similar(replace(query, effort=Effort.EXACT)).cases
        ranking = search.similar(query)
        found = {case.study_instance_uid for case in ranking.cases}
        hits += len(found & {case.study_instance_uid for case in right})
        exactly += ranking.exact
        asked += len(right)
    assert asked == 600
    assert hits >= 0.98 * asked, f"recall {hits / asked:.4f}"
    assert (exactly > 30) == exact  # few are compared, many are left to the graph
