"""C-FIND with DCMTK: who is found, in which order, and what every answer says."""

import os
import re
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import peers
import pytest
from pydicom import dcmread
from pydicom.dataset import Dataset

from dicom_node.answer import private
from dicom_node.node import Node
from training import phantoms

pytestmark = pytest.mark.peer

GOLDEN = Path(__file__).parent / "golden" / "find-ct.txt"
DICTIONARY = Path(__file__).parents[1] / "deploy" / "similis-dcmtk.dic"
STILLS = 40
LEVEL = "QueryRetrieveLevel=STUDY"
BLOCK = ("(0099,0010)=SIMILIS 01", "(0099,1001)", "(0099,1002)")

# Name, seed of the pixels, patient, date: the twin has the pixels of the query.
CT_STUDIES = (
    ("query", 1, "PATIENT 1", "20250101"),
    ("prior", 1, "PATIENT 1", "20240101"),
    ("twin", 1, "PATIENT 2", "20240601"),
    ("other", 7, "PATIENT 3", "20230301"),
)


@dataclass(frozen=True, slots=True)
class Library:
    """A node, and the Study Instance UIDs of the CT studies that it holds, by name."""

    node: Node
    uids: dict[str, str]

    def names(self, answers: list[Dataset]) -> list[str]:
        """Return the names of the CT studies in the order of the answers."""
        by_uid = {uid: name for name, uid in self.uids.items()}
        return [by_uid.get(answer.StudyInstanceUID, "?") for answer in answers]


@dataclass(frozen=True, slots=True)
class Said:
    """What findscu wrote: the answers as data sets, and its own words."""

    answers: list[Dataset]
    text: str

    @property
    def final(self) -> str:
        match = re.search(r"Received Final Find Response \((.*)\)", self.text)
        assert match, self.text
        return match[1]


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Library]:
    folder = tmp_path_factory.mktemp("library")
    lifecycle = peers.QUICK | {"quiet_s_by_modality": {"US": 3600.0}}
    node = Node(peers.quick_config(folder / "data", lifecycle=lifecycle))
    with peers.stopped_at_the_end(node):
        node.start()
        uids = {row[0]: ct_study(folder / "push", *row) for row in CT_STUDIES}
        for seed in range(100, 100 + STILLS):
            new_uid = phantoms.uid_source(seed)
            phantoms.still(folder / "push", new_uid=new_uid, size=(64, 48), seed=seed)
        peers.dcmsend(node.port, folder / "push")
        peers.wait_for("rest", lambda: peers.at_rest(node.catalogue, len(uids) + STILLS))
        yield Library(node, uids)


def test_the_dictionary_for_dcmtk_is_the_table_of_private_elements() -> None:
    lines = [line for line in DICTIONARY.read_text().splitlines() if not line.startswith("#")]

    assert lines == [
        f'(0099,"{private.CREATOR}",{e.element:02X})\t{e.vr}\t{e.keyword}\t1\tprivate'
        for e in private.ELEMENTS
    ]


@pytest.mark.parametrize("syntax", ["-xe", "-xi"])
@pytest.mark.parametrize("block", [0x10, 0x20, 0xFF])
def test_the_private_key_is_understood_in_both_encodings_and_in_any_block(
    library: Library, syntax: str, block: int
) -> None:
    said = find(
        library,
        "StudyInstanceUID",
        f"(0099,00{block:02X})=SIMILIS 01",
        f"(0099,{block:02X}03)={library.uids['query']}",
        f"(0099,{block:02X}0C)=2",
        options=(syntax,),
    )

    assert said.final == "Success"
    assert [answer[0x99, (block << 8) + 1].value for answer in said.answers] == [1, 2]
    assert library.names(said.answers)[0] == "twin"
    assert {str(answer[0x99, block].value) for answer in said.answers} == {"SIMILIS 01"}


def test_answers_come_in_the_order_of_their_ranks_with_falling_scores(library: Library) -> None:
    said = find(library, f"StudyInstanceUID={library.uids['query']}", *BLOCK)

    block = private.Block(0x10)
    ranks = [int(block.text(answer, private.RANK)) for answer in said.answers]
    scores = [float(block.text(answer, private.SCORE)) for answer in said.answers]
    assert ranks == list(range(1, 11))
    assert scores == sorted(scores, reverse=True)
    assert library.names(said.answers)[0] == "twin"
    assert scores[0] == pytest.approx(1, abs=1e-3)


