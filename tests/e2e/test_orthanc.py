"""Orthanc as the PACS: it routes studies to the node and gets the reports, once."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any

import peers
import pytest
from pydicom import dcmread
from scripted import dataset_of
from structlog.testing import capture_logs

from dicom_node.node import Node
from training import phantoms

pytestmark = pytest.mark.peer

ROUTE = Path(__file__).parents[2] / "deploy" / "orthanc" / "route.lua"


@dataclass(frozen=True, slots=True)
class Site:
    """A PACS and a node that know each other."""

    pacs: peers.Orthanc
    node: Node

    def upload(self, paths: list[Path]) -> str:
        """Give a study to the PACS by its REST interface; return the PACS's name for it."""
        answers = [self.pacs.post("/instances", path.read_bytes()) for path in paths]
        return str(answers[0]["ParentStudy"])

    def reports(self, study: str) -> list[dict[str, Any]]:
        """Return the SR series that the PACS has in a study."""
        series = self.pacs.get(f"/studies/{study}/series")
        return [s for s in series if s["MainDicomTags"]["Modality"] == "SR"]

    def rest(self, studies: int) -> None:
        peers.wait_for("rest", lambda: peers.at_rest(self.node.catalogue, studies))


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    port, query_port = peers.free_port(), peers.free_port()
    to_node = {
        "similis": ["SIMILIS", "127.0.0.1", port],
        "similis_qr": ["SIMILIS_QR", "127.0.0.1", query_port],
        "similis_find": ["SIMILIS_FIND", "127.0.0.1", query_port],
    }
    pacs = peers.Orthanc(tmp_path / "pacs", to_node, LuaScripts=[str(ROUTE)])
    back = {"ae_title": "ORTHANC", "host": "127.0.0.1", "port": pacs.port}
    node = Node(
        peers.quick_config(
            tmp_path / "data",
            dicom={"port": port, "query_port": query_port},
            destinations={"orthanc": back},
        )
    )
    with peers.stopped_at_the_end(pacs), peers.stopped_at_the_end(node):
        node.start()
        yield Site(pacs, node)


def test_an_uploaded_study_goes_to_the_node_and_its_report_comes_back_once(
    site: Site, tmp_path: Path
) -> None:
    first, second = ct_study(tmp_path, seed=1), ct_study(tmp_path, seed=2)

    site.upload(first)
    site.rest(studies=1)
    study = site.upload(second)
    (series,) = peers.wait_for("the report", lambda: site.reports(study))
    site.rest(studies=2)

    for path in (*first, *second):
        assert kept(site.node, path) == dataset_of(path)
    assert site.node.catalogue.counts().reports == {"committed": 2}
    # Two reports, and a contact sheet beside the one that names a case.
    assert site.pacs.get("/statistics")["CountInstances"] == len(first) + len(second) + 3
    assert_no_loop(site, images=len(first) + len(second))

    report = tmp_path / "report.dcm"
    report.write_bytes(site.pacs.download(f"/instances/{series['Instances'][0]}/file"))
    assert dcmread(report).StudyInstanceUID == dcmread(second[0]).StudyInstanceUID
    assert not re.search(r"^Error", peers.run("dciodvfy", "-new", report, check=False).stdout, re.M)
    assert "Similis" in peers.run("dsrdump", report).stdout


def test_the_pacs_finds_a_study_at_the_node_and_fetches_it(site: Site, tmp_path: Path) -> None:
    new_uid = phantoms.uid_source(5)
    folder = tmp_path / "push"
    paths = phantoms.ct_series(folder, new_uid=new_uid, slices=2, size=64, patient_id="FETCHED")
    peers.dcmsend(site.node.port, folder)
    site.rest(studies=1)

    query = site.pacs.post(
        "/modalities/similis_qr/query", {"Level": "Study", "Query": {"PatientID": "FETCH*"}}
    )
    (answer,) = site.pacs.get(f"{query['Path']}/answers?expand&simplify")
    site.pacs.post(f"{query['Path']}/retrieve", "ORTHANC")

    assert answer["StudyInstanceUID"] == dcmread(paths[0]).StudyInstanceUID
    fetched = {
        dcmread(BytesIO(file)).SOPInstanceUID: dcmread(BytesIO(file)).get("PixelData")
        for instance in site.pacs.get("/instances")
        if (file := site.pacs.download(f"/instances/{instance}/file"))
    }
    for path in paths:
        sent = dcmread(path)
        assert fetched[sent.SOPInstanceUID] == sent.PixelData


