"""Rejection notes and corrected patients: what is taken back is out of the search at once."""

from collections.abc import Callable, MutableMapping, Sequence
from pathlib import Path
from typing import Any

import highdicom as hd
import peers
import pytest
from archives import Archive
from pydicom import dcmread
from pydicom.dataset import Dataset
from pydicom.sr.codedict import codes
from pydicom.sr.coding import Code
from pydicom.uid import UID
from scripted import c_find, dataset_of, identifier, push

from dicom_node.node import Node
from index.records import PatientKey
from training import phantoms

Events = list[MutableMapping[str, Any]]
NewUid = Callable[[], str]

QUALITY, SAFETY, WORKLIST, EXPIRED = (
    codes.DCM.RejectedForQualityReasons,
    codes.DCM.RejectedForPatientSafetyReasons,
    codes.DCM.IncorrectModalityWorklistEntry,
    codes.DCM.DataRetentionPolicyExpired,
)


@pytest.mark.parametrize("title", [QUALITY, SAFETY, WORKLIST, EXPIRED])
def test_what_a_note_rejects_is_out_of_the_search_before_the_note_is_acknowledged(
    start_node: Callable[..., Node], tmp_path: Path, new_uid: NewUid, events: Events, title: Code
) -> None:
    node = start_node(lifecycle=peers.QUICK)
    study, other = still(tmp_path, new_uid), still(tmp_path, new_uid)
    push(node.port, study, other)
    peers.wait_for("rest", lambda: peers.at_rest(node.catalogue, 2))
    uid = dcmread(study).StudyInstanceUID
    assert searchable(node, uid)

    push(node.port, note(tmp_path, title, [study]))

    assert not searchable(node, uid)
    assert node.catalogue.instance_file(dcmread(study).SOPInstanceUID) is None
    (line,) = (line for line in events if line["event"] == "instances_rejected")
    assert (line["code"], line["named"], line["found"]) == (title.value, 1, 1)
    peers.wait_for("rest", lambda: peers.at_rest(node.catalogue, 2))
    assert not searchable(node, uid)
    assert node.catalogue.study_query(dcmread(other).StudyInstanceUID, node.model.model_id)
    kept = {dataset_of(path) for path in (node.config.data / "store").rglob("*.dcm")}
    assert (dataset_of(study) in kept) is (title is not EXPIRED)


def test_a_series_without_instances_left_is_out_of_every_query(
    start_node: Callable[..., Node], tmp_path: Path, new_uid: NewUid
) -> None:
    node = start_node(lifecycle=peers.QUICK)
    image = still(tmp_path, new_uid)
    push(node.port, image, note(tmp_path, SAFETY, [image]))
    peers.wait_for("rest", lambda: peers.at_rest(node.catalogue, 1))
    uid = dcmread(image).StudyInstanceUID
    counts = {"NumberOfStudyRelatedSeries": "", "NumberOfStudyRelatedInstances": ""}

    def found(level: str, **keys: str) -> list[Dataset]:
        asked = identifier(level, **{"StudyInstanceUID": uid, "Modality": "", **keys})
        return c_find(node.query_port, asked, called="SIMILIS_QR")[1]

    (study,) = found("STUDY", ModalitiesInStudy="", **counts)
    assert study.ModalitiesInStudy == "KO"
    assert (study.NumberOfStudyRelatedSeries, study.NumberOfStudyRelatedInstances) == (1, 1)
    assert [series.Modality for series in found("SERIES", SeriesInstanceUID="")] == ["KO"]
    assert not found("STUDY", ModalitiesInStudy="CT")
    assert node.catalogue.counts().skipped["rejected, or moved to another series"] == 1


def test_a_study_without_instances_left_is_not_found(
    start_node: Callable[..., Node], tmp_path: Path, new_uid: NewUid
) -> None:
    node = start_node(lifecycle=peers.QUICK)
    image = still(tmp_path, new_uid)
    push(node.port, image)
    rejection = dcmread(note(tmp_path, SAFETY, [image]))
    rejection.StudyInstanceUID = new_uid()  # the note is kept in a study of its own
    path = tmp_path / "note.dcm"
    rejection.save_as(path)
    push(node.port, path)

    named = identifier(StudyInstanceUID=dcmread(image).StudyInstanceUID)

    assert not c_find(node.query_port, named, called="SIMILIS_QR")[1]


