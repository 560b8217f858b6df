"""Orthanc as the PACS: it routes studies to the node and gets the reports, once."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import peers
import pytest
from pydicom import dcmread
from scripted import dataset_of

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
    port = peers.free_port()
    to_node = {"similis": ["SIMILIS", "127.0.0.1", port]}
    pacs = peers.Orthanc(tmp_path / "pacs", to_node, LuaScripts=[str(ROUTE)])
    back = {"ae_title": "ORTHANC", "host": "127.0.0.1", "port": pacs.port}
    node = Node(
        peers.quick_config(
            tmp_path / "data",
            dicom={"port": port, "query_port": 0},
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
    assert site.node.catalogue.counts().reports == {"sent": 2}
    # Two reports, and a contact sheet beside the one that names a case.
    assert site.pacs.get("/statistics")["CountInstances"] == len(first) + len(second) + 3
    assert_no_loop(site, images=len(first) + len(second))

    report = tmp_path / "report.dcm"
    report.write_bytes(site.pacs.download(f"/instances/{series['Instances'][0]}/file"))
    assert dcmread(report).StudyInstanceUID == dcmread(second[0]).StudyInstanceUID
    assert not re.search(r"^Error", peers.run("dciodvfy", "-new", report, check=False).stdout, re.M)
    assert "Similis" in peers.run("dsrdump", report).stdout


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
