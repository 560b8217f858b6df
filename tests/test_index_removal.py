"""Forgetting: what is gone for good, and what must never come back in its place."""

import time

import pytest
from catalogues import MODEL, clip, receive
from sqlalchemy import text
from test_index_reports import new_report

from index.catalogue import Catalogue
from index.db import is_postgresql

TABLES = ("study", "series", "clip", "report")


@pytest.mark.parametrize("table", TABLES)
def test_a_key_is_not_given_again_after_its_study_was_forgotten(
    catalogue: Catalogue, table: str
) -> None:
    """A job under way still holds the key: it must not write into another study's rows."""
    fill(catalogue)
    before = keys(catalogue, table)
    assert catalogue.forget_study("1.2", lambda kept: None) is not None

    fill(catalogue)

    after = keys(catalogue, table)
    assert before and after
    assert min(after) > max(before)


def test_a_long_read_keeps_those_who_flush_and_who_write_only_for_a_moment(
    catalogue: Catalogue,
) -> None:
    fill(catalogue)
    started = time.monotonic()
    with catalogue.reading() as reader:
        reader.execute(text("SELECT count(*) FROM study")).scalar_one()
        assert catalogue.forget_study("1.2", lambda kept: None) is not None
        flushed = catalogue.flush_deleted()
        assert flushed is is_postgresql(catalogue.engine.url)
        assert time.monotonic() - started < 10
    assert catalogue.flush_deleted()
    if not flushed:
        with catalogue.outside_transactions() as connection:
            waits_ms = connection.exec_driver_sql("PRAGMA busy_timeout").scalar_one()
        assert waits_ms == 30_000, "writers wait as before"


def fill(catalogue: Catalogue) -> None:
    """Take one study in, with a clip and a report."""
    received = receive(catalogue, 1)
    catalogue.save_clips(received.series_id, 1, MODEL, [clip(0)])
    catalogue.save_report(new_report(received.study_id, "2.25.10"))


def keys(catalogue: Catalogue, table: str) -> list[int]:
    with catalogue.reading() as connection:
        return list(connection.execute(text(f"SELECT id FROM {table}")).scalars())