@pytest.mark.parametrize(
    ("title", "same", "corrected"),
    [
        (QUALITY, False, False),
        (SAFETY, False, False),
        (WORKLIST, False, True),
        (EXPIRED, True, True),
    ],
)
def test_what_was_rejected_and_is_sent_again_is_taken_as_its_code_says(
    start_node: Callable[..., Node],
    tmp_path: Path,
    new_uid: NewUid,
    events: Events,
    title: Code,
    same: bool,
    corrected: bool,
) -> None:
    node = start_node(lifecycle=peers.QUICK)
    image = still(tmp_path, new_uid)
    push(node.port, image)
    push(node.port, note(tmp_path, title, [image]))
    sop_instance_uid = dcmread(image).SOPInstanceUID

    push(node.port, image)
    assert (node.catalogue.instance_file(sop_instance_uid) is not None) is same
    assert ("rejected_instance_stays_out" in {line["event"] for line in events}) is not same

    dataset = dcmread(image)
    dataset.PatientID = "CORRECTED"
    dataset.save_as(image)
    push(node.port, image)
    assert (node.catalogue.instance_file(sop_instance_uid) is not None) is corrected


def test_a_note_that_comes_before_what_it_rejects_counts(
    start_node: Callable[..., Node], tmp_path: Path, new_uid: NewUid
) -> None:
    node = start_node(lifecycle=peers.QUICK)
    image = still(tmp_path, new_uid)

    push(node.port, note(tmp_path, SAFETY, [image]))
    push(node.port, image)

    assert node.catalogue.instance_file(dcmread(image).SOPInstanceUID) is None
    peers.wait_for("rest", lambda: peers.at_rest(node.catalogue, 1))
    assert not searchable(node, dcmread(image).StudyInstanceUID)


@pytest.mark.parametrize("wrong", ["patient", "study", "patient of the study"])
@pytest.mark.parametrize("title", [SAFETY, EXPIRED])
def test_a_note_of_another_patient_or_study_is_not_believed(
    start_node: Callable[..., Node], tmp_path: Path, new_uid: NewUid, events: Events,
    title: Code, wrong: str,
) -> None:  # fmt: skip
    node = start_node()
    image, other = still(tmp_path, new_uid), still(tmp_path, new_uid)
    push(node.port, image)

    push(node.port, forged(note(tmp_path, title, [image]), dcmread(other), wrong))
    push(node.port, image)

    sop_instance_uid = dcmread(image).SOPInstanceUID
    assert node.catalogue.instance_file(sop_instance_uid) is not None
    kept = {dataset_of(path) for path in (node.config.data / "store").rglob("*.dcm")}
    assert dataset_of(image) in kept
    (line,) = (line for line in events if line["event"] == "instances_rejected")
    assert (line["named"], line["found"], line["foreign"]) == (1, 0, 1)


@pytest.mark.parametrize("wrong", ["patient", "study"])
def test_a_note_that_comes_before_an_instance_is_held_against_its_study_and_patient(
    start_node: Callable[..., Node], tmp_path: Path, new_uid: NewUid, wrong: str
) -> None:
    node = start_node()
    image, other = still(tmp_path, new_uid), still(tmp_path, new_uid)

    push(node.port, forged(note(tmp_path, SAFETY, [image]), dcmread(other), wrong))
    push(node.port, image)

    assert node.catalogue.instance_file(dcmread(image).SOPInstanceUID) is not None


def test_a_note_is_kept_as_any_object_where_notes_are_not_obeyed(
    start_node: Callable[..., Node], tmp_path: Path, new_uid: NewUid, events: Events
) -> None:
    node = start_node(storage={"rejection_notes": False})
    image = still(tmp_path, new_uid)

    push(node.port, image, note(tmp_path, EXPIRED, [image]))

    assert node.catalogue.instance_file(dcmread(image).SOPInstanceUID) is not None
    assert node.catalogue.counts().instances == 2
    assert not [line for line in events if line["event"] == "instances_rejected"]


def test_a_report_is_issued_anew_for_what_is_left_of_a_study(
    start_node: Callable[..., Node], tmp_path: Path, new_uid: NewUid
) -> None:
    archive = Archive()
    with peers.stopped_at_the_end(archive):
        node = start_node(lifecycle=peers.QUICK, destinations=archive.destination())
        slices = phantoms.ct_series(tmp_path / "ct", new_uid=new_uid, slices=4, size=64)
        push(node.port, *slices)
        peers.wait_for("the first report", lambda: peers.at_rest(node.catalogue, 1))

        push(node.port, note(tmp_path, QUALITY, slices[1:3]))
        peers.wait_for("the second report", lambda: len(archive.kept) == 2)
        peers.wait_for("rest", lambda: peers.at_rest(node.catalogue, 1))

    first, second = archive.kept
    rejected = {dcmread(path).SOPInstanceUID for path in slices[1:3]}
    assert named(first) & rejected
    assert not named(second) & rejected
    (predecessor,) = second.PredecessorDocumentsSequence
    series = predecessor.ReferencedSeriesSequence[0]
    assert series.ReferencedSOPSequence[0].ReferencedSOPInstanceUID == first.SOPInstanceUID
    assert node.catalogue.counts().reports == {"committed": 1, "outdated": 1}


