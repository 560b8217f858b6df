"""The whole product in one process: a stub PACS, a node, real studies in, reports out."""

import importlib.util
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from dicom_node.config import Config, Destination
from dicom_node.errors import NotKnown, ObjectRefused, SimilisError
from dicom_node.node import Node
from dicom_node.operate.stub_pacs import Match, StubPacs, find_similar
from dicom_node.receive.header import read_file_header
from index.catalogue import Catalogue
from index.records import Header
from index.states import State

# What the demo asks about, by the names of pydicom's own files: one of each kind.
QUESTIONS = {
    "CT slice": "CT_small.dcm",
    "MR slice": "MR_small.dcm",
    "ultrasound cine": "examples_ybr_color.dcm",
}
_SOURCES = {
    "pydicom": "data/test_files",
    "data_store": ".",
    "pynetdicom": "tests/dicom_files",
}
_SETTLED = frozenset({State.INDEXED, State.REPORTED, State.COMMITTED})
_PUT_ASIDE = frozenset({State.SKIPPED, State.QUARANTINED})
_TIMEOUT_S = 150.0
_ANSWERS = 5


@dataclass(frozen=True, slots=True)
class Sample:
    """A real DICOM file that came with an installed package."""

    path: Path
    header: Header


@dataclass(frozen=True, slots=True)
class Outcome:
    """What the node made of the push: how many studies are searchable, and how many are not."""

    searchable: int
    put_aside: int


@dataclass(frozen=True, slots=True)
class DemoAnswer:
    """One question, the ranked cases, and the report that arrived for it."""

    question: str
    matches: list[Match]
    report: Path


def samples() -> list[Sample]:
    """Return the DICOM files of pydicom and pydicom-data that carry the UIDs of an object.

    Raises `NotKnown` when pydicom-data is not installed.
    """
    found = []
    for package, folder in _SOURCES.items():
        spec = importlib.util.find_spec(package)
        if spec is None or spec.origin is None:
            raise NotKnown("package", "pydicom-data", "install it: pip install similis[demo]")
        root = Path(spec.origin).parent / folder
        found += [sample for path in sorted(root.rglob("*")) for sample in _sample(path)]
    return found


def _sample(path: Path) -> Iterator[Sample]:
    if path.is_file():
        try:
            header = read_file_header(path)
        except ObjectRefused:
            return  # there to test parsers: no file meta, no UIDs, DICOMDIR
        yield Sample(path, header)


def demo_config(data: Path, pacs: Destination) -> Config:
    """Return a node on free loopback ports that takes two seconds of silence for completeness."""
    return Config.model_validate(
        {
            "data": data,
            "dicom": {"port": 0, "query_port": 0},
            "http": {"enabled": False},
            "lifecycle": {"series_quiet_s": 1.0, "study_quiet_s": 2.0, "quiet_s_by_modality": {}},
            "destinations": {"pacs": pacs},
        }
    )


def storage(node: Node) -> Destination:
    """Return where to push to."""
    dicom = node.config.dicom
    return Destination(ae_title=dicom.ae_title, host=dicom.host, port=node.port)


def query(node: Node) -> Destination:
    """Return where to ask."""
    dicom = node.config.dicom
    return Destination(ae_title=dicom.find_ae_title, host=dicom.host, port=node.query_port)


def wait_until_indexed(
    catalogue: Catalogue, studies: int, advance: Callable[[int], None]
) -> Outcome:
    """Wait until every study is searchable or put aside; raise `SimilisError` when none ends it."""
    deadline = time.monotonic() + _TIMEOUT_S
    while time.monotonic() < deadline:
        by_state = catalogue.counts().studies
        searchable = sum(n for state, n in by_state.items() if state in _SETTLED)
        put_aside = sum(n for state, n in by_state.items() if state in _PUT_ASIDE)
        advance(searchable + put_aside)
        if searchable + put_aside >= studies:
            return Outcome(searchable, put_aside)
        time.sleep(0.2)
    raise SimilisError(f"not all {studies} studies were embedded within {_TIMEOUT_S:g} s")


def ask(question: str, files: list[Sample], node: Node, pacs: StubPacs) -> DemoAnswer:
    """Ask one of `QUESTIONS` by C-FIND and wait for its report at the PACS."""
    name = QUESTIONS[question]
    study_uid = next(s.header.study_instance_uid for s in files if s.path.name == name)
    matches = find_similar(study_uid, query(node), k=_ANSWERS)
    report = pacs.report_on(study_uid, _TIMEOUT_S)
    if report is None:
        raise SimilisError(f"no report on the {question} reached the PACS")
    return DemoAnswer(question, matches, report)
