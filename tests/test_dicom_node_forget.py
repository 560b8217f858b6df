"""`similis forget`, beside a running node: nothing is left of a study, and nothing else is lost."""

import json
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import peers
from archives import Archive
from pydicom import dcmread
from scripted import dataset_of, push
from test_dicom_node_cli import similis

from dicom_node.node import Node
from dicom_node.operate.forget import empty_log
from dicom_node.operate.forget import forget as forget_study
from dicom_node.parts import Parts, open_parts
from training import phantoms

NewUid = Callable[[], str]
NAME = b"Zzyzxmann"


def test_a_forgotten_study_leaves_nothing_and_those_who_name_it_are_listed(
    start_node: Callable[..., Node], tmp_path: Path, new_uid: NewUid
) -> None:
    archive = Archive()
    with peers.stopped_at_the_end(archive):
        node = start_node(destinations=archive.destination(contact_sheet=True))
        first, second = still(tmp_path, new_uid, "A"), still(tmp_path, new_uid, "B")
        for number, path in enumerate((first, second), 1):
            push(node.port, path)
            peers.wait_for("rest", lambda n=number: peers.at_rest(node.catalogue, n))
        own, naming, sheet = archive.kept
        uid = str(dcmread(first).StudyInstanceUID)

        answer = json.loads(forget(node, uid, "--yes", "--json").stdout)

        assert answer["deleted"] == {
            "series": 1, "instances": 1, "files": 1, "vectors": 1, "reports": 1,
        }  # fmt: skip
        assert answer["own_reports"] == [own.SOPInstanceUID]
        assert answer["log_emptied"] is True
        assert [each["sop_instance_uid"] for each in answer["named_by"]] == [naming.SOPInstanceUID]
        assert [each["study_instance_uid"] for each in answer["named_by"]] == [
            naming.StudyInstanceUID
        ]
        data = node.config.data
        assert [dataset_of(path) for path in data.glob("store/??/*.dcm")] == [dataset_of(second)]
        assert {path.stem for path in data.glob("reports/*.dcm")} == {
            naming.SOPInstanceUID,
            sheet.SOPInstanceUID,
        }
        counts = node.catalogue.counts()
        assert (counts.instances, counts.clips, counts.jobs) == (1, 1, {})
        assert node.catalogue.study_row(uid) is None

        push(node.port, first)  # as if it had never been there
        peers.wait_for("rest", lambda: peers.at_rest(node.catalogue, 2))
        assert node.catalogue.study_query(uid, node.model.model_id) is not None
        assert len(list(data.glob("store/??/*.dcm"))) == 2


def test_documents_of_a_node_that_has_no_memory_of_them_are_taken_and_not_kept(
    start_node: Callable[..., Node], tmp_path: Path, new_uid: NewUid
) -> None:
    archive = Archive()
    with peers.stopped_at_the_end(archive):
        node = start_node(destinations=archive.destination(contact_sheet=True, pdf=True))
        for number, patient in enumerate("AB", 1):
            image = still(tmp_path, new_uid, patient)
            push(node.port, image)
            peers.wait_for("rest", lambda n=number: peers.at_rest(node.catalogue, n))
        uid = str(dcmread(image).StudyInstanceUID)
        forget(node, uid, "--yes")
        documents = [each for each in archive.kept if each.StudyInstanceUID == uid]
        assert sorted(each.Modality for each in documents) == ["DOC", "OT", "SR"]
        paths = [tmp_path / f"{each.SOPInstanceUID}.dcm" for each in documents]
        for path, document in zip(paths, documents, strict=True):
            document.save_as(path)

        push(node.port, *paths)

        assert node.catalogue.study_row(uid) is None
        assert node.catalogue.counts().instances == 1


