"""Forgetting: what is gone for good, and what must never come back in its place."""

import pytest
from catalogues import MODEL, clip, receive
from sqlalchemy import text
from test_index_reports import new_report

from index.catalogue import Catalogue

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


def fill(catalogue: Catalogue) -> None:
    """Take one study in, with a clip and a report."""
    received = receive(catalogue, 1)
    catalogue.save_clips(received.series_id, 1, MODEL, [clip(0)])
    catalogue.save_report(new_report(received.study_id, "2.25.10"))


def keys(catalogue: Catalogue, table: str) -> list[int]:
    with catalogue.reading() as connection:
        return list(connection.execute(text(f"SELECT id FROM {table}")).scalars())
