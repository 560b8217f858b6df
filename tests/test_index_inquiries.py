"""Guests in the catalogue: who asks, when they are answered, when they go, and how they stay."""

import pytest
from catalogues import MODEL, RULE, Clock, clip, open_catalogue, statements
from sqlalchemy.dialects import postgresql

from index.catalogue import Catalogue
from index.errors import KeptElsewhere
from index.facets import Facets
from index.gallery import conditions
from index.jobs import Job, JobKind, Jobs
from index.matching import Selection
from index.records import Header, NewReport, Query, QuietRule, Receipt, Recorded, StoredFile
from index.rejections import Rejects
from index.removal import Belongings

STAY_S = 3600.0


def header(number: int, *, study: str = "1.2") -> Header:
    return Header(
        study_instance_uid=study,
        series_instance_uid=f"{study}.1",
        sop_instance_uid=f"1.9.{number}",
        sop_class_uid="1.2.840.10008.5.1.4.1.1.2",
        transfer_syntax_uid="1.2.840.10008.1.2.1",
        patient_id="P1",
        accession_number="ACC1",
    )


def receive(
    catalogue: Catalogue, number: int, *, asked_by: str = "", rule: QuietRule = RULE
) -> Recorded:
    stored = StoredFile(f"files/{number}.dcm", f"{number:064}", 1024)
    if not asked_by:
        return catalogue.record(header(number), stored, rule)
    recorded = ask(catalogue, header(number), stored, rule)
    assert recorded is not None
    return recorded


def ask(
    catalogue: Catalogue,
    head: Header,
    stored: StoredFile,
    rule: QuietRule = RULE,
    erased: list[str] | None = None,
) -> Recorded | None:
    """Enter an instance that the ward sends as a query."""
    paths = erased if erased is not None else []
    return catalogue.record_query(
        head, stored, rule, asked_by="ward", erase=lambda: paths.append(stored.relative_path)
    )


def settle(catalogue: Catalogue, recorded: Recorded) -> None:
    """Embed a study of one series."""
    catalogue.close_quiet(force=True)
    revision = catalogue.series_files(recorded.series_id).revision
    catalogue.save_clips(recorded.series_id, revision, MODEL, [clip(0, sources=("1.9.1",))])
    catalogue.mark_indexed(recorded.series_id, revision)
    finish(catalogue, JobKind.EMBED)


def finish(catalogue: Catalogue, *kinds: JobKind) -> list[Job]:
    """Claim and end all jobs that are due."""
    jobs = Jobs(catalogue.engine, catalogue._clock)
    done = []
    while job := jobs.claim(kinds, "tester", 60):
        done.append(job)
        jobs.finish(job)
    return done


def report(catalogue: Catalogue, study_id: int, destination: str) -> None:
    catalogue.save_report(
        NewReport(
            study_id=study_id,
            revision=1,
            destination=destination,
            sop_instance_uid="1.3.1",
            series_instance_uid="1.3",
            relative_path="1.3.1.dcm",
            model_id=MODEL,
        )
    )


def answered_guest(catalogue: Catalogue, clock: Clock) -> Recorded:
    """Take a guest in and send its report."""
    guest = receive(catalogue, 1, asked_by="ward")
    settle(catalogue, guest)
    clock.advance(RULE.cap_s)
    assert catalogue.close_inquiries() == 1
    assert [job.destination for job in finish(catalogue, JobKind.REPORT)] == ["ward"]
    report(catalogue, guest.study_id, "ward")
    finish(catalogue, JobKind.SEND)
    return guest


def gone(catalogue: Catalogue) -> list[Belongings]:
    erased: list[Belongings] = []
    for study in catalogue.due_guests():
        catalogue.forget_guest(study, erased.append)
    return erased


def found(catalogue: Catalogue) -> list[object]:
    """Return every place where a study can be met by others."""
    facets = Facets(MODEL)
    facets.follow(catalogue)
    return [
        list(facets.allowed(conditions(Query(vectors=clip(0).vector[None])))),
        list(catalogue.matching_studies([])),
        list(catalogue.studies_with(series="1.2.1", image="")),
        list(catalogue.find_study_by_accession("ACC1")),
        list(catalogue.selected_files(Selection(studies=("1.2",)))),
        list(catalogue.selected_reports(Selection(studies=("1.2",)))),
        list(catalogue.embedded_clips()),
        [each for each in [catalogue.kept_version("1.9.1")] if each is not None],
    ]


