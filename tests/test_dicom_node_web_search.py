"""QIDO-RS: the same as C-FIND for the same question, and what is of HTTP alone."""

from typing import Any
from urllib.parse import quote

import pytest
from dicomweb_client.api import DICOMwebClient
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydicom import dcmread
from pydicom.datadict import tag_for_keyword
from pydicom.dataset import Dataset
from scripted import c_find, identifier
from webs import Library

pytestmark = pytest.mark.peer
PATHS = {"STUDY": "/studies", "SERIES": "/series", "IMAGE": "/instances"}
RETURNED = {
    "STUDY": ("StudyInstanceUID", "StudyDate", "PatientName", "PatientID", "ModalitiesInStudy",
              "AccessionNumber", "NumberOfStudyRelatedInstances"),
    "SERIES": ("SeriesInstanceUID", "Modality", "SeriesNumber", "SeriesDescription"),
    "IMAGE": ("SOPInstanceUID", "SOPClassUID", "InstanceNumber"),
}  # fmt: skip
VALUES: dict[str, tuple[str, ...]] = {
    "PatientName": ("Yamada*", "yamada^query", "山田*", "山田^twin", "CompressedSamples^CT1", "*"),
    "PatientID": ("PATIENT 1", "PATIENT ?", "*2", "patient 1", ""),
    "StudyDate": ("20240101", "20240101-20241231", "-20231231", "20250101-", "2004*", "never"),
    "StudyTime": ("07", "-12", "0700-235959", "25-"),
    "AccessionNumber": ("A,query", "A,*", "a,query", "%", "A_query"),
    "ModalitiesInStudy": ("CT", "MR", "C?", "ct"),
    "StudyDescription": ("*", "e+1", "*e*"),
    "PatientBirthDate": ("19000101-20261231", ""),
}


def search(library: Library, path: str, **params: Any) -> list[Dataset]:
    response = library.get(path, params=params)
    assert response.status_code == 200, response.text
    return [Dataset.from_json(entry) for entry in response.json()]


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    keys=st.fixed_dictionaries(
        {}, optional={keyword: st.sampled_from(values) for keyword, values in VALUES.items()}
    )
)
def test_the_answers_to_a_question_are_those_of_c_find(
    library: Library, keys: dict[str, str]
) -> None:
    fields = dict.fromkeys(RETURNED["STUDY"], "")
    asked = identifier("STUDY", SpecificCharacterSet="ISO_IR 192", **(fields | keys))
    statuses, expected = c_find(library.node.query_port, asked, called="SIMILIS_QR")

    response = library.get("/studies", params=keys)

    assert (statuses[-1].Status == 0) == (response.status_code == 200), response.text
    if response.status_code == 200:
        found = [Dataset.from_json(entry) for entry in response.json()]
        assert rows(found, "STUDY") == rows(expected, "STUDY")


@pytest.mark.parametrize("level", ["SERIES", "IMAGE"])
@pytest.mark.parametrize("name", ["query", "CT_small.dcm", "rtplan.dcm"])
def test_below_a_study_the_answers_are_those_of_c_find_too(
    library: Library, level: str, name: str
) -> None:
    header = dcmread(library.files[name], stop_before_pixels=True)
    above = {"StudyInstanceUID": header.StudyInstanceUID}
    path = f"/studies/{header.StudyInstanceUID}"
    if level == "IMAGE":
        above["SeriesInstanceUID"] = header.SeriesInstanceUID
        path += f"/series/{header.SeriesInstanceUID}"
    asked = identifier(level, **(dict.fromkeys(RETURNED[level], "") | above))
    _, expected = c_find(library.node.query_port, asked, called="SIMILIS_QR")

    found = search(library, path + PATHS[level])

    assert expected
    assert rows(found, level) == rows(expected, level)


def test_a_search_over_all_studies_finds_what_hierarchical_ones_find(library: Library) -> None:
    studies = search(library, "/studies")
    by_study = [
        row
        for study in studies
        for row in rows(search(library, f"/studies/{study.StudyInstanceUID}/series"), "SERIES")
    ]

    assert rows(search(library, "/series"), "SERIES") == by_study
    number = sum(study.NumberOfStudyRelatedInstances for study in studies)
    assert len(search(library, "/instances")) == number


@pytest.mark.parametrize("level", ["SERIES", "IMAGE"])
def test_one_series_or_instance_is_found_by_its_uid_alone(library: Library, level: str) -> None:
    header = dcmread(library.files["twin"])
    keyword = RETURNED[level][0]

    found = search(library, PATHS[level], **{keyword: header[keyword].value})
    none = search(library, PATHS[level], **{keyword: "1.2.3.4"})

    assert [dataset[keyword].value for dataset in found] == [header[keyword].value]
    assert found[0].StudyInstanceUID == header.StudyInstanceUID
    assert none == []


def test_a_key_of_a_series_narrows_a_search_for_instances(library: Library) -> None:
    found = search(library, "/instances", Modality="RTPLAN")

    assert [d.SOPInstanceUID for d in found] == [
        dcmread(library.files["rtplan.dcm"]).SOPInstanceUID
    ]


