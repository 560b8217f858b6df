"""How series and studies move on: timers, vectors, studies."""

from dataclasses import replace

import numpy as np
import pytest
from catalogues import MODEL, RULE, Clock, clip, receive, statements
from sqlalchemy import select

from index.catalogue import Catalogue
from index.errors import BadVector, UnknownKey, UnknownTransition
from index.jobs import JobKind, Jobs
from index.models import Embedding
from index.records import ClipRecord, PatientKey
from index.states import State


def embed(catalogue: Catalogue, series_id: int, *clips: ClipRecord) -> tuple[int, ...]:
    revision = catalogue.series_files(series_id).revision
    ids = catalogue.save_clips(series_id, revision, MODEL, clips)
    if ids:
        catalogue.mark_indexed(series_id, revision)
    return ids


def study_state(catalogue: Catalogue) -> State:
    study = catalogue.study_row("1.2")
    assert study is not None
    return study.state


# --- timers --------------------------------------------------------------------------------


def test_a_series_is_quiet_once_its_wait_has_passed(catalogue: Catalogue, clock: Clock) -> None:
    receive(catalogue, 1)
    clock.advance(29)
    assert catalogue.close_quiet() == 0
    receive(catalogue, 2)
    clock.advance(29)
    assert catalogue.close_quiet() == 0
    clock.advance(1)
    assert catalogue.close_quiet() == 1
    assert catalogue.close_quiet() == 0


def test_a_trickle_cannot_starve_a_series(catalogue: Catalogue, clock: Clock) -> None:
    fired_after = None
    for number in range(60):
        receive(catalogue, number)
        clock.advance(20)
        if catalogue.close_quiet():
            fired_after = (number + 1) * 20
            break
    assert fired_after == RULE.cap_s


def test_a_new_burst_waits_anew(catalogue: Catalogue, clock: Clock) -> None:
    receive(catalogue, 1)
    clock.advance(10_000)
    assert catalogue.close_quiet() == 1
    receive(catalogue, 2)
    clock.advance(29)
    assert catalogue.close_quiet() == 0


def test_force_waits_for_nothing(catalogue: Catalogue) -> None:
    receive(catalogue, 1)
    assert catalogue.close_quiet(force=True) == 1


def test_a_quiet_series_has_one_job(catalogue: Catalogue, clock: Clock) -> None:
    series_id = receive(catalogue, 1).series_id
    catalogue.close_quiet(force=True)
    receive(catalogue, 2)
    catalogue.close_quiet(force=True)
    jobs = Jobs(catalogue.engine, clock)
    job = jobs.claim([JobKind.EMBED], "worker", 60)
    assert job is not None
    assert job.subject_id == series_id
    assert jobs.claim([JobKind.EMBED], "worker", 60) is None


def test_a_study_that_nobody_waits_for_is_indexed_and_not_reported(
    catalogue: Catalogue, clock: Clock
) -> None:
    silent = replace(RULE, study_s=None)
    series_id = receive(catalogue, 1, rule=silent).series_id
    catalogue.close_quiet(force=True)
    embed(catalogue, series_id, clip(0))
    assert study_state(catalogue) is State.INDEXED
    assert catalogue.close_studies(force=True) == 0

    receive(catalogue, 2)  # a push
    clock.advance(60)
    receive(catalogue, 3, rule=silent)
    clock.advance(59)
    catalogue.close_quiet(force=True)
    embed(catalogue, series_id, clip(0))
    assert catalogue.close_studies() == 0
    clock.advance(1)
    assert catalogue.close_studies() == 1, "the timer of the push ran on"


def test_a_quarantined_series_can_be_tried_again(catalogue: Catalogue, clock: Clock) -> None:
    first, other = (receive(catalogue, 1, series=n).series_id for n in (1, 2))
    catalogue.close_quiet(force=True)
    jobs = Jobs(catalogue.engine, clock)
    for series_id in (first, other):
        catalogue.quarantine(series_id, 1, "a reason")
    while job := jobs.claim([JobKind.EMBED], "worker", 60):
        jobs.fail(job, "a reason")

    assert catalogue.retry_quarantined(["1.2.2", "9.9"]) == ("1.2.2",)
    assert jobs.pending([JobKind.EMBED]) == 1
    assert catalogue.retry_quarantined() == ("1.2.1", "1.2.2")
    assert jobs.pending([JobKind.EMBED]) == 2
    embed(catalogue, first, clip(0))

    assert catalogue.counts().series == {"indexed": 1, "quarantined": 1}
    assert [each.series_instance_uid for each in catalogue.counts().quarantined] == ["1.2.2"]
    assert study_state(catalogue) is State.INDEXED
    assert catalogue.close_studies(force=True) == 0, "it was given up as unreadable: no report"