def test_a_guest_is_found_nowhere_until_it_is_kept(catalogue: Catalogue, clock: Clock) -> None:
    answered_guest(catalogue, clock)
    assert found(catalogue) == [[]] * 8
    assert catalogue.study_query("1.2", MODEL) is not None, "it is compared with others"

    assert receive(catalogue, 1).receipt is Receipt.DUPLICATE
    assert [len(places) for places in found(catalogue)] == [1] * 8


def test_an_inquiry_waits_for_silence_and_for_the_vectors(
    catalogue: Catalogue, clock: Clock
) -> None:
    receive(catalogue, 1, asked_by="ward")
    clock.advance(RULE.series_s)
    guest = receive(catalogue, 2, asked_by="ward")
    clock.advance(RULE.series_s + 91)
    assert catalogue.close_inquiries() == 0, "the second instance wound the timer"
    clock.advance(RULE.cap_s)
    assert catalogue.close_inquiries() == 0, "there is nothing to compare yet"

    settle(catalogue, guest)

    assert catalogue.close_inquiries() == 1
    assert catalogue.close_studies(force=True) == 0, "no one else is told of a guest"
    (job,) = finish(catalogue, JobKind.REPORT)
    assert (job.subject_id, job.destination) == (guest.study_id, "ward")


def test_a_trickle_of_instances_delays_an_inquiry_no_longer_than_the_cap(
    catalogue: Catalogue, clock: Clock
) -> None:
    for number in range(1, 9):
        guest = receive(catalogue, number, asked_by="ward")
        clock.advance(RULE.cap_s / 8)
    settle(catalogue, guest)

    assert catalogue.close_inquiries() == 1


def test_a_guest_goes_some_time_after_its_report_was_sent_restart_or_not(
    catalogue: Catalogue, clock: Clock, database_url: str
) -> None:
    guest = receive(catalogue, 1, asked_by="ward")
    assert catalogue.time_guests(STAY_S) == 0, "it is not embedded"
    settle(catalogue, guest)
    assert catalogue.time_guests(STAY_S) == 0, "its report is not asked for"
    clock.advance(RULE.cap_s)
    catalogue.close_inquiries()
    assert catalogue.time_guests(STAY_S) == 0, "its report is not made"
    finish(catalogue, JobKind.REPORT)
    report(catalogue, guest.study_id, "ward")
    assert catalogue.time_guests(STAY_S) == 0, "its report is not sent"
    finish(catalogue, JobKind.SEND)

    assert (catalogue.time_guests(STAY_S), catalogue.time_guests(STAY_S)) == (1, 0)
    catalogue.engine.dispose()
    catalogue = open_catalogue(database_url, clock)
    clock.advance(STAY_S - 1)
    assert gone(catalogue) == []
    clock.advance(1)
    (erased,) = gone(catalogue)

    assert erased.files == ("files/1.dcm",)
    assert erased.report_files == ("1.3.1.dcm",)
    assert catalogue.study_row("1.2") is None
    counts = catalogue.counts()
    assert (counts.guests, counts.instances, counts.embeddings, counts.jobs) == (0, 0, {}, {})


def test_a_guest_that_cannot_be_read_goes_without_a_report(
    catalogue: Catalogue, clock: Clock
) -> None:
    guest = receive(catalogue, 1, asked_by="ward")
    catalogue.close_quiet(force=True)
    catalogue.quarantine(guest.series_id, 1, "no pixels")
    finish(catalogue, JobKind.EMBED)
    clock.advance(RULE.cap_s)
    catalogue.close_inquiries()
    finish(catalogue, JobKind.REPORT)

    assert catalogue.time_guests(0.0) == 1
    assert len(gone(catalogue)) == 1


@pytest.mark.parametrize("number", [1, 2])  # bytes that it has, and another instance
def test_a_guest_that_is_asked_about_again_stays_until_that_is_answered(
    catalogue: Catalogue, clock: Clock, number: int
) -> None:
    answered_guest(catalogue, clock)
    catalogue.time_guests(STAY_S)

    receive(catalogue, number, asked_by="ward")
    clock.advance(2 * STAY_S)

    assert gone(catalogue) == []
    assert catalogue.counts().guests == 1


def test_a_guest_whose_report_must_be_sent_again_waits_for_that(
    catalogue: Catalogue, clock: Clock
) -> None:
    guest = answered_guest(catalogue, clock)
    catalogue.time_guests(STAY_S)
    last = catalogue.last_report(guest.study_id, "ward")
    assert last is not None
    Jobs(catalogue.engine, clock).enqueue(JobKind.SEND, last.id, destination="ward")
    clock.advance(STAY_S)
    assert gone(catalogue) == []

    finish(catalogue, JobKind.SEND)
    assert len(gone(catalogue)) == 1


