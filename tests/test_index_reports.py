"""Reports as rows: what was said, about whom, and how far it has come."""

from itertools import product

import pytest
from catalogues import MODEL, Clock, receive

from index.catalogue import Catalogue
from index.errors import StudyChanged, UnknownKey
from index.jobs import JobKind, Jobs
from index.report_records import NewReport, ReportedCase, ReportFile, ReportState
from index.reports import PRECEDING


def new_report(study_id: int, uid: str, *, predecessor: str = "", revision: int = 1) -> NewReport:
    return NewReport(
        study_id=study_id,
        revision=revision,
        destination="PACS",
        sop_instance_uid=uid,
        series_instance_uid="2.25.1",
        relative_path=f"reports/{uid}.dcm",
        model_id=MODEL,
        cases=(ReportedCase(1, 0.9, "1.3"), ReportedCase(2, 0.8, "1.4")),
        attachments=(ReportFile(f"{uid}.1", "1.2.840.10008.5.1.4.1.1.7", f"reports/{uid}.1.dcm"),),
        predecessor=predecessor,
    )


def test_a_report_supersedes_the_one_before(catalogue: Catalogue, clock: Clock) -> None:
    study_id = receive(catalogue, 1).study_id
    assert catalogue.last_report(study_id, "PACS") is None
    catalogue.save_report(new_report(study_id, "2.25.10"))
    clock.advance(5)
    second = catalogue.save_report(new_report(study_id, "2.25.11", predecessor="2.25.10"))

    last = catalogue.last_report(study_id, "PACS")
    assert last is not None
    assert last == catalogue.report(second)
    assert (last.number, last.predecessor, last.created_at) == (2, "2.25.10", clock.now)
    assert last.cases == (ReportedCase(1, 0.9, "1.3"), ReportedCase(2, 0.8, "1.4"))
    assert catalogue.last_report(study_id, "OTHER") is None


def test_own_objects_are_known_again(catalogue: Catalogue) -> None:
    study_id = receive(catalogue, 1).study_id
    report_id = catalogue.save_report(new_report(study_id, "2.25.10"))
    found = [catalogue.report_of(uid) for uid in ("2.25.10", "2.25.10.1", "1.2.1.1")]
    assert [row and row.id for row in found] == [report_id, report_id, None]


def test_reports_that_name_a_study_are_found(catalogue: Catalogue) -> None:
    study_id = receive(catalogue, 1).study_id
    catalogue.save_report(new_report(study_id, "2.25.10"))
    assert [row.sop_instance_uid for row in catalogue.reports_naming("1.4")] == ["2.25.10"]
    assert catalogue.reports_naming("1.2") == ()


def test_a_saved_report_is_queued_and_its_state_kept(catalogue: Catalogue, clock: Clock) -> None:
    study_id = receive(catalogue, 1).study_id
    report_id = catalogue.save_report(new_report(study_id, "2.25.10"))
    job = Jobs(catalogue.engine, clock).claim([JobKind.SEND], "worker", 60)
    assert job is not None
    assert (job.subject_id, job.destination) == (report_id, "PACS")
    assert catalogue.move_report(report_id, ReportState.SENT)
    report = catalogue.report(report_id)
    assert report is not None
    assert report.state is ReportState.SENT
    assert catalogue.counts().reports == {"sent": 1}


# The way from CREATED into each state.
WAYS = {
    ReportState.CREATED: (),
    ReportState.SENT: (ReportState.SENT,),
    ReportState.COMMITTED: (ReportState.SENT, ReportState.COMMITTED),
    ReportState.FAILED: (ReportState.FAILED,),
    ReportState.OUTDATED: (ReportState.OUTDATED,),
}


@pytest.mark.parametrize(("before", "after"), list(product(ReportState, repeat=2)))
def test_a_report_goes_from_state_to_state_as_the_table_says(
    catalogue: Catalogue, before: ReportState, after: ReportState
) -> None:
    report_id = catalogue.save_report(new_report(receive(catalogue, 1).study_id, "2.25.10"))
    for state in WAYS[before]:
        assert catalogue.move_report(report_id, state)

    moved = catalogue.move_report(report_id, after)

    assert moved is (before in PRECEDING[after])
    report = catalogue.report(report_id)
    assert report is not None
    assert report.state is (after if moved else before)


def test_what_sending_says_last_undoes_neither_a_promise_nor_that_a_report_holds_no_longer() -> (
    None
):
    final = {ReportState.COMMITTED, ReportState.OUTDATED}
    for state in (ReportState.CREATED, ReportState.SENT, ReportState.FAILED):
        assert PRECEDING[state].isdisjoint(final)


def test_a_report_on_a_study_that_changed_or_went_is_not_saved(catalogue: Catalogue) -> None:
    study_id = receive(catalogue, 1).study_id
    receive(catalogue, 2)
    with pytest.raises(StudyChanged):
        catalogue.save_report(new_report(study_id, "2.25.10", revision=1))
    catalogue.save_report(new_report(study_id, "2.25.10", revision=2))

    receive(catalogue, 1, series=2)
    with pytest.raises(StudyChanged):
        catalogue.save_report(new_report(study_id, "2.25.11", revision=2))

    catalogue.forget_study("1.2", lambda kept: None)
    with pytest.raises(UnknownKey):
        catalogue.save_report(new_report(study_id, "2.25.11", revision=3))
