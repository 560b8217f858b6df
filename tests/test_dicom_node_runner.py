"""Jobs done one by one: what fails is tried again, given back or given up."""

import pytest
from catalogues import Clock, open_catalogue

from dicom_node.errors import SendFailed, WorkerStopped, WorkerUnavailable
from dicom_node.runner import Patience, Runner
from index.errors import DatabaseUnavailable, StudyChanged
from index.jobs import Job, JobKind, Jobs

KINDS = (JobKind.SEND,)


class Failing:
    """A step that raises what it is given, and remembers what it gave up."""

    kind = JobKind.SEND
    lease_s = 60.0
    patience = Patience(attempts=3, first_s=5, longest_s=8)

    def __init__(self, error: Exception | None) -> None:
        self.error = error
        self.given_up: list[str] = []

    def run(self, job: Job) -> None:
        if self.error is not None:
            raise self.error

    def give_up(self, job: Job, reason: str) -> None:
        self.given_up.append(reason)


@pytest.fixture
def jobs(database_url: str, clock: Clock) -> Jobs:
    queue = Jobs(open_catalogue(database_url, clock).engine, clock)
    queue.enqueue(JobKind.SEND, 1)
    return queue


def test_a_job_done_is_gone(jobs: Jobs) -> None:
    runner = Runner(jobs, "node")

    assert runner.next(Failing(None))
    assert not runner.next(Failing(None))
    assert jobs.pending(KINDS) == 0


def test_pauses_double_up_to_the_longest_and_the_last_failure_gives_up(
    jobs: Jobs, clock: Clock
) -> None:
    runner, step = Runner(jobs, "node"), Failing(SendFailed("pacs", "status A700"))

    pauses = []
    for _ in range(2):
        assert runner.next(step)
        pauses.append(jobs.next_due_s(KINDS))
        clock.advance(pauses[-1] or 0)
    assert step.given_up == []
    assert runner.next(step)

    assert pauses == [5, 8]
    assert step.given_up == ["pacs did not take the object: status A700"]
    assert jobs.pending(KINDS) == 0


def test_an_unexpected_error_is_a_failure_like_any_other(jobs: Jobs) -> None:
    runner, step = Runner(jobs, "node"), Failing(ZeroDivisionError("Doe^John"))

    assert runner.next(step)

    assert jobs.next_due_s(KINDS) == 5


@pytest.mark.parametrize(
    ("error", "due_s"),
    [(WorkerUnavailable("no memory"), 30), (WorkerStopped(), 0), (StudyChanged(1), 5)],
)
def test_what_is_no_fault_of_the_job_does_not_count(
    jobs: Jobs, clock: Clock, error: Exception, due_s: float
) -> None:
    runner, step = Runner(jobs, "node"), Failing(error)

    for _ in range(5):
        runner.next(step)
        assert jobs.next_due_s(KINDS) == due_s
        clock.advance(due_s)

    assert step.given_up == []
    job = jobs.claim(KINDS, "node", 60)
    assert job is not None
    assert job.attempts == 1


def test_a_database_that_is_away_gives_the_job_back_and_says_so(jobs: Jobs) -> None:
    step = Failing(DatabaseUnavailable("sqlite://", "locked"))

    runner = Runner(jobs, "node")
    with pytest.raises(DatabaseUnavailable):
        runner.next(step)

    step.error = None
    assert runner.next(step)  # at once, not when its lease has run out
    assert jobs.pending(KINDS) == 0


def test_a_job_that_could_not_even_be_given_back_is_done_when_the_database_is_there_again(
    jobs: Jobs, monkeypatch: pytest.MonkeyPatch
) -> None:
    runner, step = Runner(jobs, "node"), Failing(None)

    def full(*arguments: object, **named: object) -> bool:
        raise DatabaseUnavailable("sqlite://", "database or disk is full")

    with monkeypatch.context() as patched:
        patched.setattr(Jobs, "finish", full)
        patched.setattr(Jobs, "give_back", full)
        for _ in range(2):
            with pytest.raises(DatabaseUnavailable):
                runner.next(step)

    assert runner.next(step)
    assert jobs.pending(KINDS) == 0
