import threading
from dataclasses import replace
from pathlib import Path
from random import Random

import pytest
from catalogues import RULE, Clock, NewDatabase, open_catalogue
from hypothesis import given, settings
from hypothesis import strategies as st
from postgres import closed_connections
from sqlalchemy import text

from index.catalogue import Catalogue
from index.errors import CatalogueFull
from index.records import Header, Receipt, Recorded, StoredFile
from index.states import State


def header(number: int, *, study: str = "1.2", series: str = "1.2.1", **values: str) -> Header:
    return Header(
        study_instance_uid=study,
        series_instance_uid=series,
        sop_instance_uid=f"1.2.1.{number}",
        sop_class_uid="1.2.840.10008.5.1.4.1.1.2",
        transfer_syntax_uid="1.2.840.10008.1.2.1",
        **values,
    )


def stored(content: str) -> StoredFile:
    return StoredFile(f"files/{content}.dcm", content.rjust(64, "0"), 1024)


def record(catalogue: Catalogue, head: Header, content: str) -> Recorded:
    return catalogue.record(head, stored(content), RULE)


def test_a_new_instance_makes_study_series_and_instance(catalogue: Catalogue) -> None:
    recorded = record(catalogue, header(1, patient_id="P1", modality="CT"), "a")

    assert recorded.receipt is Receipt.NEW
    assert recorded.kept_path == "files/a.dcm"
    study = catalogue.study_row("1.2")
    assert study is not None
    assert (study.patient_id, study.modalities, study.series, study.instances) == (
        "P1",
        ("CT",),
        1,
        1,
    )
    assert study.state is State.RECEIVING
    files = catalogue.series_files(recorded.series_id)
    assert [file.relative_path for file in files.files] == ["files/a.dcm"]
    assert files.revision == 1


def test_duplicate_instance_is_stored_once_and_changes_nothing(
    catalogue: Catalogue, clock: Clock
) -> None:
    first = record(catalogue, header(1), "a")
    clock.advance(40)
    assert catalogue.close_quiet() == 1

    again = catalogue.record(
        header(1), replace(stored("a"), relative_path="files/second-copy.dcm"), RULE
    )

    assert again == replace(first, receipt=Receipt.DUPLICATE)
    assert catalogue.counts().series == {State.QUIET: 1}
    assert catalogue.counts().instances == 1


def test_other_bytes_replace_and_both_versions_are_kept(catalogue: Catalogue, clock: Clock) -> None:
    first = record(catalogue, header(1), "a")
    clock.advance(40)
    catalogue.close_quiet()

    second = record(catalogue, header(1), "b")

    assert second.receipt is Receipt.REPLACED
    files = catalogue.series_files(first.series_id)
    assert [file.relative_path for file in files.files] == ["files/b.dcm"]
    assert files.revision == 2
    assert catalogue.counts().series == {State.DIRTY: 1}
    with catalogue.reading() as connection:
        assert connection.execute(text("SELECT count(*) FROM instance")).scalar() == 2


def test_older_bytes_that_come_back_change_nothing(catalogue: Catalogue) -> None:
    record(catalogue, header(1), "a")
    record(catalogue, header(1), "b")

    third = catalogue.record(
        header(1), replace(stored("a"), relative_path="files/second-copy.dcm"), RULE
    )

    assert third.receipt is Receipt.DUPLICATE
    assert third.kept_path == "files/a.dcm"
    current = catalogue.instance_file("1.2.1.1")
    assert current is not None
    assert current.relative_path == "files/b.dcm"


def test_every_version_is_among_the_kept_files(catalogue: Catalogue) -> None:
    for content in ("a", "b", "a"):
        record(catalogue, header(1), content)
    assert list(catalogue.kept_files()) == [stored("a"), stored("b")]
    assert catalogue.study_uid(1) == "1.2"


def test_a_version_in_another_series_makes_both_series_dirty(
    catalogue: Catalogue, clock: Clock
) -> None:
    old = record(catalogue, header(1, study="1.2", series="1.2.1"), "a")
    clock.advance(130)
    catalogue.close_quiet()

    new = record(catalogue, header(1, study="1.9", series="1.9.1"), "b")

    assert new.series_id != old.series_id
    assert catalogue.series_files(old.series_id).files == ()
    assert catalogue.series_files(old.series_id).revision == 2
    assert catalogue.counts().series == {State.DIRTY: 1, State.RECEIVING: 1}


def test_the_same_series_uid_in_two_studies_is_two_series(catalogue: Catalogue) -> None:
    one = record(catalogue, header(1, study="1.2", series="1.5"), "a")
    two = record(catalogue, header(2, study="1.3", series="1.5"), "b")
    assert one.series_id != two.series_id
    assert one.study_id != two.study_id