@pytest.mark.parametrize("number", [1, 2])
def test_a_guest_that_is_received_is_kept_and_reported_to_all(
    catalogue: Catalogue, clock: Clock, number: int
) -> None:
    guest = answered_guest(catalogue, clock)
    catalogue.time_guests(STAY_S)

    receive(catalogue, number)
    if number != 1:
        settle(catalogue, guest)
    clock.advance(2 * STAY_S)

    assert gone(catalogue) == []
    assert catalogue.counts().guests == 0
    assert catalogue.close_studies() == 1
    assert [job.destination for job in finish(catalogue, JobKind.REPORT)] == [""]


def test_a_guest_that_is_imported_is_kept_and_not_reported(
    catalogue: Catalogue, clock: Clock
) -> None:
    answered_guest(catalogue, clock)

    receive(catalogue, 1, rule=QuietRule(series_s=30, study_s=None, cap_s=600))
    clock.advance(2 * STAY_S)

    assert catalogue.counts().guests == 0
    assert catalogue.close_studies(force=True) == 0


def test_a_kept_study_that_is_asked_about_stays_as_it_is(
    catalogue: Catalogue, clock: Clock
) -> None:
    kept = receive(catalogue, 1, rule=QuietRule(series_s=30, study_s=None, cap_s=600))
    settle(catalogue, kept)

    erased: list[str] = []
    stored = StoredFile("files/2.dcm", f"{2:064}", 1024)
    assert ask(catalogue, header(2), stored, erased=erased) is None
    assert erased == ["files/2.dcm"]
    clock.advance(RULE.cap_s)
    assert catalogue.close_inquiries() == 1
    assert [job.destination for job in finish(catalogue, JobKind.REPORT)] == ["ward"]

    assert catalogue.time_guests(0.0) == 0
    assert gone(catalogue) == []
    assert [row.instances for row in catalogue.matching_studies([])] == [1]


def test_a_rejection_outlives_a_guest(catalogue: Catalogue, clock: Clock) -> None:
    guest = answered_guest(catalogue, clock)
    note = Rejects(code="113001", instances=(("1.2", "1.9.1"),), lasting=True)
    stored = StoredFile("files/9.dcm", f"{9:064}", 1024)
    assert catalogue.record(header(9, study="1.8"), stored, RULE, rejects=note).rejected == 1
    assert catalogue.close_studies(force=True) == 0, "no one else is told of the guest"
    settle_skipped(catalogue, guest)
    catalogue.time_guests(0.0)
    assert len(gone(catalogue)) == 1

    receive(catalogue, 1)

    assert catalogue.instance_file("1.9.1") is None


def settle_skipped(catalogue: Catalogue, recorded: Recorded) -> None:
    """Pass over a study of one series of which nothing is left."""
    catalogue.close_quiet(force=True)
    revision = catalogue.series_files(recorded.series_id).revision
    catalogue.skip(recorded.series_id, revision, "no files")
    finish(catalogue, JobKind.EMBED)


def test_an_instance_of_a_kept_study_is_refused_as_part_of_a_guest(catalogue: Catalogue) -> None:
    receive(catalogue, 1)

    erased: list[str] = []
    same, changed = (StoredFile(f"files/{n}.dcm", f"{n:064}", 1024) for n in (1, 3))
    for stored in (same, changed):
        with pytest.raises(KeptElsewhere, match=r"1\.9\.1 is kept"):
            ask(catalogue, header(1, study="1.7"), stored, erased=erased)

    assert erased == ["files/3.dcm"], "the other one is the kept one's"
    assert catalogue.study_row("1.7") is None
    new = StoredFile("files/2.dcm", f"{2:064}", 1024)
    assert ask(catalogue, header(2, study="1.7"), new) is not None


def test_a_guest_is_held_by_its_uid_while_it_is_asked_about(catalogue: Catalogue) -> None:
    """PostgreSQL locks no row that the condition leaves out."""
    receive(catalogue, 1, asked_by="ward")
    with statements(catalogue) as run:
        receive(catalogue, 2, asked_by="ward")

    statements_run = [str(each.compile(dialect=postgresql.dialect())) for each in run]
    first = next(each for each in statements_run if "study" in each)  # what is read of it
    _, condition = first.split("WHERE")
    assert "study_instance_uid" in condition and "guest" not in condition
    assert condition.endswith("FOR UPDATE")
