import threading

import pytest
from catalogues import Clock, open_catalogue

from index.db import connect
from index.jobs import Job, JobKind, Jobs

KINDS = [JobKind.EMBED]


@pytest.fixture
def jobs(database_url: str, clock: Clock) -> Jobs:
    return Jobs(open_catalogue(database_url, clock).engine, clock)


def claim(jobs: Jobs, worker: str = "worker") -> Job:
    job = jobs.claim(KINDS, worker, lease_s=60)
    assert job is not None
    return job


def test_asking_twice_makes_one_job(jobs: Jobs) -> None:
    jobs.enqueue(JobKind.EMBED, 1)
    jobs.enqueue(JobKind.EMBED, 1)
    assert jobs.pending(KINDS) == 1
    assert claim(jobs).attempts == 1
    assert jobs.claim(KINDS, "worker", 60) is None


def test_destinations_are_jobs_of_their_own(jobs: Jobs) -> None:
    jobs.enqueue(JobKind.SEND, 1, destination="A")
    jobs.enqueue(JobKind.SEND, 1, destination="B")
    assert jobs.pending([JobKind.SEND]) == 2
    assert jobs.pending(KINDS) == 0


def test_a_finished_job_is_gone(jobs: Jobs) -> None:
    jobs.enqueue(JobKind.EMBED, 1)
    assert jobs.finish(claim(jobs))
    assert jobs.pending(KINDS) == 0
    assert jobs.next_due_s(KINDS) is None


def test_a_job_asked_for_while_it_runs_runs_again(jobs: Jobs) -> None:
    jobs.enqueue(JobKind.EMBED, 1)
    running = claim(jobs)
    jobs.enqueue(JobKind.EMBED, 1)
    assert jobs.claim(KINDS, "other", 60) is None
    assert jobs.finish(running)
    again = claim(jobs)
    assert (again.subject_id, again.attempts) == (1, 1)
    assert jobs.finish(again)
    assert jobs.pending(KINDS) == 0


def test_a_job_whose_lease_ran_out_is_taken_by_another_and_lost_to_the_first(
    jobs: Jobs, clock: Clock
) -> None:
    jobs.enqueue(JobKind.EMBED, 1)
    first = claim(jobs, "first")
    clock.advance(61)
    second = claim(jobs, "second")
    assert second.attempts == 2
    assert not jobs.give_back(first, 0)
    assert not jobs.finish(first)
    assert not jobs.fail(first, "late")
    assert not jobs.retry(first, "late", 0)
    assert jobs.finish(second)


def test_a_worker_that_starts_again_takes_up_what_it_left(jobs: Jobs) -> None:
    for subject in (1, 2):
        jobs.enqueue(JobKind.EMBED, subject)
    left, others = claim(jobs, "node"), claim(jobs, "another")
    assert jobs.release("node") == 1
    again = claim(jobs, "node")
    assert (again.subject_id, again.attempts) == (left.subject_id, 1)
    assert not jobs.finish(left)
    assert jobs.finish(again)
    assert jobs.finish(others)


def test_a_retry_waits_and_counts(jobs: Jobs, clock: Clock) -> None:
    jobs.enqueue(JobKind.EMBED, 1)
    jobs.retry(claim(jobs), "no answer", delay_s=10)
    assert jobs.claim(KINDS, "worker", 60) is None
    assert jobs.next_due_s(KINDS) == 10
    clock.advance(10)
    assert claim(jobs).attempts == 2


def test_a_failed_job_stays_away_until_it_is_asked_for_again(jobs: Jobs, clock: Clock) -> None:
    jobs.enqueue(JobKind.EMBED, 1)
    jobs.fail(claim(jobs), "unreadable")
    clock.advance(10_000)
    assert jobs.claim(KINDS, "worker", 60) is None
    jobs.enqueue(JobKind.EMBED, 1)
    assert claim(jobs).attempts == 1


def test_the_job_due_longest_comes_first(jobs: Jobs, clock: Clock) -> None:
    jobs.enqueue(JobKind.EMBED, 1, delay_s=20)
    jobs.enqueue(JobKind.EMBED, 2, delay_s=10)
    assert jobs.claim(KINDS, "worker", 60) is None
    clock.advance(30)
    assert [claim(jobs).subject_id, claim(jobs).subject_id] == [2, 1]


def test_two_workers_never_get_the_same_job(jobs: Jobs, database_url: str, clock: Clock) -> None:
    for subject in range(60):
        jobs.enqueue(JobKind.EMBED, subject)
    taken: list[int] = []

    def work(name: str) -> None:
        own = Jobs(connect(database_url), clock)  # as another process
        while (job := own.claim(KINDS, name, 60)) is not None:
            taken.append(job.subject_id)
        own.engine.dispose()

    threads = [threading.Thread(target=work, args=(f"worker {n}",)) for n in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(taken) == list(range(60))


def test_a_job_given_back_is_due_later_and_its_attempt_does_not_count(
    jobs: Jobs, clock: Clock
) -> None:
    jobs.enqueue(JobKind.EMBED, 1)
    assert jobs.give_back(claim(jobs), delay_s=30)
    assert jobs.claim(KINDS, "worker", 60) is None
    clock.advance(30)
    assert claim(jobs).attempts == 1
