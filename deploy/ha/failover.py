"""A failover rehearsed: the leading database node is killed while studies are written.

    make ha-failover

Studies go through the catalogue as a node writes them, one after the other, and what is refused is
tried again. Prints what was kept, whether answers changed, and how long nothing could be written;
the exit status is 1 if an acknowledged row is lost or an answer is another one.
"""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from hashlib import sha256
from pathlib import Path

import numpy as np
from cluster import Cluster, Node, missing, running_cluster
from numpy.typing import NDArray

sys.path.insert(0, str(Path(__file__).parents[2]))

from index.catalogue import Catalogue
from index.config import IndexConfig
from index.db import connect, migrate
from index.errors import DatabaseUnavailable
from index.pgvector import PgVectorIndex
from index.records import ClipRecord, Header, Query, QuietRule, StoredFile
from index.search import Search
from index.vectors import Effort

DATABASE = "similis"
MODEL, DIM = "0123456789abcdef", 64
STUDIES, CLIPS = 20, 50  # kept beforehand
QUERIES = 50
ROWS = 60  # studies written before the leader is killed, and as many afterwards
LIMIT_S = 120.0
_RULE = QuietRule(series_s=30, study_s=120, cap_s=600)
_GRAPH = IndexConfig(exact_below=0)  # else so few vectors would all be compared
_PAUSE_S = 0.05

Vectors = NDArray[np.float32]
Answer = tuple[tuple[str, float], ...]  # Study Instance UIDs with their scores


@dataclass(frozen=True, slots=True)
class Written:
    """What a study was acknowledged with, and when."""

    sop_instance_uid: str
    embedding_id: int
    at_s: float


@dataclass(frozen=True, slots=True)
class Outcome:
    """What the rehearsal showed."""

    acknowledged: int
    lost: tuple[str, ...]  # SOP Instance UIDs
    refusals: int  # what the writer was told meanwhile
    answers: int
    identical: int  # answers by comparing everything
    identical_by_graph: int
    unwritable_s: float  # the longest time between two acknowledged studies
    killed: Node

    @property
    def is_well(self) -> bool:
        """Tell whether nothing was lost or changed."""
        return not self.lost and self.identical == self.answers


class Site:
    """What a node has open while the database fails over: nothing of it is opened again."""

    def __init__(self, url: str) -> None:
        engine = connect(url)
        migrate(engine)
        self.catalogue = Catalogue(engine, lambda: datetime.now(UTC))
        self.index = PgVectorIndex.open(self.catalogue, model_id=MODEL, dim=DIM, config=_GRAPH)
        self.search = Search(self.catalogue, self.index, _GRAPH)

    def keep(self, study: str, vectors: Vectors) -> Written:
        """Take a study of one instance in with its vectors (N, D), step by step as a node does."""
        uid = f"{study}.1.1"
        head = Header(
            study_instance_uid=study,
            series_instance_uid=f"{study}.1",
            sop_instance_uid=uid,
            sop_class_uid="1.2.840.10008.5.1.4.1.1.2",
            transfer_syntax_uid="1.2.840.10008.1.2.1",
            patient_id=study,
        )
        stored = StoredFile(f"{uid}.dcm", sha256(uid.encode()).hexdigest(), 1)
        series = self.catalogue.record(head, stored, _RULE).series_id
        self.catalogue.close_quiet(force=True)
        revision = self.catalogue.series_files(series).revision
        clips = [ClipRecord("still", 1, (uid,), vector) for vector in vectors]
        keys = self.catalogue.save_clips(series, revision, MODEL, clips)
        self.index.add(np.array(keys), vectors)
        self.catalogue.mark_indexed(series, revision)
        return Written(uid, keys[0], time.monotonic())

    def answers(self, queries: Vectors, effort: Effort) -> list[Answer]:
        """Return the ten nearest studies to each query."""
        asked = [Query(vectors=query[None], k=10, effort=effort) for query in queries]
        rankings = [self.search.similar(query) for query in asked]
        return [tuple((c.study_instance_uid, c.score) for c in r.cases) for r in rankings]

    def lost(self, written: Sequence[Written]) -> tuple[str, ...]:
        """Return what was acknowledged and is not there."""
        kept = np.intersect1d(self.catalogue.embedding_ids(MODEL), self.index.ids())
        return tuple(
            one.sop_instance_uid
            for one in written
            if one.embedding_id not in kept
            or self.catalogue.instance_file(one.sop_instance_uid) is None
        )


