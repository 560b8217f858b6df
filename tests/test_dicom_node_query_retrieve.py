"""Ordinary C-FIND on SIMILIS_QR: keys, levels, refusals, cancel."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import peers
import pytest
from pydicom import dcmread
from pydicom.dataset import Dataset
from pydicom.tag import Tag
from pydicom.uid import ExplicitVRLittleEndian
from pynetdicom import build_context
from scripted import association, c_find, identifier

from dicom_node.contexts import STUDY_ROOT_FIND
from dicom_node.node import Node
from training import phantoms

STUDIES = 3
SLICES = 2


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the files of three CT studies; the third patient's name is Japanese."""
    folder = tmp_path_factory.mktemp("query_retrieve")
    for number in range(STUDIES):
        new_uid = phantoms.uid_source(700 + number)
        paths = phantoms.ct_series(folder, new_uid=new_uid, slices=SLICES, size=64, seed=number)
        for path in paths:
            dataset = dcmread(path)
            dataset.PatientID = f"PID {number}"
            dataset.StudyDate = f"202{number}0101"
            dataset.PatientName = "Doe^John" if number < 2 else "Yamada^Tarou=山田^太郎"
            dataset.SpecificCharacterSet = "ISO_IR 192"
            dataset.save_as(path)
    return folder


@pytest.fixture(scope="module")
def filled(node: Node, folder: Path) -> Iterator[Node]:
    peers.dcmsend(node.port, folder)
    yield node


def ask(node: Node, level: str = "STUDY", **keys: Any) -> tuple[Dataset, list[Dataset]]:
    statuses, answers = c_find(node.query_port, identifier(level, **keys), called="SIMILIS_QR")
    return statuses[-1], answers


@pytest.mark.parametrize(
    ("keys", "expected"),
    [
        ({}, ["PID 0", "PID 1", "PID 2"]),
        ({"PatientName": "doe*"}, ["PID 0", "PID 1"]),
        ({"PatientID": "PID ?", "StudyDate": "20200601-"}, ["PID 1", "PID 2"]),
        ({"ModalitiesInStudy": "CT"}, ["PID 0", "PID 1", "PID 2"]),
        ({"ModalitiesInStudy": "M*"}, []),
    ],
)
def test_studies_are_found_by_their_keys(
    filled: Node, keys: dict[str, str], expected: list[str]
) -> None:
    final, answers = ask(filled, **({"PatientID": "", "StudyInstanceUID": ""} | keys))

    assert final.Status == 0x0000
    assert sorted(answer.PatientID for answer in answers) == expected


def test_a_name_is_asked_for_and_told_in_the_requestors_character_set(filled: Node) -> None:
    asked = identifier(PatientID="")
    asked.SpecificCharacterSet = "GB18030"
    asked.PatientName = "*=山田*"

    _, (answer,) = c_find(filled.query_port, asked, called="SIMILIS_QR")

    assert answer.PatientID == "PID 2"
    assert answer.SpecificCharacterSet == "GB18030"
    assert answer.PatientName.ideographic == "山田^太郎"


def test_levels_lead_down_to_the_images_with_their_counts(filled: Node) -> None:
    _, (study,) = ask(
        filled,
        PatientID="PID 1",
        StudyInstanceUID="",
        ModalitiesInStudy="",
        NumberOfStudyRelatedSeries=None,
        NumberOfStudyRelatedInstances=None,
    )
    above = {"StudyInstanceUID": study.StudyInstanceUID}
    _, (series,) = ask(
        filled,
        "SERIES",
        **above,
        SeriesInstanceUID="",
        Modality="C?",
        NumberOfSeriesRelatedInstances=None,
    )
    above["SeriesInstanceUID"] = series.SeriesInstanceUID
    _, images = ask(filled, "IMAGE", **above, SOPInstanceUID="", InstanceNumber="")

    assert (study.NumberOfStudyRelatedSeries, study.NumberOfStudyRelatedInstances) == (1, SLICES)
    assert (study.ModalitiesInStudy, series.Modality) == ("CT", "CT")
    assert series.NumberOfSeriesRelatedInstances == SLICES
    assert sorted(image.InstanceNumber for image in images) == [1, 2]
    assert len({image.SOPInstanceUID for image in images}) == SLICES
    assert {answer.RetrieveAETitle for answer in (study, series, *images)} == {"SIMILIS_QR"}


def test_a_key_that_is_not_kept_is_empty_and_the_status_says_so(filled: Node) -> None:
    asked = identifier(PatientID="PID 0", PatientComments="x", RequestAttributesSequence=[])

    statuses, (answer,) = c_find(filled.query_port, asked, called="SIMILIS_QR")

    assert [status.Status for status in statuses] == [0xFF01, 0x0000]
    assert (answer.PatientComments, list(answer.RequestAttributesSequence)) == ("", [])


