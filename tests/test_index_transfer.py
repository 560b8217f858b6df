"""A catalogue moved to another database: the same answers there, nothing by halves."""

from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import replace
from typing import Any

import pytest
from catalogues import MODEL, RULE, Clock, clip, open_catalogue, receive
from postgres import Server, closed_connections
from sqlalchemy import Connection, Table, text
from test_index_matching import key
from test_index_reports import new_report

from index import transfer as transfer_module
from index.catalogue import Catalogue
from index.errors import TargetNotEmpty, TransferDiffers
from index.jobs import JobKind, Jobs
from index.records import Header, StoredFile
from index.rejections import Rejects
from index.transfer import row_count, transfer

NAMES = ("Ä^Ö\\=山田^太郎", "DOE^JANE", "", "O'Hara^\"%_*?")


@pytest.fixture(params=["sqlite to postgresql", "postgresql to sqlite", "sqlite to sqlite"])
def pair(
    request: pytest.FixtureRequest,
    postgresql: Server,
    tmp_path_factory: pytest.TempPathFactory,
    clock: Clock,
) -> Iterator[tuple[Catalogue, Catalogue]]:
    """A filled catalogue, and an empty one."""
    with ExitStack() as stack:
        stack.enter_context(closed_connections())

        def open_one(kind: str) -> Catalogue:
            if kind == "postgresql":
                url = stack.enter_context(postgresql.database("migrated"))
            else:
                url = f"sqlite:///{tmp_path_factory.mktemp('catalogue') / 'similis.db'}"
            return open_catalogue(url, clock)

        source, target = map(open_one, request.param.split(" to "))
        fill(source, clock)
        yield source, target


def fill(catalogue: Catalogue, clock: Clock) -> None:
    """Make rows in every table, and let the newest keys be those of rows that are gone."""
    for number, name in enumerate(NAMES):
        study = f"1.2.{number}"
        head = Header(
            study_instance_uid=study,
            series_instance_uid=f"{study}.1",
            sop_instance_uid=f"{study}.1.1",
            sop_class_uid="1.2.840.10008.5.1.4.1.1.2",
            transfer_syntax_uid="1.2.840.10008.1.2.1",
            patient_id=f"P{number}",
            patient_name=name,
        )
        rejects = None
        if number == 3:
            rejects = Rejects(code="113001", instances=(("1.8", "1.8.1"),), lasting=True)
        stored = StoredFile(f"{number}.dcm", f"{number:064}", 1)
        series_id = catalogue.record(head, stored, RULE, rejects=rejects).series_id
        catalogue.close_quiet(force=True)
        catalogue.save_clips(series_id, 1, MODEL, [replace(clip(number), sources=("1.ü",))])
        catalogue.mark_indexed(series_id, 1)
        clock.advance(0.1 + number / 3)
    catalogue.save_report(new_report(2, "2.25.10"))
    guest = replace(head, study_instance_uid="1.9", sop_instance_uid="1.9.1")
    stored = StoredFile("9.dcm", f"{9:064}", 1)
    catalogue.record_query(guest, stored, RULE, asked_by="ward", erase=lambda: None)
    gone = receive(catalogue, 7)
    catalogue.save_clips(gone.series_id, 1, MODEL, [clip(0)])
    catalogue.forget_study("1.2", lambda kept: None)


def answers(catalogue: Catalogue, clock: Clock) -> list[object]:
    ids, vectors = catalogue.vectors(catalogue.embedding_ids(MODEL).tolist())
    return [
        catalogue.counts(),
        list(catalogue.matching_studies([])),
        list(catalogue.matching_studies([key("PatientName", "doe*")])),
        catalogue.study_row("1.2.0"),
        catalogue.reports_naming("1.8"),
        list(catalogue.kept_files()),
        catalogue.embedded_clips(),
        ids.tolist(),
        vectors.tobytes(),
        Jobs(catalogue.engine, clock).pending(list(JobKind)),
    ]


def test_the_same_questions_get_the_same_answers(
    pair: tuple[Catalogue, Catalogue], clock: Clock
) -> None:
    source, target = pair
    before = answers(source, clock)
    told: dict[str, int] = {}

    moved = transfer(source, target, lambda table, rows: told.update({table: rows}))

    assert answers(target, clock) == answers(source, clock) == before
    assert sum(contents.rows for contents in moved.values()) == row_count(source)
    assert told == {name: contents.rows for name, contents in moved.items() if contents.rows}
    assert {"study", "rejection", "inquiry", "report", "job"} <= told.keys()


def test_keys_go_on_where_they_were(pair: tuple[Catalogue, Catalogue]) -> None:
    source, target = pair
    transfer(source, target, lambda table, rows: None)
    new = [receive(catalogue, 8) for catalogue in pair]
    assert new[0].study_id == new[1].study_id
    keys = [c.save_clips(new[0].series_id, 1, MODEL, [clip(0)]) for c in pair]
    assert keys[0] == keys[1]


def test_a_database_that_holds_a_catalogue_is_refused(pair: tuple[Catalogue, Catalogue]) -> None:
    source, target = pair
    receive(target, 1)
    with pytest.raises(TargetNotEmpty, match="study"):
        transfer(source, target, lambda table, rows: None)
    assert target.counts().instances == 1


def test_what_does_not_arrive_as_it_left_is_not_kept(
    pair: tuple[Catalogue, Catalogue], monkeypatch: pytest.MonkeyPatch
) -> None:
    source, target = pair

    honest = transfer_module._rows

    def altered(connection: Connection, table: Table) -> Iterator[Any]:
        if table.name == "study":
            connection.execute(text("UPDATE study SET patient_name = 'X' WHERE id = 1"))
        return honest(connection, table)

    monkeypatch.setattr(transfer_module, "_rows", altered)
    with pytest.raises(TransferDiffers, match="study"):
        transfer(source, target, lambda table, rows: None)
    assert target.counts().studies == {}
