"""Two nodes on one catalogue: what they do at the same moment neither doubles nor gets lost.

Each node has connections of its own, as two processes have.
"""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial

import pytest
from catalogues import MODEL, RULE, Clock, clip, open_catalogue
from postgres import Server, closed_connections
from sqlalchemy import select, text

from index.catalogue import Catalogue
from index.errors import UnknownKey
from index.jobs import JobKind, Jobs
from index.models import Embedding, Instance
from index.models import Series as SeriesTable
from index.records import Header, Receipt, Recorded, StoredFile
from index.rejections import Rejects
from index.removal import Belongings
from index.states import State

ROUNDS = 15


@pytest.fixture
def nodes(database_url: str, clock: Clock) -> tuple[Catalogue, Catalogue]:
    return open_catalogue(database_url, clock), open_catalogue(database_url, clock)


def record(
    catalogue: Catalogue, uid: str, content: str, *, study: str = "1.2", series: str = "1.2.1"
) -> Recorded:
    head = Header(
        study_instance_uid=study,
        series_instance_uid=series,
        sop_instance_uid=uid,
        sop_class_uid="1.2.840.10008.5.1.4.1.1.2",
        transfer_syntax_uid="1.2.840.10008.1.2.1",
        patient_id="P",
    )
    return catalogue.record(head, StoredFile(f"{content}.dcm", content.rjust(64, "0"), 1), RULE)


def at_once(*calls: Callable[[], object]) -> list[object]:
    """Make calls at the same moment; return what they returned, or raise what one raised."""
    start = threading.Barrier(len(calls))
    results: list[object] = [None] * len(calls)
    errors: list[BaseException] = []

    def run(at: int) -> None:
        start.wait()
        try:
            results[at] = calls[at]()
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=run, args=(at,)) for at in range(len(calls))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if errors:
        raise errors[0]
    return results


@contextmanager
def meanwhile(call: Callable[[], object]) -> Iterator[threading.Thread]:
    """Make a call beside the block; it has ended when this returns."""
    thread = threading.Thread(target=call)
    yield thread
    thread.join()


def test_the_same_object_at_two_nodes_is_kept_once(nodes: tuple[Catalogue, Catalogue]) -> None:
    for number in range(ROUNDS):
        arrives = partial(record, uid=f"1.{number}", content=f"{number}", study=f"1.2.{number}")
        receipts = at_once(*(partial(arrives, node) for node in nodes))
        kept = [receipt.receipt for receipt in receipts if isinstance(receipt, Recorded)]
        assert sorted(kept) == [Receipt.DUPLICATE, Receipt.NEW]
    counts = nodes[0].counts()
    assert (counts.instances, counts.studies) == (ROUNDS, {State.RECEIVING: ROUNDS})


@pytest.mark.parametrize("studies", [("1.2", "1.2"), ("1.2", "1.3")])
def test_of_two_versions_at_two_nodes_one_is_current(
    nodes: tuple[Catalogue, Catalogue], studies: tuple[str, str]
) -> None:
    first, second = studies
    for number in range(ROUNDS):
        at_once(
            partial(record, nodes[0], f"1.{number}", f"{number}-a", study=first),
            partial(record, nodes[1], f"1.{number}", f"{number}-b", study=second),
        )
    with nodes[0].reading() as connection:
        current = select(Instance.sop_instance_uid).where(Instance.current)
        uids = connection.execute(current).scalars().all()
    assert sorted(uids) == sorted(f"1.{number}" for number in range(ROUNDS))


def test_instances_that_change_places_between_studies_block_nobody_for_good(
    nodes: tuple[Catalogue, Catalogue],
) -> None:
    for number in range(ROUNDS):
        there, back = ("1.2", "1.3") if number % 2 else ("1.3", "1.2")
        at_once(
            partial(record, nodes[0], "1.1", f"{number}-a", study=there),
            partial(record, nodes[1], "1.2", f"{number}-b", study=back),
        )
    assert nodes[0].counts().instances == 2