# --- embedding -----------------------------------------------------------------------------


def test_saved_vectors_come_back_bit_for_bit(catalogue: Catalogue) -> None:
    series_id = receive(catalogue, 1).series_id
    rng = np.random.default_rng(0)
    rows = rng.standard_normal((3, 384)).astype(np.float32)
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    clips = [ClipRecord("still", 1, (f"1.2.1.{n}",), row) for n, row in enumerate(rows)]
    ids = catalogue.save_clips(series_id, 1, MODEL, clips)

    found, vectors = catalogue.vectors([ids[2], 999, ids[0]])
    assert found.tolist() == [ids[2], ids[0]]
    assert np.array_equal(vectors, rows[[2, 0]])
    assert catalogue.embedding_ids(MODEL).tolist() == list(ids)
    assert catalogue.newest_embedding(MODEL) == max(ids)
    query = catalogue.study_query("1.2", MODEL)
    assert query is not None
    assert np.array_equal(query.vectors, rows)
    assert query.patient == PatientKey("P1", "HOSPITAL")
    assert [row.sources for row in query.rows] == [clip.sources for clip in clips]


def test_the_decoder_of_a_clip_is_kept_with_its_vector(catalogue: Catalogue) -> None:
    series_id = receive(catalogue, 1).series_id
    record = replace(clip(0), decoder="pylibjpeg")
    catalogue.save_clips(series_id, 1, MODEL, [record, replace(clip(1), decoder="pillow pydicom")])
    with catalogue.engine.connect() as connection:
        kept = connection.execute(select(Embedding.decoder).order_by(Embedding.id)).scalars()
        assert list(kept) == ["pylibjpeg", "pillow pydicom"]


def test_patient_and_revision_of_a_query_are_of_one_moment(catalogue: Catalogue) -> None:
    """PostgreSQL shows each statement the rows as they are when it begins."""
    embed(catalogue, receive(catalogue, 1).series_id, clip(0))
    with statements(catalogue) as run:
        query = catalogue.study_query("1.2", MODEL)

    assert query is not None
    assert (query.patient, query.revision) == (PatientKey("P1", "HOSPITAL"), 1)
    first, *others = map(str, run)
    assert "study.patient_id" in first and "sum(series.revision)" in first
    assert not any("patient_id" in other or "revision)" in other for other in others)


def test_embedding_ids_are_never_given_twice(catalogue: Catalogue) -> None:
    series_id = receive(catalogue, 1).series_id
    seen: set[int] = set()
    for _ in range(3):
        ids = catalogue.save_clips(series_id, 1, MODEL, [clip(0), clip(1)])
        assert not seen & set(ids)
        seen |= set(ids)
    assert catalogue.counts().embeddings == {MODEL: 2}
    assert catalogue.counts().clips == 2


def test_a_late_instance_during_embedding_keeps_the_series_dirty(catalogue: Catalogue) -> None:
    series_id = receive(catalogue, 1).series_id
    catalogue.close_quiet(force=True)
    receive(catalogue, 2)

    assert catalogue.save_clips(series_id, 1, MODEL, [clip(0)])
    assert catalogue.mark_indexed(series_id, 1) is State.DIRTY
    assert catalogue.quarantine(series_id, 1, "too late to matter") is State.DIRTY
    assert catalogue.counts().embeddings == {MODEL: 1}


def test_clips_of_an_older_revision_do_not_replace_newer_ones(catalogue: Catalogue) -> None:
    series_id = receive(catalogue, 1).series_id
    receive(catalogue, 2)
    newer = catalogue.save_clips(series_id, 2, MODEL, [clip(0)])
    assert catalogue.save_clips(series_id, 1, MODEL, [clip(1)]) == ()
    assert np.array_equal(catalogue.vectors(newer)[1][0], clip(0).vector)


def test_two_models_share_the_clips_but_not_the_vectors(catalogue: Catalogue) -> None:
    series_id = receive(catalogue, 1).series_id
    embed(catalogue, series_id, clip(0))
    assert catalogue.series_lacking("another") == (series_id,)
    catalogue.save_clips(series_id, 1, "another", [clip(1)])
    assert catalogue.series_lacking("another") == ()
    assert catalogue.counts().clips == 1
    assert catalogue.counts().embeddings == {MODEL: 1, "another": 1}
    assert catalogue.counts().series == {State.INDEXED: 1}


