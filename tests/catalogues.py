"""A catalogue of its own for a test, with a clock that stands still until it is moved."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
from sqlalchemy import ClauseElement, Connection, event

from index.catalogue import Catalogue
from index.db import connect, migrate
from index.records import ClipRecord, Header, QuietRule, Recorded, StoredFile

RULE = QuietRule(series_s=30, study_s=120, cap_s=600)
MODEL = "0123456789abcdef"
NewDatabase = Callable[[], AbstractContextManager[str]]


class Clock:
    def __init__(self) -> None:
        self.now = datetime(2026, 1, 1, tzinfo=UTC)

    def __call__(self) -> datetime:
        return self.now

    def advance(self, seconds: float) -> None:
        self.now += timedelta(seconds=seconds)


def open_catalogue(url: str, clock: Callable[[], datetime]) -> Catalogue:
    engine = connect(url)
    migrate(engine)
    return Catalogue(engine, clock)


def receive(
    catalogue: Catalogue, number: int, *, series: int = 1, rule: QuietRule = RULE
) -> Recorded:
    head = Header(
        study_instance_uid="1.2",
        series_instance_uid=f"1.2.{series}",
        sop_instance_uid=f"1.2.{series}.{number}",
        sop_class_uid="1.2.840.10008.5.1.4.1.1.2",
        transfer_syntax_uid="1.2.840.10008.1.2.1",
        patient_id="P1",
        issuer_of_patient_id="HOSPITAL",
        accession_number="ACC1",
    )
    stored = StoredFile(f"files/{series}-{number}.dcm", f"{series:032}{number:032}", 1024)
    return catalogue.record(head, stored, rule)


def clip(axis: int, *, sources: tuple[str, ...] = ("1.2.1.1",)) -> ClipRecord:
    return ClipRecord("still", 1, sources, np.eye(8, dtype=np.float32)[axis])


@contextmanager
def statements(catalogue: Catalogue) -> Iterator[list[ClauseElement]]:
    """Return the statements that are run meanwhile."""
    run: list[ClauseElement] = []

    def note(_: Connection, statement: ClauseElement, *values: Any) -> None:
        run.append(statement)

    event.listen(catalogue.engine, "before_execute", note)
    yield run
    event.remove(catalogue.engine, "before_execute", note)
