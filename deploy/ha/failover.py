"""A failover rehearsed: the leading database node is killed while rows are written.

    make ha-failover

Rows are written through the catalogue as a node writes them, one after the other. Prints what was
kept and how long nothing could be written; the exit status is 1 if an acknowledged row is lost or
an answer changed.
"""

from __future__ import annotations

import sys
import threading
import time
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2]))

import numpy as np
from cluster import Cluster, Node, missing, running_cluster
from numpy.typing import NDArray

from index.catalogue import Catalogue
from index.config import IndexConfig
from index.db import connect, migrate
from index.errors import DatabaseUnavailable
from index.pgvector import PgVectorIndex
from index.records import ClipRecord, Header, PatientKey, Query, QuietRule, StoredFile
from index.search import Search
from index.vectors import Effort

MODEL, DIM = "0123456789abcdef", 64
STUDIES, CLIPS = 60, 50  # kept before; each study is another patient's
QUERIES = 50
ROWS_BEFORE, ROWS_AFTER = 100, 50  # written before the leader is killed, and after it was replaced
TTL_S = 20
_RULE = QuietRule(series_s=30, study_s=120, cap_s=600)
_PAUSE_S = 0.1
_LIMIT_S = 120.0

Answers = list[tuple[tuple[str, str, float], ...]]


@dataclass(slots=True)
class Outcome:
    """What the rehearsal showed; `lost` are SOP Instance UIDs and embeddings."""

    acknowledged: int
    lost: list[str]
    answers_before: Answers
    answers_after: Answers
    without_writes_s: float
    new_leader: Node
    refusals: int

    @property
    def identical(self) -> int:
        """Count the queries that were answered as before."""
        pairs = zip(self.answers_before, self.answers_after, strict=True)
        return sum(before == after for before, after in pairs)


@dataclass(slots=True)
class Writer(threading.Thread):
    """Writes a study after the other until told to stop; tries again what was refused."""

    catalogue: Catalogue
    index: PgVectorIndex
    vectors: NDArray[np.float32]
    acknowledged: dict[str, int] = field(default_factory=dict)  # SOP Instance UID → embedding id
    refusals: int = 0
    last_at: float = 0.0
    longest_s: float = 0.0  # between two acknowledged rows
    ended: threading.Event = field(default_factory=threading.Event)

    def __post_init__(self) -> None:
        threading.Thread.__init__(self, daemon=True)

    def run(self) -> None:
        """Write until `ended`."""
        for number in range(len(self.vectors)):
            while not self.ended.is_set():
                try:
                    uid = f"1.3.{number}.1.1"
                    (key,) = keep(self.catalogue, self.index, f"1.3.{number}", self.vectors[[number]])
                except DatabaseUnavailable:
                    self.refusals += 1
                    time.sleep(_PAUSE_S)
                    continue
                now = time.monotonic()
                self.longest_s = max(self.longest_s, now - (self.last_at or now))
                self.last_at = now
                self.acknowledged[uid] = key
                break

    def wait_for(self, rows: int) -> None:
        """Return when so many rows are acknowledged; raises TimeoutError."""
        deadline = time.monotonic() + _LIMIT_S
        while len(self.acknowledged) < rows:
            if time.monotonic() > deadline or not self.is_alive():
                raise TimeoutError(f"{len(self.acknowledged)} of {rows} rows were written")
            time.sleep(_PAUSE_S)


def keep(
    catalogue: Catalogue, index: PgVectorIndex, study: str, vectors: NDArray[np.float32]
) -> tuple[int, ...]:
    """Enter a study of one instance with its vectors (N, D), step by step as a node does."""
    uid = f"{study}.1.1"
    head = Header(study, f"{study}.1", uid, "1.2.840.10008.5.1.4.1.1.2", "1.2.840.10008.1.2.1")
    head = replace(head, patient_id=f"P{study}", modality="CT")
    recorded = catalogue.record(head, StoredFile(f"{uid}.dcm", sha256(uid.encode()).hexdigest(), 1), _RULE)
    catalogue.close_quiet(force=True)
    revision = catalogue.series_files(recorded.series_id).revision
    clips = [ClipRecord("still", 1, (uid,), vector) for vector in vectors]
    keys = catalogue.save_clips(recorded.series_id, revision, MODEL, clips)
    index.add(np.array(keys), vectors)
    catalogue.mark_indexed(recorded.series_id, revision)
    return keys