def test_the_newest_instance_names_the_study_but_an_empty_value_erases_nothing(
    catalogue: Catalogue,
) -> None:
    record(catalogue, header(1, patient_id="P1", study_description="Chest"), "a")
    record(catalogue, header(2, patient_id="P2"), "b")
    study = catalogue.study_row("1.2")
    assert study is not None
    assert (study.patient_id, study.study_description) == ("P2", "Chest")


def test_hostile_text_is_stored_without_harm(catalogue: Catalogue) -> None:
    record(catalogue, header(1, patient_name="A\0B\udcff" + "x" * 1000), "a")
    study = catalogue.study_row("1.2")
    assert study is not None
    assert study.patient_name.startswith("AB?x")
    assert len(study.patient_name) == 255


def test_a_full_disk_is_told_and_keeps_nothing_of_the_write(tmp_path: Path, clock: Clock) -> None:
    catalogue = open_catalogue(f"sqlite:///{tmp_path / 'similis.db'}", clock)
    record(catalogue, header(0), "0")
    with catalogue.writing() as connection:
        pages = connection.execute(text("PRAGMA page_count")).scalar_one()
    catalogue.engine.dispose()

    with catalogue.engine.connect() as held:  # the limit belongs to the one pooled connection
        held.exec_driver_sql(f"PRAGMA max_page_count = {pages}")
    with pytest.raises(CatalogueFull, match="full") as caught:
        for number in range(1, 1000):
            record(catalogue, header(number, patient_name="Doe^Jane"), str(number))
    assert "Doe" not in str(caught.value)
    kept = catalogue.counts().instances

    with catalogue.engine.connect() as held:
        held.exec_driver_sql("PRAGMA max_page_count = 100000")
    assert record(catalogue, header(number), str(number)).receipt is Receipt.NEW
    assert catalogue.counts().instances == kept + 1 == number + 1


def test_four_threads_lose_and_double_nothing(catalogue: Catalogue) -> None:
    receipts: list[Recorded] = []
    errors: list[BaseException] = []

    def send(worker: int) -> None:
        try:
            for number in range(50):
                own = header(worker * 50 + number, series=f"1.2.{number % 3}")
                receipts.append(record(catalogue, own, f"{worker}-{number}"))
                receipts.append(record(catalogue, header(1000 + number), f"shared-{number}"))
        except BaseException as error:
            errors.append(error)
            raise

    threads = [threading.Thread(target=send, args=(worker,)) for worker in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert errors == []
    new = [each for each in receipts if each.receipt is Receipt.NEW]
    assert len(new) == 200 + 50
    assert len(receipts) - len(new) == 3 * 50
    assert catalogue.counts().instances == 250
    assert {each.study_id for each in receipts} == {1}
    assert catalogue.counts().series == {State.RECEIVING: 3}
    revisions = [catalogue.series_files(series).revision for series in (1, 2, 3)]
    assert sum(revisions) == 250


arrivals = st.lists(
    st.tuples(st.integers(0, 3), st.integers(0, 1), st.integers(0, 2)), max_size=12, unique=True
)


@settings(max_examples=25)
@given(batch=arrivals, random=st.randoms(use_true_random=False))
def test_the_order_of_arrival_does_not_change_what_is_kept(
    new_database: NewDatabase, batch: list[tuple[int, int, int]], random: Random
) -> None:
    shuffled = list(batch)
    random.shuffle(shuffled)
    assert kept_after(new_database, batch) == kept_after(new_database, shuffled)


def kept_after(new_database: NewDatabase, batch: list[tuple[int, int, int]]) -> tuple[object, ...]:
    """Record (instance, series, version) triples; return what does not depend on their order."""
    with new_database() as url, closed_connections():
        catalogue = open_catalogue(url, Clock())
        for instance, series, version in batch:
            record(
                catalogue,
                header(instance, series=f"1.2.{series}"),
                f"{instance}-{series}-{version}",
            )
        with catalogue.reading() as connection:
            rows = connection.execute(
                text(
                    "SELECT sop_instance_uid, sha256, series_instance_uid FROM instance "
                    "JOIN series ON series.id = series_id ORDER BY 1, 2"
                )
            )
            kept = [tuple(row) for row in rows]
        counts = catalogue.counts()
        catalogue.engine.dispose()
        return kept, counts.instances, sum(counts.series.values())


def test_recording_again_after_all_were_current_changes_nothing(catalogue: Catalogue) -> None:
    for number in range(5):
        record(catalogue, header(number), str(number))
    before = catalogue.counts(), catalogue.series_files(1)
    for number in range(5):
        assert record(catalogue, header(number), str(number)).receipt is Receipt.DUPLICATE
    assert (catalogue.counts(), catalogue.series_files(1)) == before