@pytest.mark.parametrize("creator", ["SIMILIS 01", "SOMEONE ELSE"])
def test_a_private_key_is_empty_and_the_status_says_so(filled: Node, creator: str) -> None:
    asked = identifier(PatientID="PID 0")
    asked.private_block(0x0099, creator, create=True).add_new(0x06, "UT", "like this")

    statuses, (answer,) = c_find(filled.query_port, asked, called="SIMILIS_QR")

    assert [status.Status for status in statuses] == [0xFF01, 0x0000]
    assert answer.PatientID == "PID 0"
    assert answer[0x0099, 0x0010].value == creator
    assert not answer[0x0099, 0x1006].value


@pytest.mark.parametrize(
    ("level", "keys", "keyword"),
    [
        ("", {}, "QueryRetrieveLevel"),
        ("PATIENT", {"PatientID": "1"}, "QueryRetrieveLevel"),
        ("STUDY", {"StudyInstanceUID": "1.2.*"}, "StudyInstanceUID"),
        ("STUDY", {"StudyDate": "2020*"}, "StudyDate"),
        ("STUDY", {"PatientID": "x" * 65535}, "PatientID"),
        ("SERIES", {"SeriesInstanceUID": ""}, "StudyInstanceUID"),
        ("IMAGE", {"StudyInstanceUID": "1.2", "SOPInstanceUID": ""}, "SeriesInstanceUID"),
        ("SERIES", {"StudyInstanceUID": "one"}, "StudyInstanceUID"),
    ],
)
def test_a_query_that_cannot_be_answered_is_refused_by_the_offending_key(
    filled: Node, level: str, keys: dict[str, str], keyword: str
) -> None:
    final, answers = ask(filled, level, **keys)

    assert (final.Status, answers) == (0xA900, [])
    assert final.OffendingElement == Tag(keyword)
    assert final.ErrorComment


@pytest.mark.parametrize(
    "body",
    [
        b"\x08\x00\x52\x00CS\xff\xffSTUDY",
        b"\xff" * 64,
        b"\x08\x00\x52\x00CS\x06\x00STUDY \xfe\xff\x00\xe0\0\0\0\0",
        b"\x08\x00\x52\x00SQ\0\0\xff\xff\xff\xff" * 2000,
    ],
    ids=["cut value", "noise", "item", "sequences in sequences"],
)
@pytest.mark.parametrize("called", ["SIMILIS_QR", "SIMILIS_FIND"])
def test_an_identifier_that_is_no_data_set_is_refused_and_the_association_lives(
    filled: Node, monkeypatch: pytest.MonkeyPatch, body: bytes, called: str
) -> None:
    contexts = [build_context(STUDY_ROOT_FIND, ExplicitVRLittleEndian)]
    with association(filled.query_port, contexts, called=called) as opened:
        with monkeypatch.context() as patched:
            patched.setattr("pynetdicom.association.encode", lambda *arguments: body)
            said = list(opened.send_c_find(identifier(), STUDY_ROOT_FIND))
        assert [status.Status for status, _ in said] == [0xA900]
        assert opened.is_established


@pytest.mark.peer
def test_dcmtk_is_told_the_matches(filled: Node) -> None:
    said = findscu(filled, "PatientName=DOE^*", "StudyInstanceUID")

    assert said.count("(Pending)") == 2
    assert "Received Final Find Response (Success)" in said


@pytest.mark.peer
@pytest.mark.parametrize("syntax", ["-xe", "-xi"])
def test_a_key_whose_vr_depends_on_pixels_is_answered_empty(filled: Node, syntax: str) -> None:
    said = findscu(filled, "PatientID=PID 0", "SmallestImagePixelValue", options=(syntax,))

    assert said.count("(Pending") == 1
    assert "Received Final Find Response (Success)" in said


@pytest.mark.peer
def test_a_cancel_ends_the_matches(filled: Node, monkeypatch: pytest.MonkeyPatch) -> None:
    peers.hold_until_cancelled(monkeypatch, "dicom_node.answer.pending", 2)

    said = findscu(filled, "PatientID=PID ?", options=("--cancel", "2"))

    assert "Received Final Find Response (Cancel" in said
    assert said.count("(Pending)") == 2 < STUDIES


def findscu(node: Node, *keys: str, options: tuple[str, ...] = ()) -> str:
    asked = [part for key in ("QueryRetrieveLevel=STUDY", *keys) for part in ("-k", key)]
    target = ("-S", "-v", "-aec", "SIMILIS_QR", "127.0.0.1", node.query_port)
    return peers.run("findscu", *options, *target, *asked).stdout


def test_an_identifier_of_a_megabyte_is_refused_where_instances_may_be_larger(node: Node) -> None:
    (said,), _ = c_find(node.query_port, identifier(TextValue="x" * (1 << 20)))

    assert (said.Status, said.ErrorComment) == (0xA900, "the identifier is larger than 1 MiB")
