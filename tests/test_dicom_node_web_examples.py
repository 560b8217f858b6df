"""Several examples over HTTP, wanted and not wanted, and regions of one."""

from pathlib import Path

import pytest
from webs import CT_STUDIES, Library, multipart, post

pytestmark = pytest.mark.peer
RELATED = {"Content-Type": "multipart/related; type=application/dicom; boundary=b"}


def files_of(library: Library, *names: str) -> list[Path]:
    return [path for name in names for path in sorted(library.files[name].parent.iterdir())]


def cases_for(library: Library, files: list[Path], **params: str) -> list[dict[str, object]]:
    response = post(library, multipart(files), RELATED, modality="CT", **params)
    assert response.status_code == 200, response.text
    assert list((library.node.config.data / "uploads").iterdir()) == []
    cases: list[dict[str, object]] = response.json()["cases"]
    return cases


def studies(library: Library, cases: list[dict[str, object]]) -> list[str]:
    by_uid = {library.uids[name]: name for name, *_ in CT_STUDIES}
    return [by_uid.get(str(case["study_instance_uid"]), "?") for case in cases]


def test_the_studies_of_the_parts_are_one_example_each(library: Library) -> None:
    both = cases_for(library, files_of(library, "query", "other"))
    alone = cases_for(library, files_of(library, "query"))

    assert "twin" in studies(library, both)
    assert "other" in studies(library, alone)
    assert not {"query", "prior", "other"} & set(studies(library, both))
    assert both[0]["score"] < alone[0]["score"]  # type: ignore[operator]  # numbers of JSON


def test_a_study_that_is_not_wanted_takes_its_likes_down(library: Library) -> None:
    files = files_of(library, "query", "other")
    liked = cases_for(library, files, unlike=library.uids["query"])
    disliked = cases_for(library, files, unlike=library.uids["other"])

    def score(cases: list[dict[str, object]], name: str) -> float:
        (found,) = [case for case in cases if case["study_instance_uid"] == library.uids[name]]
        return float(str(found["score"]))

    assert score(disliked, "twin") > score(liked, "twin")
    assert not {"query", "other"} & set(studies(library, liked))


def test_several_examples_are_answered_as_data_sets_as_well(library: Library) -> None:
    headers = RELATED | {"Accept": "application/dicom+json"}
    body = multipart(files_of(library, "query", "other"))

    response = post(library, body, headers, modality="CT")

    assert response.status_code == 200, response.text
    found = [entry["0020000D"]["Value"][0] for entry in response.json()]
    assert library.uids["twin"] in found
    assert all("00991003" not in entry for entry in response.json())  # no one study was the example


def test_a_box_of_a_slice_is_compared_with_parts(library: Library) -> None:
    files = files_of(library, "query")

    cases = cases_for(library, files, slice="2", box="8, 8,40,40")

    assert studies(library, cases)[0] == "twin"
    places = [case["query_part"] for case in cases]
    assert all(place["box"] == [8, 8, 40, 40] for place in places)  # type: ignore[index]  # of JSON


@pytest.mark.parametrize(
    ("params", "reason"),
    [
        ({"slice": "0"}, "slice: "),
        ({"slice": "two"}, "slice: "),
        ({"slice": "9"}, "0 of 2 files have the Instance Number 9"),
        ({"box": "1,2,3"}, "box: it is not x,y,width,height in pixels"),
        ({"box": "-1,2,3,4"}, "box: it is not"),
        ({"box": "0,0,4000,10"}, "reaches beyond its"),
        ({"unlike": "nobody"}, "unlike: it is no list of UIDs"),
        ({"unlike": "1.2.3"}, "unlike: no posted file is of such a study"),
        ({"unlike": "1.2.3", "box": "0,0,9,9"}, "unlike: it goes without slice and box"),
    ],
)
def test_what_makes_no_sense_of_the_files_is_refused(
    library: Library, params: dict[str, str], reason: str
) -> None:
    response = post(library, multipart(files_of(library, "query")), RELATED, **params)

    assert response.status_code == 400
    assert reason in response.json()["error"]
    assert list((library.node.config.data / "uploads").iterdir()) == []


def test_a_region_is_of_one_example_and_not_all_are_unwanted(library: Library) -> None:
    files = files_of(library, "query", "other")

    two = post(library, multipart(files), RELATED, slice="1")
    none = post(library, multipart(files[:2]), RELATED, unlike=library.uids["query"])

    assert (two.status_code, none.status_code) == (400, 400)
    assert "a slice or a box is of one example" in two.json()["error"]
    assert "nothing to compare with" in none.json()["error"]


def test_a_kept_study_takes_no_region(library: Library) -> None:
    response = library.get(f"/studies/{library.uids['query']}/similar", params={"slice": "1"})

    assert response.status_code == 400
    assert response.json()["error"] == "slice: it is not known here"