def test_a_study_that_is_unknown_or_not_confirmed_is_not_forgotten(
    start_node: Callable[..., Node], tmp_path: Path, new_uid: NewUid
) -> None:
    node = start_node()
    image = still(tmp_path, new_uid, "A")
    push(node.port, image)
    uid = str(dcmread(image).StudyInstanceUID)

    unknown = forget(node, new_uid(), "--yes", expect=1).stderr
    assert "similis: study 2.25." in unknown
    assert "log holds nothing that was forgotten" in unknown
    assert "Delete 1 instances" in forget(node, uid, answer="n\n", expect=1).stderr
    assert "give --yes" in forget(node, uid, expect=1).stderr, "nobody is there to answer"
    assert "--yes" in forget(node, uid, "--json", expect=2).stderr
    assert node.catalogue.study_row(uid) is not None

    assert "vectors" in forget(node, uid, answer="y\n").stdout
    assert node.catalogue.study_row(uid) is None


def forget(
    node: Node, *arguments: str, answer: str = "", expect: int = 0
) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "dicom_node", "forget", *arguments]
    said = subprocess.run(
        [*command, "--data", str(node.config.data)],
        input=answer,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert said.returncode == expect, said.stderr
    return said


def still(folder: Path, new_uid: NewUid, patient_id: str) -> Path:
    folder = folder / patient_id
    return phantoms.still(folder, new_uid=new_uid, size=(64, 48), patient_id=patient_id)


def test_no_file_of_a_running_node_holds_the_name_of_who_was_forgotten(
    start_node: Callable[..., Node], tmp_path: Path, new_uid: NewUid
) -> None:
    node = start_node()
    path = still(tmp_path, new_uid, "A")
    dataset = dcmread(path)
    dataset.PatientName = f"{NAME.decode()}^Quirin"
    dataset.save_as(path)
    push(node.port, path)
    peers.wait_for("rest", lambda: peers.at_rest(node.catalogue, 1))
    assert holding(node.config.data, NAME)

    forget(node, str(dataset.StudyInstanceUID), "--yes")

    assert holding(node.config.data, NAME) == []


def test_what_is_being_read_is_overwritten_as_soon_as_the_reader_has_ended(
    tmp_path: Path, new_uid: NewUid
) -> None:
    parts, uid = parts_with_a_name(tmp_path, new_uid)
    assert forget_study(parts, uid) is not None
    waits: list[float] = []

    def end_the_reader(seconds: float) -> None:
        waits.append(seconds)
        if len(waits) == 3:
            reader.close()

    reader = reading(parts.config.data)
    assert empty_log(parts, sleep=end_the_reader)

    assert len(waits) == 3
    assert holding(parts.config.data, NAME) == []
    parts.close()


def test_a_command_says_what_is_left_while_the_catalogue_is_read_and_does_it_when_run_again(
    tmp_path: Path, new_uid: NewUid
) -> None:
    parts, uid = parts_with_a_name(tmp_path, new_uid)
    arguments = ["forget", uid, "--yes", "--data", str(parts.config.data)]
    with closing(reading(parts.config.data)):
        said = similis(*arguments)
    assert "catalogue.sqlite-wal may still hold bytes of it" in said.stderr
    assert "run this command again" in said.stderr
    assert holding(parts.config.data, NAME), "the log was left, as it says"

    again = similis(*arguments, expect=1)

    assert "still hold" not in again.stderr
    assert holding(parts.config.data, NAME) == []
    parts.close()


def parts_with_a_name(tmp_path: Path, new_uid: NewUid) -> tuple[Parts, str]:
    """Return a data folder with a study of someone whose name is nowhere else, and its UID."""
    path = still(tmp_path, new_uid, "A")
    dataset = dcmread(path)
    dataset.PatientName = f"{NAME.decode()}^Quirin"
    dataset.save_as(path)
    parts = open_parts(peers.quick_config(tmp_path / "data"))
    with path.open("rb") as file:
        parts.intake.take_file(file, source="test")
    return parts, str(dataset.StudyInstanceUID)


def reading(data: Path) -> sqlite3.Connection:
    """Return a connection that reads the catalogue until it is closed."""
    connection = sqlite3.connect(data / "catalogue.sqlite", isolation_level=None)
    connection.execute("BEGIN")
    connection.execute("SELECT count(*) FROM study").fetchone()
    return connection


def holding(data: Path, trace: bytes) -> list[str]:
    """Return the files below a folder that hold some bytes."""
    files = (path for path in data.rglob("*") if path.is_file())
    return [path.name for path in files if trace in path.read_bytes()]
