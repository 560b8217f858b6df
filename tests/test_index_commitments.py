"""Storage commitment in the catalogue: what counts as a refusal, and questions asked twice."""

import pytest
from catalogues import Clock, receive

from index.catalogue import Catalogue
from index.commitments import PeerRequest, Reference, Settlement
from index.jobs import JobKind, Jobs
from index.report_records import NewReport, ReportState

ATTEMPTS = 2
CT = "1.2.840.10008.5.1.4.1.1.2"


def sent_report(catalogue: Catalogue) -> int:
    report_id = catalogue.save_report(
        NewReport(
            study_id=receive(catalogue, 1).study_id,
            revision=1,
            destination="PACS",
            sop_instance_uid="2.25.10",
            series_instance_uid="2.25.20",
            relative_path="2.25.10.dcm",
            model_id="model",
            cases=(),
        )
    )
    catalogue.move_report(report_id, ReportState.SENT)
    return report_id


def deny(catalogue: Catalogue, transaction_uid: str) -> Settlement:
    return catalogue.settle_commitment(
        transaction_uid,
        committed=(),
        failed=("2.25.10",),
        attempts=ATTEMPTS,
        pause_s=lambda times: 10.0 * times,
    )


def test_silence_is_no_refusal_however_often_it_was_asked(
    catalogue: Catalogue, clock: Clock
) -> None:
    report_id = sent_report(catalogue)
    for number in range(5):
        catalogue.ask_commitment(report_id, f"2.25.3.{number}")

    assert deny(catalogue, "2.25.3.4") is Settlement.LACKING
    assert Jobs(catalogue.engine, clock).next_due_s([JobKind.SEND]) == 10.0

    catalogue.move_report(report_id, ReportState.SENT)
    catalogue.ask_commitment(report_id, "2.25.3.5")
    assert deny(catalogue, "2.25.3.5") is Settlement.GIVEN_UP


@pytest.mark.parametrize("answered", ["2.25.3.1", "2.25.3.2"])
def test_an_answer_that_comes_twice_or_late_says_nothing_of_what_was_sent_since(
    catalogue: Catalogue, answered: str
) -> None:
    report_id = sent_report(catalogue)
    for uid in ("2.25.3.1", "2.25.3.2"):
        assert catalogue.ask_commitment(report_id, uid)
    assert deny(catalogue, "2.25.3.2") is Settlement.LACKING
    catalogue.move_report(report_id, ReportState.SENT)

    for _ in range(ATTEMPTS):
        assert deny(catalogue, answered) is Settlement.SETTLED

    report = catalogue.report(report_id)
    assert report is not None
    assert report.state is ReportState.SENT
    assert catalogue.ask_commitment(report_id, "2.25.3.3")
    assert deny(catalogue, "2.25.3.3") is Settlement.GIVEN_UP


def test_a_report_that_is_to_be_sent_again_is_not_asked_about(catalogue: Catalogue) -> None:
    report_id = sent_report(catalogue)
    catalogue.ask_commitment(report_id, "2.25.3.1")
    deny(catalogue, "2.25.3.1")

    assert not catalogue.ask_commitment(report_id, "2.25.3.2")
    assert deny(catalogue, "2.25.3.2") is Settlement.UNKNOWN


def test_a_question_that_is_asked_again_while_it_is_answered_is_answered_again(
    catalogue: Catalogue, clock: Clock
) -> None:
    jobs = Jobs(catalogue.engine, clock)
    first, second = Reference(CT, "1.2.3"), Reference(CT, "1.2.4")
    key = catalogue.save_request(PeerRequest("2.25.1", "MODALITY", (first,)), delay_s=0)
    job = jobs.claim([JobKind.ANSWER], "worker", 60)
    assert job is not None

    again = PeerRequest("2.25.1", "MODALITY", (first, second))
    assert catalogue.save_request(again, delay_s=0) == key
    catalogue.drop_request(key)
    jobs.finish(job)

    job = jobs.claim([JobKind.ANSWER], "worker", 60)
    assert job is not None
    assert catalogue.peer_request(job.subject_id) == again
    catalogue.drop_request(key)
    jobs.finish(job)
    assert catalogue.peer_request(key) is None
    assert jobs.claim([JobKind.ANSWER], "worker", 60) is None