def test_keys_may_be_tags_and_uids_a_list(library: Library) -> None:
    uids = f"{library.uids['query']},{library.uids['twin']}"

    by_tag = search(library, "/studies", **{"0020000D": uids})
    by_keyword = search(library, "/studies", StudyInstanceUID=uids)

    assert {d.StudyInstanceUID for d in by_tag} == set(uids.split(","))
    assert rows(by_tag, "STUDY") == rows(by_keyword, "STUDY")


def test_pages_put_together_are_the_whole(library: Library) -> None:
    whole = search(library, "/studies")

    pages = [search(library, "/studies", limit=2, offset=n) for n in range(0, len(whole), 2)]

    assert [d.StudyInstanceUID for page in pages for d in page] == [
        d.StudyInstanceUID for d in whole
    ]
    first = library.get("/studies", params={"limit": 2})
    assert "additional results" in first.headers["warning"]
    assert "warning" not in library.get("/studies").headers
    assert search(library, "/studies", limit=0) == []


def test_further_attributes_come_when_they_are_asked_for(library: Library) -> None:
    query = {"StudyInstanceUID": library.uids["query"]}
    asked = query | {"includefield": ["StudyDescription,00080080"]}

    plain, more = search(library, "/studies", **query)[0], search(library, "/studies", **asked)[0]
    everything = search(library, "/studies", **query, includefield="all")[0]

    assert "StudyDescription" not in plain
    assert {"StudyDescription", "InstitutionName"} <= {e.keyword for e in more}
    assert "PatientAge" in everything


def test_what_is_not_supported_is_said_in_a_warning(library: Library) -> None:
    fuzzy = library.get("/studies", params={"fuzzymatching": "true", "PatientName": "Yamada^query"})
    unmatched = library.get("/studies", params={"RequestingPhysician": "X"})

    assert len(fuzzy.json()) == 1
    assert "fuzzymatching" in fuzzy.headers["warning"]
    assert "not supported" in unmatched.headers["warning"]


def test_every_answer_says_where_it_can_be_retrieved(library: Library) -> None:
    (found,) = search(
        library, "/instances", SOPInstanceUID=dcmread(library.files["twin"]).SOPInstanceUID
    )

    assert found.RetrieveURL == library.url + library.path_of("twin")
    assert "QueryRetrieveLevel" not in found


def test_dicomweb_client_finds_studies_series_and_instances(library: Library) -> None:
    client = DICOMwebClient(url=library.url)
    header = dcmread(library.files["query"])

    studies = client.search_for_studies(search_filters={"PatientID": "PATIENT 1"})
    series = client.search_for_series(header.StudyInstanceUID)
    instances = client.search_for_instances(header.StudyInstanceUID, header.SeriesInstanceUID)

    assert {Dataset.from_json(d).StudyInstanceUID for d in studies} == {
        library.uids["query"], library.uids["prior"]
    }  # fmt: skip
    assert [Dataset.from_json(d).SeriesInstanceUID for d in series] == [header.SeriesInstanceUID]
    assert len(instances) == 2
    name = Dataset.from_json(studies[0]).PatientName
    assert str(name).startswith("Yamada^")
    assert name.ideographic.startswith("山田^")


def test_a_parameter_that_is_not_known_is_named(library: Library) -> None:
    named = library.get("/studies?foo=1").json()["error"]
    cleaned = library.get("/studies", params={"<b>Doe": 1, "limit": 1}).json()["error"]

    assert named.startswith("foo: ")
    assert cleaned.startswith("a parameter: ")
    assert "Doe" not in cleaned


@pytest.mark.parametrize(
    "query",
    [
        "Nothing=1", "limit=-1", "limit=many", "offset=1e9", "StudyDate=yesterday", "00020010=1",
        "PatientID=1&PatientID=2", "00400275.00400007=x", "PatientID=%00", "PatientID=%0a",
        "fuzzymatching=maybe", f"PatientID={'x' * 5000}", f"StudyInstanceUID={'1,' * 3000}1",
        "includefield=Nothing", f"offset={1 << 63}",
    ],
)  # fmt: skip
def test_a_bad_query_is_refused_with_a_sentence(library: Library, query: str) -> None:
    response = library.get(f"/studies?{query}")

    assert (response.status_code, list(response.json())) == (400, ["error"])


@pytest.mark.parametrize(
    "value", ["'; drop table study;--", '" or 1=1', "a\\b", "%25", "../../etc"]
)
def test_hostile_values_match_nothing_and_break_nothing(library: Library, value: str) -> None:
    response = library.get(f"/studies?PatientID={quote(value)}")

    assert (response.status_code, response.json()) == (200, [])


@pytest.mark.parametrize(
    "uid", ["%2e%2e", "1.2..3", "%2e%2e%2fetc", "1" * 65, "x", "1.2.3%00", "*"]
)
@pytest.mark.parametrize("rest", ["series", "metadata", "similar", ""])
def test_what_is_no_uid_names_no_study(library: Library, uid: str, rest: str) -> None:
    response = library.get(f"/studies/{uid}/{rest}")

    assert response.status_code in (400, 404)
    assert list(response.json()) == ["error"]


def rows(datasets: list[Dataset], level: str) -> list[list[str]]:
    tags = [tag_for_keyword(keyword) for keyword in RETURNED[level]]
    return [[str(d[tag].value) for tag in tags if tag is not None] for d in datasets]