def test_quarantine_keeps_the_reason_and_drops_the_vectors(catalogue: Catalogue) -> None:
    series_id = receive(catalogue, 1).series_id
    embed(catalogue, series_id, clip(0))
    receive(catalogue, 2)
    catalogue.quarantine(series_id, 2, "The pixel data is cut short.")
    counts = catalogue.counts()
    assert [(q.series_instance_uid, q.reason) for q in counts.quarantined] == [
        ("1.2.1", "The pixel data is cut short.")
    ]
    assert counts.embeddings == {}
    receive(catalogue, 3)
    assert catalogue.counts().series == {State.DIRTY: 1}


@pytest.mark.parametrize(
    "vector",
    [np.zeros(8), np.full(8, np.nan), np.full(8, 1.0), np.array([np.inf] + [0.0] * 7)],
    ids=["zero", "nan", "long", "infinite"],
)
def test_an_unfit_vector_is_refused_and_nothing_is_saved(
    catalogue: Catalogue, vector: np.ndarray
) -> None:
    series_id = receive(catalogue, 1).series_id
    bad = ClipRecord("still", 1, ("1.2.1.1",), vector.astype(np.float32))
    with pytest.raises(BadVector):
        catalogue.save_clips(series_id, 1, MODEL, [clip(0), bad])
    assert catalogue.counts().clips == 0


def test_an_unknown_series_is_told(catalogue: Catalogue) -> None:
    with pytest.raises(UnknownKey, match="series 7"):
        catalogue.series_files(7)
    with pytest.raises(UnknownKey, match="series 7"):
        catalogue.mark_indexed(7, 1)


# --- studies -------------------------------------------------------------------------------


def test_a_study_is_indexed_with_the_last_of_its_series(catalogue: Catalogue) -> None:
    first = receive(catalogue, 1, series=1).series_id
    second = receive(catalogue, 1, series=2).series_id
    embed(catalogue, first, clip(0))
    assert study_state(catalogue) is State.RECEIVING
    embed(catalogue, second)
    assert study_state(catalogue) is State.INDEXED


def test_a_study_without_any_vector_is_put_aside(catalogue: Catalogue) -> None:
    first = receive(catalogue, 1, series=1).series_id
    second = receive(catalogue, 1, series=2).series_id
    catalogue.skip(first, 1, "A report holds no pixels.")
    catalogue.skip(second, 1, "A report holds no pixels.")
    assert study_state(catalogue) is State.SKIPPED
    receive(catalogue, 2, series=2)
    assert study_state(catalogue) is State.DIRTY
    catalogue.quarantine(second, 2, "Unreadable.")
    assert study_state(catalogue) is State.QUARANTINED
    assert catalogue.close_studies(force=True) == 0


def test_a_report_is_asked_for_once_when_the_study_is_quiet(
    catalogue: Catalogue, clock: Clock
) -> None:
    recorded = receive(catalogue, 1)
    embed(catalogue, recorded.series_id, clip(0))
    assert catalogue.close_studies() == 0
    clock.advance(120)
    assert catalogue.close_studies() == 1
    assert catalogue.close_studies() == 0
    job = Jobs(catalogue.engine, clock).claim([JobKind.REPORT], "worker", 60)
    assert job is not None
    assert job.subject_id == recorded.study_id


def test_a_late_instance_asks_for_another_report(catalogue: Catalogue) -> None:
    recorded = receive(catalogue, 1)
    embed(catalogue, recorded.series_id, clip(0))
    catalogue.close_studies(force=True)
    assert catalogue.mark_reported(recorded.study_id) is State.REPORTED

    receive(catalogue, 2)
    assert study_state(catalogue) is State.DIRTY
    assert catalogue.close_studies(force=True) == 0
    embed(catalogue, recorded.series_id, clip(1))
    assert catalogue.close_studies(force=True) == 1


def test_a_report_overtaken_by_a_late_instance_is_followed_by_another(
    catalogue: Catalogue,
) -> None:
    recorded = receive(catalogue, 1)
    embed(catalogue, recorded.series_id, clip(0))
    catalogue.close_studies(force=True)
    receive(catalogue, 2)
    embed(catalogue, recorded.series_id, clip(1))
    assert catalogue.mark_reported(recorded.study_id) is State.REPORTED
    assert catalogue.close_studies(force=True) == 1


def test_a_study_that_is_still_received_cannot_be_reported(catalogue: Catalogue) -> None:
    recorded = receive(catalogue, 1)
    with pytest.raises(UnknownTransition):
        catalogue.mark_reported(recorded.study_id)


def test_a_study_is_found_by_its_accession_number(catalogue: Catalogue) -> None:
    receive(catalogue, 1)
    assert catalogue.find_study_by_accession("ACC1") == ("1.2",)
    assert catalogue.find_study_by_accession("") == ()