class Writer:
    """Writes study after study, and tries again what is refused."""

    def __init__(self, site: Site, vectors: Iterator[Vectors]) -> None:
        self.written: list[Written] = []
        self.refusals = 0
        self._site = site
        self._vectors = vectors
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._write)

    @contextmanager
    def writing(self) -> Iterator[None]:
        """Write until the block ends."""
        self._thread.start()
        try:
            yield
        finally:
            self._ended.set()
            self._thread.join()

    def wait_for(self, rows: int) -> None:
        """Return when so many studies are acknowledged; raises TimeoutError."""
        deadline = time.monotonic() + LIMIT_S
        while len(self.written) < rows:
            if time.monotonic() > deadline or not self._thread.is_alive():
                raise TimeoutError(f"{len(self.written)} of {rows} studies were acknowledged")
            time.sleep(_PAUSE_S)

    def _write(self) -> None:
        vectors = next(self._vectors)
        while not self._ended.is_set():
            try:
                study = f"1.3.{len(self.written) + 1}"
                self.written.append(self._site.keep(study, vectors))
            except DatabaseUnavailable:
                self.refusals += 1
                time.sleep(_PAUSE_S)
            else:
                vectors = next(self._vectors)


def studies(seed: int, count: int, *, sign: int) -> Iterator[Vectors]:
    """Return the vectors (count, D) of studies without end; those of one sign are near.

    What is written meanwhile is far from every query, so that answers must stay as they are.
    """
    rng = np.random.default_rng(seed)
    while True:
        rows = rng.standard_normal(DIM) + 0.3 * rng.standard_normal((count, DIM))
        rows = sign * np.abs(rows) / np.linalg.norm(rows, axis=1, keepdims=True)
        yield rows.astype(np.float32)


def rehearse(cluster: Cluster) -> Outcome:
    """Kill the leader while studies are written, and compare before and after."""
    cluster.create_database(DATABASE)
    site = Site(cluster.url(DATABASE))
    kept = [vectors for _, vectors in zip(range(STUDIES), studies(0, CLIPS, sign=1), strict=False)]
    for number, vectors in enumerate(kept):
        site.keep(f"1.2.{number}", vectors)
    queries = np.concatenate(kept)[:: STUDIES * CLIPS // QUERIES]
    efforts = (Effort.EXACT, Effort.NORMAL)
    before = [site.answers(queries, effort) for effort in efforts]
    writer = Writer(site, studies(1, 1, sign=-1))
    with writer.writing():
        writer.wait_for(ROWS)
        killed = cluster.leader()
        if killed is None:
            raise TimeoutError("the cluster lost its leader before anyone killed it")
        killed.kill()
        writer.wait_for(len(writer.written) + ROWS)
    after = [site.answers(queries, effort) for effort in efforts]
    same = [
        sum(x == y for x, y in zip(*both, strict=True)) for both in zip(before, after, strict=True)
    ]
    outcome = Outcome(
        acknowledged=len(writer.written),
        lost=site.lost(writer.written),
        refusals=writer.refusals,
        answers=len(queries),
        identical=same[0],
        identical_by_graph=same[1],
        unwritable_s=float(np.diff([one.at_s for one in writer.written]).max()),
        killed=killed,
    )
    site.catalogue.engine.dispose()
    return outcome


def main() -> int:
    """Rehearse once and print the figures."""
    if lacking := missing():
        print("Install first:", "; ".join(lacking), file=sys.stderr)
        return 1
    started = time.monotonic()
    with running_cluster() as cluster:
        print(f"two nodes, a synchronous standby       {time.monotonic() - started:6.1f} s")
        outcome = rehearse(cluster)
        print(f"no study written for                   {outcome.unwritable_s:6.1f} s")
        print(f"acknowledged studies                   {outcome.acknowledged:6}")
        print(f"  of these lost                        {len(outcome.lost):6}")
        print(f"writes refused meanwhile               {outcome.refusals:6}")
        print(f"answers identical, everything compared {outcome.identical:6} of {outcome.answers}")
        print(f"answers identical, by the graph        {outcome.identical_by_graph:6}")
        back = time.monotonic()
        outcome.killed.start()
        cluster.wait(cluster.is_redundant, "synchronous standby")
        print(f"killed node back as the standby after  {time.monotonic() - back:6.1f} s")
    return 0 if outcome.is_well else 1


if __name__ == "__main__":
    sys.exit(main())