def test_what_the_pacs_fetches_from_the_node_does_not_go_back_to_it(
    site: Site, tmp_path: Path
) -> None:
    fetched, uploaded = (ct_study(tmp_path, seed=seed) for seed in (8, 9))
    peers.dcmsend(site.node.port, fetched[0].parent)
    site.rest(studies=1)
    uid = dcmread(fetched[0]).StudyInstanceUID

    with capture_logs() as said:
        for title in ("similis_qr", "similis_find"):
            asked = {"Level": "Study", "Resources": [{"StudyInstanceUID": uid}]}
            site.pacs.post(f"/modalities/{title}/move", asked | {"TargetAet": "ORTHANC"})
        site.upload(uploaded)  # the PACS handles what it has stored in order
        site.rest(studies=2)

    came = [
        each["sop_instance_uid"]
        for each in said
        if "ORTHANC" in each.get("source", "") and "sop_instance_uid" in each
    ]
    assert sorted(came) == sorted(dcmread(path).SOPInstanceUID for path in uploaded)


def test_the_pacs_asks_for_similar_cases_with_private_keys(site: Site, tmp_path: Path) -> None:
    for seed in (6, 7):
        new_uid = phantoms.uid_source(seed)
        (path,) = phantoms.ct_series(
            tmp_path / str(seed), new_uid=new_uid, slices=1, size=64, patient_id=f"P{seed}"
        )
        peers.dcmsend(site.node.port, path)
    site.rest(studies=2)
    example = dcmread(path).StudyInstanceUID
    keys = {"0099,0010": "SIMILIS 01", "0099,1003": example, "StudyInstanceUID": ""}

    query = site.pacs.post(
        "/modalities/similis_find/query",
        {"Level": "Study", "Query": keys | {"PatientID": ""}, "Normalize": False},
    )

    (answer,) = site.pacs.get(f"{query['Path']}/answers?expand&simplify")
    assert answer["PatientID"] == "P6"


def test_a_study_that_the_pacs_sends_by_hand_brings_its_report_along_without_harm(
    site: Site, tmp_path: Path
) -> None:
    paths = ct_study(tmp_path, seed=1)
    study = site.upload(paths)
    peers.wait_for("the report", lambda: site.reports(study))
    site.rest(studies=1)

    # By hand the PACS sends the whole study: the images again, and the node's own report.
    sent = site.pacs.post("/modalities/similis/store", study)

    assert (sent["InstancesCount"], sent["FailedInstancesCount"]) == (len(paths) + 1, 0)
    assert peers.at_rest(site.node.catalogue, 1)
    assert_no_loop(site, images=len(paths))
    assert len(site.reports(study)) == 1


def test_the_pacs_asks_the_node_to_commit_to_what_it_sent(site: Site, tmp_path: Path) -> None:
    paths = ct_study(tmp_path, seed=1)
    study = site.upload(paths)
    site.rest(studies=1)
    kept = site.pacs.post("/modalities/similis/storage-commitment", {"Resources": [study]})
    peers.wait_for("the promise", lambda: site.pacs.get(kept["Path"])["Status"] != "Pending")

    answer = site.pacs.get(kept["Path"])

    assert (answer["Status"], answer["Failures"]) == ("Success", [])
    assert len(answer["Success"]) == len(paths) + 1  # the node's own report among them


def assert_no_loop(site: Site, *, images: int) -> None:
    """Check that nothing but the images is in the node, and that the PACS has nothing to send."""
    jobs = peers.wait_for("the PACS's jobs", lambda: idle(site.pacs))
    assert {job["State"] for job in jobs} == {"Success"}
    assert site.node.catalogue.counts().instances == images
    assert len(list((site.node.config.data / "store").rglob("*.dcm"))) == images


def idle(pacs: peers.Orthanc) -> list[dict[str, Any]]:
    """Return the jobs of a PACS that has none under way."""
    jobs = pacs.get("/jobs?expand")
    return [] if {job["State"] for job in jobs} & {"Pending", "Running", "Retry"} else jobs


def kept(node: Node, path: Path) -> bytes | None:
    file = node.catalogue.instance_file(dcmread(path).SOPInstanceUID)
    return file and dataset_of(node.config.data / "store" / file.relative_path)


def ct_study(folder: Path, *, seed: int) -> list[Path]:
    """Write a CT study of three slices, as DCMTK and with it Orthanc would encode it."""
    paths = phantoms.ct_series(
        folder / str(seed),
        new_uid=phantoms.uid_source(seed),
        slices=3,
        size=64,
        seed=seed,
        patient_id=f"PATIENT {seed}",
    )
    for path in paths:
        peers.run("dcmconv", "-g", path, path)
    return paths