def test_a_series_that_grows_while_it_is_embedded_is_embedded_again(
    nodes: tuple[Catalogue, Catalogue],
) -> None:
    receiving, embedding = nodes
    record(receiving, "1.0", "0")
    arrived = threading.Event()

    def arrive() -> None:
        for number in range(1, 3 * ROUNDS):
            record(receiving, f"1.{number}", f"{number}")
        arrived.set()

    with meanwhile(arrive) as thread:
        thread.start()
        while not arrived.is_set():
            embed_what_is_quiet(embedding)
            assert_indexed_at_its_revision(receiving)
    embed_what_is_quiet(embedding)
    assert_indexed_at_its_revision(receiving)
    assert receiving.counts().series == {State.INDEXED: 1}


def embed_what_is_quiet(catalogue: Catalogue) -> None:
    catalogue.close_quiet(force=True)
    jobs = Jobs(catalogue.engine, catalogue._clock)
    while job := jobs.claim([JobKind.EMBED], "node", 60):
        revision = catalogue.series_files(job.subject_id).revision
        catalogue.save_clips(job.subject_id, revision, MODEL, [clip(0)])
        catalogue.mark_indexed(job.subject_id, revision)
        assert jobs.finish(job)


def assert_indexed_at_its_revision(catalogue: Catalogue) -> None:
    with catalogue.reading() as connection:
        state, revision = connection.execute(select(SeriesTable.state, SeriesTable.revision)).one()
        embedded = connection.execute(select(Embedding.revision)).scalar_one_or_none()
    assert state is not State.INDEXED or embedded == revision


def test_a_study_whose_last_series_end_at_once_is_indexed(
    nodes: tuple[Catalogue, Catalogue],
) -> None:
    for number in range(ROUNDS):
        study = f"1.2.{number}"
        series = [
            record(nodes[0], f"1.{number}.{n}", f"{number}-{n}", study=study, series=f"{study}.{n}")
            for n in (1, 2)
        ]
        nodes[0].close_quiet(force=True)
        for each in series:
            nodes[0].save_clips(each.series_id, 1, MODEL, [clip(0)])
        at_once(
            partial(nodes[0].mark_indexed, series[0].series_id, 1),
            partial(nodes[1].mark_indexed, series[1].series_id, 1),
        )
    assert nodes[0].counts().studies == {State.INDEXED: ROUNDS}


def test_what_arrives_while_its_study_is_forgotten_is_a_study_of_its_own(
    nodes: tuple[Catalogue, Catalogue],
) -> None:
    old = record(nodes[0], "1.1", "1").study_id
    receipts: list[Recorded] = []
    with meanwhile(lambda: receipts.append(record(nodes[1], "1.2", "2"))) as arrival:

        def erase(kept: Belongings) -> None:
            assert kept.files == ("1.dcm",)
            arrival.start()
            arrival.join(0.2)
            assert arrival.is_alive()

        nodes[0].forget_study("1.2", erase)
    assert receipts[0].study_id != old
    assert nodes[0].counts().instances == 1


def test_an_instance_that_comes_beside_its_rejection_stays_out(
    nodes: tuple[Catalogue, Catalogue],
) -> None:
    for number in range(ROUNDS):
        rejects = Rejects(code="113001", instances=(("1.2", f"1.{number}"),), lasting=True)
        note = Header(
            study_instance_uid="1.9",
            series_instance_uid="1.9.1",
            sop_instance_uid=f"1.9.1.{number}",
            sop_class_uid="1.2.840.10008.5.1.4.1.1.88.59",
            transfer_syntax_uid="1.2.840.10008.1.2.1",
            patient_id="P",
        )
        stored = StoredFile(f"note-{number}.dcm", f"{number}".rjust(64, "f"), 1)
        at_once(
            partial(record, nodes[0], f"1.{number}", f"{number}"),
            partial(nodes[1].record, note, stored, RULE, rejects=rejects),
        )
    assert nodes[0].instance_file("1.9.1.0") is not None
    assert [nodes[0].instance_file(f"1.{number}") for number in range(ROUNDS)] == [None] * ROUNDS


