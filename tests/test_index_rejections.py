"""Rejections in the catalogue: one that is to last is not forgotten, whatever comes between."""

import pytest
from catalogues import MODEL, RULE, clip

from index.catalogue import Catalogue
from index.records import Header, Recorded, StoredFile
from index.rejections import Rejects

IMAGE = "1.9.1"


def header(uid: str, *, study: str = "1.2", patient: str = "P") -> Header:
    return Header(
        study_instance_uid=study,
        series_instance_uid=f"{study}.1",
        sop_instance_uid=uid,
        sop_class_uid="1.2.840.10008.5.1.4.1.1.2",
        transfer_syntax_uid="1.2.840.10008.1.2.1",
        patient_id=patient,
    )


def stored(content: str) -> StoredFile:
    return StoredFile(f"files/{content}.dcm", content.rjust(64, "0"), 1024)


def receive(
    catalogue: Catalogue, content: str, uid: str = IMAGE, *, study: str = "1.2", patient: str = "P"
) -> Recorded:
    return catalogue.record(header(uid, study=study, patient=patient), stored(content), RULE)


def ask(catalogue: Catalogue, content: str, *, study: str = "1.2", patient: str = "P") -> None:
    """Let a destination send the image as a query."""
    head = header(IMAGE, study=study, patient=patient)
    asked = catalogue.record_query(head, stored(content), RULE, asked_by="ward", erase=lambda: None)
    assert asked is not None


def reject(catalogue: Catalogue, *, patient: str = "P", study: str = "1.2") -> Recorded:
    """Take in a note, in a study of its own, that rejects the image for good."""
    note = Rejects(code="113037", instances=((study, IMAGE),), lasting=True)
    uid = f"1.8.{study}.{patient}"
    head = header(uid, study="1.8", patient=patient)
    return catalogue.record(head, stored(f"note {uid}"), RULE, rejects=note)


def is_current(catalogue: Catalogue) -> bool:
    return catalogue.instance_file(IMAGE) is not None


def test_an_image_without_a_patient_id_is_held_against_that_of_its_study(
    catalogue: Catalogue,
) -> None:
    receive(catalogue, "other", "1.9.2")
    reject(catalogue)

    receive(catalogue, "a", patient="")
    assert not is_current(catalogue)
    receive(catalogue, "b")
    assert not is_current(catalogue)


@pytest.mark.parametrize(("study", "patient"), [("1.7", "P"), ("1.2", "X"), ("1.7", "X")])
@pytest.mark.parametrize("note_first", [True, False])
def test_a_query_does_not_undo_a_rejection(
    catalogue: Catalogue, study: str, patient: str, note_first: bool
) -> None:
    if note_first:
        reject(catalogue)
    ask(catalogue, "asked", study=study, patient=patient)
    if not note_first:
        reject(catalogue)

    receive(catalogue, "a")

    assert not is_current(catalogue)


def test_a_query_does_not_make_a_rejection_of_another_patient_count(catalogue: Catalogue) -> None:
    ask(catalogue, "asked", patient="X")
    reject(catalogue, patient="X")

    receive(catalogue, "a")

    assert is_current(catalogue)


def test_what_is_rejected_as_part_of_one_study_stays_out_though_another_has_it(
    catalogue: Catalogue,
) -> None:
    receive(catalogue, "a")
    receive(catalogue, "b", study="1.3")
    assert reject(catalogue).foreign == 0

    receive(catalogue, "c")
    assert not is_current(catalogue)
    assert catalogue.forget_study("1.3", lambda kept: None) is not None
    receive(catalogue, "d")
    assert not is_current(catalogue)


def test_what_is_rejected_stays_out_when_its_patient_is_corrected(catalogue: Catalogue) -> None:
    receive(catalogue, "a")
    reject(catalogue)

    receive(catalogue, "b", patient="CORRECTED")

    assert not is_current(catalogue)


def test_what_was_said_of_a_patient_counts_when_the_study_turns_out_to_be_his(
    catalogue: Catalogue,
) -> None:
    reject(catalogue)
    image = receive(catalogue, "a", patient="")
    catalogue.save_clips(image.series_id, 1, MODEL, [clip(0, sources=(IMAGE,))])
    assert is_current(catalogue), "nobody knows whose it is"

    receive(catalogue, "other", "1.9.2")

    assert not is_current(catalogue)
    assert catalogue.study_query("1.2", MODEL) is None


def test_a_note_of_another_patient_counts_neither_before_nor_after(catalogue: Catalogue) -> None:
    reject(catalogue, patient="X")
    receive(catalogue, "a")
    assert is_current(catalogue)
    assert reject(catalogue, patient="Y").foreign == 1
    receive(catalogue, "b")
    assert is_current(catalogue)
