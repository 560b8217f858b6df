"""`similis similar` by a region and by several examples, and the parts that it points at."""

import shutil
from dataclasses import dataclass
from pathlib import Path

import pytest
from pydicom import dcmread
from test_dicom_node_cli import cases_of, ct_study, similis

from training import phantoms


@dataclass(frozen=True)
class Library:
    data: Path
    source: Path
    ct_uids: tuple[str, ...]
    still_uid: str


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> Library:
    folder = tmp_path_factory.mktemp("library")
    source, data = folder / "source", folder / "data"
    ct_uids = tuple(ct_study(source / "ct", seed) for seed in (1, 2, 3))
    still = phantoms.still(source / "er", new_uid=phantoms.uid_source(9), patient_id="STILL")
    similis("import", source, data=data)
    return Library(data, source, ct_uids, str(dcmread(still).StudyInstanceUID))


def test_json_points_at_the_best_part_on_both_sides(library: Library) -> None:
    (case,) = cases_of(similis("similar", library.ct_uids[0], "-k1", "--json", data=library.data))
    assert set(case["query_part"]) == set(case["case_part"]) == {"sop_instance_uid", "frame", "box"}
    assert case["sop_instance_uid"] == case["case_part"]["sop_instance_uid"]
    own = {str(dcmread(path).SOPInstanceUID) for path in (library.source / "ct").glob("*.dcm")}
    assert case["query_part"]["sop_instance_uid"] in own


def test_a_box_of_a_slice_finds_the_study_it_was_cut_from(library: Library, tmp_path: Path) -> None:
    ct_study(tmp_path, seed=2, uid_seed=77, patient_id="STRANGER")
    said = similis(
        "similar", tmp_path, "--slice", "2", "--box", "8,8,40,40", "--json", data=library.data
    )
    cases = cases_of(said)
    assert len(cases) == 4
    assert all(-1 <= case["score"] <= 1 for case in cases)
    assert all(case["case_part"]["frame"] == 1 for case in cases)
    assert {tuple(case["query_part"]["box"]) for case in cases} == {(8, 8, 40, 40)}


def test_several_examples_are_asked_at_once_and_none_is_its_own_answer(
    library: Library, tmp_path: Path
) -> None:
    wanted, unwanted = tmp_path / "wanted", tmp_path / "unwanted"
    ct_study(wanted / "1", seed=1, uid_seed=71, patient_id="STRANGER")
    shutil.copytree(library.source / "ct", wanted / "kept")
    phantoms.still(unwanted, new_uid=phantoms.uid_source(33), patient_id="ANOTHER", seed=1)

    cases = cases_of(
        similis("similar", wanted, "--not", unwanted, "-k1", "--json", data=library.data)
    )

    assert [case["study_instance_uid"] for case in cases] == [library.still_uid]
    assert cases[0]["rank"] == 1


@pytest.mark.parametrize(
    ("filters", "count"),
    [
        (["--age", "50-60", "--sex", "o", "--date", "20240101-", "--effort", "exact"], 3),
        (["--age", "0-12"], 0),
        (["--sex", "f"], 0),
        (["--date", "-19991231"], 0),
        (["--institution", "elsewhere"], 0),
        (["--description", "phantom ct", "--effort", "fast"], 2),
        (["--description", "phantom dx"], 1),
    ],
)
def test_filters_say_which_cases_may_be_answered(
    library: Library, filters: list[str], count: int
) -> None:
    said = similis("similar", library.ct_uids[0], *filters, "--json", data=library.data)
    assert len(cases_of(said)) == count


@pytest.mark.parametrize(
    "option", [["--age", "12-0"], ["--age", "old"], ["--date", "soon"], ["--effort", "hard"]]
)
def test_a_filter_that_makes_no_sense_is_bad_usage(library: Library, option: list[str]) -> None:
    said = similis("similar", library.ct_uids[0], *option, data=library.data, expect=2)
    assert option[0] in said.stderr


@pytest.mark.parametrize(
    ("region", "complaint"),
    [
        (["--slice", "9"], "0 of 2 files have the Instance Number 9"),
        (["--slice", "1", "--box", "0,0,4000,10"], "reaches beyond its"),
        (["--box", "1,1,0,0"], "the box is empty"),
    ],
)
def test_a_region_that_is_not_there_is_a_failure_in_clear_words(
    library: Library, tmp_path: Path, region: list[str], complaint: str
) -> None:
    ct_study(tmp_path, seed=2, uid_seed=77)
    said = similis("similar", tmp_path, *region, data=library.data, expect=1)
    assert complaint in said.stderr
