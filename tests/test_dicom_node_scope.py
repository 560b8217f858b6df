"""Which cases the reports to a destination name: its scope and its minimum score."""

from collections.abc import Callable
from pathlib import Path

import peers
from pydicom import dcmread
from scripted import Pacs, destination, push

from dicom_node.node import Node
from training import phantoms


def test_each_destination_is_told_the_cases_that_it_wants(
    start_node: Callable[..., Node], tmp_path: Path
) -> None:
    new_uid = phantoms.uid_source(61)
    (old_ct,) = phantoms.ct_series(
        tmp_path / "old", new_uid=new_uid, slices=1, size=64, patient_id="OLD CT"
    )
    old_dx = phantoms.still(tmp_path, new_uid=new_uid, size=(64, 64), patient_id="OLD DX")
    hand = dcmread(old_dx)
    hand.BodyPartExamined = "HAND"
    hand.save_as(old_dx)
    old_us = phantoms.cine(tmp_path, new_uid=new_uid, frames=2, size=(64, 64), patient_id="OLD US")
    (ct,) = phantoms.ct_series(tmp_path / "new", new_uid=new_uid, slices=1, size=64, seed=1)
    image = dcmread(phantoms.still(tmp_path, new_uid=new_uid, size=(64, 64), seed=1))
    study = dcmread(ct)
    image.StudyInstanceUID, image.PatientID = study.StudyInstanceUID, study.PatientID
    image.BodyPartExamined = ""
    dx = tmp_path / "dx.dcm"
    image.save_as(dx)
    pacs = Pacs()
    wanted: dict[str, dict[str, object]] = {
        "any": {},
        "modality": {"scope": "SAME_MODALITY"},
        "body part": {"scope": "SAME_BODYPART"},
        "near": {"minimum_score": 1.0},
    }
    destinations = {
        name: destination(pacs.port, ae_title=name.upper(), commitment=False, **keys)["pacs"]
        for name, keys in wanted.items()
    }
    uids = {name: dcmread(path).StudyInstanceUID for name, path in
            {"ct": old_ct, "dx": old_dx, "us": old_us}.items()}  # fmt: skip
    try:
        node = start_node(destinations=destinations)
        push(node.port, old_ct, old_dx, old_us)
        peers.wait_for("rest", lambda: peers.at_rest(node.catalogue, 3))
        push(node.port, ct, dx)
        peers.wait_for("rest", lambda: peers.at_rest(node.catalogue, 4))
        row = node.catalogue.study_row(study.StudyInstanceUID)
        assert row is not None
        reports = {name: node.catalogue.last_report(row.id, name) for name in wanted}
    finally:
        pacs.stop()

    named = {}
    for name, report in reports.items():
        assert report is not None
        cases = {case.study_instance_uid for case in report.cases}
        named[name] = {known for known, uid in uids.items() if uid in cases}
    assert named == {
        "any": {"ct", "dx", "us"},
        "modality": {"ct", "dx"},
        "body part": {"ct"},  # the chest of the CT; the radiograph does not say
        "near": set(),
    }
    assert reports["modality"] is not None
    assert [case.rank for case in reports["modality"].cases] == [1, 2]