def test_without_the_private_block_answers_hold_what_was_asked_and_no_more(
    library: Library,
) -> None:
    said = find(library, f"StudyInstanceUID={library.uids['query']}", "PatientID", "Modality")

    assert said.final == "Success"
    assert len(said.answers) == 10
    asked = {"StudyInstanceUID", "PatientID", "Modality"}
    always = {"QueryRetrieveLevel", "RetrieveAETitle"}
    assert {element.keyword for element in said.answers[0]} == asked | always


@pytest.mark.parametrize(
    ("keys", "expected"),
    [
        (["ModalitiesInStudy=CT"], ["twin", "other"]),
        (["Modality=CT"], ["twin", "other"]),
        (["ModalitiesInStudy=CT", "StudyDate=20240101-20241231"], ["twin"]),
        (["ModalitiesInStudy=CT", "StudyDate=-20231231"], ["other"]),
        (["ModalitiesInStudy=CT", "StudyDate=20240601"], ["twin"]),
        (["ModalitiesInStudy=CT", "StudyDate=20250101-"], []),
        (["ModalitiesInStudy=MR"], []),
        (["ModalitiesInStudy=CT", "BodyPartExamined=chest"], ["twin", "other"]),
        (["ModalitiesInStudy=CT", "BodyPartExamined=KNEE"], []),
        (["ModalitiesInStudy=CT", "PatientID=PATIENT 1"], ["twin", "other"]),
    ],
)
def test_the_other_keys_filter_the_neighbours_and_never_let_the_same_patient_in(
    library: Library, keys: list[str], expected: list[str]
) -> None:
    said = find(library, f"StudyInstanceUID={library.uids['query']}", *keys)

    assert (library.names(said.answers), said.final) == (expected, "Success")


def test_the_same_patient_comes_in_when_the_scope_says_so(library: Library) -> None:
    scope = ("(0099,0010)=SIMILIS 01", "(0099,100D)=ALL", "Modality=CT")

    said = find(library, f"StudyInstanceUID={library.uids['query']}", *scope)

    assert sorted(library.names(said.answers)) == ["other", "prior", "twin"]


def test_a_minimum_score_ends_the_list(library: Library) -> None:
    keys = (f"StudyInstanceUID={library.uids['query']}", "Modality=CT", "(0099,0010)=SIMILIS 01")
    twin, other = (a[0x99, 0x1002].value for a in find(library, *keys, "(0099,1002)").answers)

    said = find(library, *keys, f"(0099,1002)={(twin + other) / 2}")

    assert library.names(said.answers) == ["twin"]


@pytest.mark.parametrize(("maximum", "expected"), [("3", 3), ("500", STILLS + 2)])
def test_no_more_answers_come_than_were_asked_for(
    library: Library, maximum: str, expected: int
) -> None:
    key = f"StudyInstanceUID={library.uids['query']}"

    assert len(find(library, key, *BLOCK, f"(0099,100C)={maximum}").answers) == expected


def test_an_unknown_study_is_like_nothing(library: Library) -> None:
    said = find(library, "StudyInstanceUID=1.2.3.4.5")

    assert (said.answers, said.final) == ([], "Success")


def test_a_study_that_is_not_indexed_yet_is_answered_by_a_failure_that_says_so(
    library: Library, tmp_path: Path
) -> None:
    new_uid = phantoms.uid_source(900)
    loop = phantoms.cine(tmp_path, new_uid=new_uid, frames=2, size=(64, 64))
    peers.dcmsend(library.node.port, loop)

    said = find(library, f"StudyInstanceUID={dcmread(loop).StudyInstanceUID}", options=("-d",))

    assert said.answers == []
    assert "0xc001" in said.text
    assert "the study is being indexed, ask again" in said.text