def test_both_nodes_close_what_is_quiet_and_each_series_gets_one_job(
    nodes: tuple[Catalogue, Catalogue], clock: Clock
) -> None:
    for number in range(3 * ROUNDS):
        record(nodes[0], f"1.{number}", f"{number}", series=f"1.2.{number}")
    closed = at_once(*(partial(node.close_quiet, force=True) for node in nodes))
    assert sum(int(str(count)) for count in closed) == 3 * ROUNDS
    assert Jobs(nodes[0].engine, clock).pending([JobKind.EMBED]) == 3 * ROUNDS


def test_a_job_asked_for_by_two_nodes_at_once_is_one_job(
    nodes: tuple[Catalogue, Catalogue], clock: Clock
) -> None:
    queues = [Jobs(node.engine, clock) for node in nodes]
    for number in range(ROUNDS):
        at_once(*(partial(queue.enqueue, JobKind.REPORT, number) for queue in queues))
    assert queues[0].pending([JobKind.REPORT]) == ROUNDS


def test_a_job_asked_for_as_it_ends_is_not_lost(
    nodes: tuple[Catalogue, Catalogue], clock: Clock
) -> None:
    ending, asking = (Jobs(node.engine, clock) for node in nodes)
    for _ in range(2 * ROUNDS):
        ending.enqueue(JobKind.EMBED, 1)
        job = ending.claim([JobKind.EMBED], "node", 60)
        assert job is not None
        at_once(partial(ending.finish, job), partial(asking.enqueue, JobKind.EMBED, 1))
        again = ending.claim([JobKind.EMBED], "node", 60)
        assert again is not None
        assert ending.finish(again)


def test_a_claim_does_not_wait_for_a_job_that_is_being_claimed(
    postgresql: Server, clock: Clock
) -> None:
    with postgresql.database("migrated") as url, closed_connections():
        impatient = f"{url}?options=-clock_timeout%3D1s"
        first, second = (Jobs(open_catalogue(impatient, clock).engine, clock) for _ in range(2))
        for subject in (1, 2):
            first.enqueue(JobKind.EMBED, subject)
        with first.writing() as connection:  # a claim that has not committed yet
            connection.execute(text("SELECT id FROM job WHERE subject_id = 1 FOR UPDATE"))
            taken = second.claim([JobKind.EMBED], "second", 60)
            assert taken is not None
            assert taken.subject_id == 2
            assert second.claim([JobKind.EMBED], "second", 60) is None


def test_many_jobs_are_claimed_once_each_by_two_nodes(
    nodes: tuple[Catalogue, Catalogue], clock: Clock
) -> None:
    queues = [Jobs(node.engine, clock) for node in nodes]
    for subject in range(120):
        queues[0].enqueue(JobKind.EMBED, subject)

    def work(queue: Jobs) -> list[int]:
        taken = []
        while job := queue.claim([JobKind.EMBED], "worker", 60):
            taken.append(job.subject_id)
        return taken

    first, second = at_once(*(partial(work, queue) for queue in queues))
    assert isinstance(first, list) and isinstance(second, list)
    assert sorted(first + second) == list(range(120))


def test_a_node_that_starts_gives_back_its_own_claims_only(
    nodes: tuple[Catalogue, Catalogue], clock: Clock
) -> None:
    queues = [Jobs(node.engine, clock) for node in nodes]
    for subject in (1, 2):
        queues[0].enqueue(JobKind.EMBED, subject)
    for queue, name in zip(queues, ("first", "second"), strict=True):
        assert queue.claim([JobKind.EMBED], name, 60) is not None
    assert queues[0].release("first") == 1
    again = queues[1].claim([JobKind.EMBED], "second", 60)
    assert again is not None
    assert again.subject_id == 1


def test_vectors_of_a_study_that_is_gone_are_not_saved(
    nodes: tuple[Catalogue, Catalogue],
) -> None:
    series_id = record(nodes[0], "1.1", "1").series_id
    nodes[1].forget_study("1.2", lambda kept: None)
    with pytest.raises(UnknownKey):
        nodes[0].save_clips(series_id, 1, MODEL, [clip(0)])