def test_a_key_object_selection_that_is_no_rejection_rejects_nothing(
    start_node: Callable[..., Node], tmp_path: Path, new_uid: NewUid
) -> None:
    node = start_node(lifecycle=peers.QUICK)
    image = still(tmp_path, new_uid)
    push(node.port, image)

    push(node.port, note(tmp_path, codes.DCM.OfInterest, [image]))

    assert node.catalogue.instance_file(dcmread(image).SOPInstanceUID) is not None


def test_a_study_that_is_sent_again_for_another_patient_changes_its_owner_and_its_report(
    start_node: Callable[..., Node], tmp_path: Path, new_uid: NewUid, events: Events
) -> None:
    archive = Archive()
    with peers.stopped_at_the_end(archive):
        node = start_node(lifecycle=peers.QUICK, destinations=archive.destination())
        image = still(tmp_path, new_uid)
        push(node.port, image)
        peers.wait_for("the first report", lambda: peers.at_rest(node.catalogue, 1))

        dataset = dcmread(image)
        dataset.PatientID, dataset.PatientName = "MERGED", "After^Merge"
        dataset.save_as(image)
        push(node.port, image)
        peers.wait_for("the second report", lambda: len(archive.kept) == 2)
        peers.wait_for("rest", lambda: peers.at_rest(node.catalogue, 1))

    changed = [line for line in events if line["event"] == "patient_changed"]
    assert [line["study"] for line in changed] == [dataset.StudyInstanceUID]
    assert "MERGED" not in str(changed) and "Merge" not in str(changed)
    query = node.catalogue.study_query(dataset.StudyInstanceUID, node.model.model_id)
    assert query is not None
    assert query.patient == PatientKey("MERGED")
    assert [report.PatientID for report in archive.kept][1] == "MERGED"


def still(folder: Path, new_uid: NewUid) -> Path:
    uid = new_uid()
    (folder / uid).mkdir()
    return phantoms.still(folder / uid, new_uid=new_uid, size=(64, 48))


def note(folder: Path, title: Code, rejected: Sequence[Path]) -> Path:
    """Write the rejection note that a PACS would send."""
    images = [dcmread(path) for path in rejected]
    for image in images:
        for keyword in ("PatientSex", "PatientBirthDate", "StudyTime", "StudyID"):
            if keyword not in image:
                setattr(image, keyword, "")
    document = hd.ko.KeyObjectSelectionDocument(
        evidence=images,
        content=hd.ko.KeyObjectSelection(document_title=title, referenced_objects=images),
        series_instance_uid=hd.UID(),
        series_number=99,
        sop_instance_uid=hd.UID(),
        instance_number=1,
        manufacturer="PACS",
        transfer_syntax_uid=UID("1.2.840.10008.1.2.1"),
    )
    path = folder / f"note-{document.SOPInstanceUID}.dcm"
    document.save_as(path)
    return path


def forged(path: Path, other: Dataset, wrong: str) -> Path:
    """Let a note tell of the instance under another patient, or as part of another study."""
    document = dcmread(path)
    if wrong == "study":
        document.CurrentRequestedProcedureEvidenceSequence[
            0
        ].StudyInstanceUID = other.StudyInstanceUID
    else:
        document.PatientID = "ANOTHER"
    if wrong == "patient":  # else the note's own study is that of the instance
        document.StudyInstanceUID = other.StudyInstanceUID
    document.save_as(path)
    return path


def named(report: Any) -> set[str]:
    """Return the SOP Instance UIDs of a report's evidence."""
    return {
        instance.ReferencedSOPInstanceUID
        for study in report.CurrentRequestedProcedureEvidenceSequence
        for series in study.ReferencedSeriesSequence
        for instance in series.ReferencedSOPSequence
    }


def searchable(node: Node, study_uid: str) -> bool:
    return node.catalogue.study_query(study_uid, node.model.model_id) is not None