@pytest.mark.parametrize(
    "keys",
    [
        [LEVEL, "StudyInstanceUID"],
        [LEVEL, "PatientID=*"],
        [LEVEL, "StudyInstanceUID=1.2.*"],
        [LEVEL, "StudyInstanceUID=1.2.3\\1.2.4"],
        [LEVEL, "StudyInstanceUID=1.2.3", "StudyDate=yesterday"],
        ["QueryRetrieveLevel=SERIES", "StudyInstanceUID"],
        ["QueryRetrieveLevel=PATIENT", "StudyInstanceUID=1.2.3"],
        ["StudyInstanceUID=1.2.3"],
    ],
)
def test_a_question_that_names_no_single_study_is_refused_with_the_reason(
    library: Library, keys: list[str]
) -> None:
    said = find(library, *keys, options=("-d",), level=False)

    assert said.answers == []
    assert "0xa900" in said.text
    assert re.search(r"\(0000,0902\) LO \[.+\]", said.text), "ErrorComment"


def test_a_cancel_ends_the_answers(library: Library, monkeypatch: pytest.MonkeyPatch) -> None:
    peers.hold_until_cancelled(monkeypatch, "dicom_node.answer.pending", 2)
    key = f"StudyInstanceUID={library.uids['query']}"

    said = find(library, key, *BLOCK, "(0099,100C)=200", options=("--cancel", "2"))

    assert said.final.startswith("Cancel")
    assert len(said.answers) == 2


def test_the_dump_of_an_answer_is_the_golden_one(library: Library) -> None:
    keys = ("PatientID", "PatientName", "StudyDate", "StudyDescription", "ModalitiesInStudy")
    counts = ("NumberOfStudyRelatedSeries", "NumberOfStudyRelatedInstances", "BodyPartExamined")

    said = ask(library, LEVEL, f"StudyInstanceUID={library.uids['query']}", *keys, *counts, *BLOCK)

    dump = masked(said[said.index("Find Response: 1 ") : said.index("Find Response: 2 ")])
    if os.environ.get("UPDATE_GOLDEN"):
        GOLDEN.write_text(dump)
    assert dump == GOLDEN.read_text()


def ct_study(folder: Path, name: str, seed: int, patient_id: str, study_date: str) -> str:
    """Write a CT study of two slices; return its Study Instance UID."""
    new_uid = phantoms.uid_source(sum(name.encode()))
    for path in phantoms.ct_series(
        folder, new_uid=new_uid, slices=2, size=64, seed=seed, patient_id=patient_id
    ):
        dataset = dcmread(path)
        dataset.StudyDate = study_date
        dataset.save_as(path)
    return str(dataset.StudyInstanceUID)


def find(library: Library, *keys: str, options: tuple[str, ...] = (), level: bool = True) -> Said:
    """Ask with findscu; return what came."""
    with tempfile.TemporaryDirectory() as folder:
        asked = (LEVEL, *keys) if level else keys
        text = ask(library, *asked, options=("-X", "-od", folder, *options))
        return Said([dcmread(path) for path in sorted(Path(folder).glob("rsp*.dcm"))], text)


def ask(library: Library, *keys: str, options: tuple[str, ...] = ()) -> str:
    """Ask with findscu; return what it says."""
    peer = ("-aec", "SIMILIS_FIND", "127.0.0.1", library.node.query_port)
    asked = [part for key in keys for part in ("-k", key)]
    said = peers.run("findscu", "-v", "-S", *options, *peer, *asked, DCMDICTPATH=dictionaries())
    return said.stdout


def dictionaries() -> str:
    (standard,) = Path("/usr/share").glob("libdcmtk*/dicom.dic")
    return f"{standard}:{DICTIONARY}"


def masked(dump: str) -> str:
    """Hide what depends on encoder and machine: scores, best slice, the encoder, the snapshot."""
    dump = dump.replace("\0", " ")
    dump = re.sub(r"(\(0099,100b\) UI )\[[^]]+\] *#\s+\d+", r"\1[INSTANCE]", dump)
    dump = re.sub(r"(\(0099,10(?:02|0e)\) .. )\[?[0-9.]+\]?( *)", r"\1SCORE ", dump)
    dump = re.sub(r"(\(0099,1009\) LO )\[[^]]+\] *#\s+\d+", r"\1[SNAPSHOT]", dump)
    return re.sub(r"(\(0099,1008\) LO )\[[^]]+\] *#\s+\d+", r"\1[ENCODER]", dump)
