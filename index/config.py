"""The settings of the vector index and the search: one frozen dataclass."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class IndexConfig:
    """HNSW graph and search policy.

    `m`, `ef_construction`, `ef_search`: Malkov & Yashunin 2018, sections 4.1 and 4.2.
    `ef_search` counts until the index has measured what it needs. `exact_below`: up to this many
    allowed vectors, all are compared where the graph's first candidates do not suffice.
    `overfetch`: the index is asked for this many candidates per wanted study at first, then for as
    many as those tell are needed, up to `max_candidates`: what pgvector walks through by default.
    `build_threads` above 1 builds faster, but the graph then differs from run to run.
    """

    m: int = 16
    ef_construction: int = 200
    ef_search: int = 100
    exact_below: int = 10_000
    overfetch: int = 8
    max_candidates: int = 20_000
    build_threads: int = 1
    seed: int = 0
