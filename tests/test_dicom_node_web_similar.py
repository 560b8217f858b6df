"""Similar cases over HTTP: the same as C-FIND says, and nothing kept of what is posted."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import peers
import pytest
from pydicom import dcmread
from pydicom.dataset import Dataset
from scripted import c_find, identifier
from webs import Library, multipart, post

from dicom_node.answer import private
from dicom_node.node import Node
from dicom_node.receive.store import PREAMBLE
from training import phantoms

pytestmark = pytest.mark.peer
BLOCK = private.Block(0x10)
DICOM = {"Content-Type": "application/dicom"}


def answers(response: httpx.Response) -> list[Dataset]:
    assert response.status_code == 200, response.text
    assert response.headers["content-type"] == "application/dicom+json"
    return [Dataset.from_json(entry) for entry in response.json()]


def names(library: Library, found: list[Dataset]) -> list[str]:
    by_uid = {uid: name for name, uid in library.uids.items()}
    return [by_uid.get(dataset.StudyInstanceUID, "?") for dataset in found]


def test_the_cases_are_those_of_c_find_in_the_same_words(library: Library) -> None:
    told = ("PatientName", "PatientID", "StudyDate", "ModalitiesInStudy", "StudyDescription")
    asked = identifier(StudyInstanceUID=library.uids["query"], **dict.fromkeys(told, ""))
    BLOCK.reserve(asked)
    _, expected = c_find(library.node.query_port, asked)

    path = f"/studies/{library.uids['query']}/similar"
    found = answers(library.get(path, params={"includefield": ",".join(told)}))

    assert names(library, found)[0] == "twin"
    keywords = ("StudyInstanceUID", *told)
    assert [[str(d[k].value) for k in keywords] for d in found] == [
        [str(d[k].value) for k in keywords] for d in expected
    ]
    for element in (private.RANK, private.SCORE, private.BEST_INSTANCE, private.ENCODER):
        assert [BLOCK.text(d, element) for d in found] == [
            BLOCK.text(d, element) for d in expected
        ], element.name


def test_patients_are_named_only_where_that_is_asked_for(library: Library) -> None:
    response = library.get(f"/studies/{library.uids['query']}/similar")

    assert "PatientName" not in answers(response)[0]
    assert "Yamada" not in response.text
    assert "PATIENT 2" not in response.text


@pytest.mark.parametrize(
    ("params", "expected"),
    [
        ({"modality": "ct"}, ["twin", "other"]),
        ({"modality": "CT", "k": 1}, ["twin"]),
        ({"modality": "CT", "date": "-20231231"}, ["other"]),
        ({"modality": "CT", "body_part": "KNEE"}, []),
        ({"modality": "CT", "min_score": 0.9999}, ["twin"]),
        ({"modality": "CT", "sex": "o"}, ["twin", "other"]),
        ({"modality": "CT", "sex": "F"}, []),
        ({"modality": "CT", "age": "50-60", "effort": "exact"}, ["twin", "other"]),
        ({"modality": "CT", "age": "-55"}, []),
        ({"modality": "CT", "institution": "elsewhere"}, []),
        ({"modality": "CT", "description": "phantom ct"}, ["twin", "other"]),
        ({"modality": "CT", "description": "phantom dx"}, []),
        ({"modality": "MR", "date": "19000101-19000102"}, []),
    ],
)
def test_parameters_say_which_cases_are_answered(
    library: Library, params: dict[str, Any], expected: list[str]
) -> None:
    response = library.get(f"/studies/{library.uids['query']}/similar", params=params)

    assert [name for name in names(library, answers(response)) if name != "?"] == expected


def test_the_patients_own_studies_come_in_where_the_scope_says_so(library: Library) -> None:
    path = f"/studies/{library.uids['query']}/similar"

    found = names(library, answers(library.get(path, params={"scope": "ALL", "k": 2})))

    assert sorted(found) == ["prior", "twin"]


def test_a_series_is_answered_with_the_nearest_series_of_each_study(library: Library) -> None:
    series = library.path_of("query").partition("/instances")[0]

    best = answers(library.get(f"{series}/similar"))[0]

    assert names(library, [best]) == ["twin"]
    assert best.SeriesInstanceUID == BLOCK.text(best, private.BEST_SERIES)
    assert best.SeriesInstanceUID == dcmread(library.files["twin"]).SeriesInstanceUID


@pytest.mark.parametrize(
    "query",
    [
        "k=0", "k=many", "min_score=2", "date=yesterday", "scope=EVERYONE", "modality=C*",
        "wishes=3", "includefield=Nothing", "body_part=%00",
        "age=young", "age=9-3", "age=%00", "effort=hard", "institution=St*", "description=kn%3Fe",
    ],
)  # fmt: skip
def test_a_bad_parameter_is_refused_with_a_sentence(library: Library, query: str) -> None:
    response = library.get(f"/studies/{library.uids['query']}/similar?{query}")

    assert response.status_code == 400
    assert list(response.json()) == ["error"]
    assert response.json()["error"]


def test_a_parameter_that_is_not_known_is_named(library: Library) -> None:
    path = f"/studies/{library.uids['query']}/similar"

    assert library.get(f"{path}?foo=1").json()["error"] == "foo: it is not known here"
    for name in ("<script>", "Doe Jane", "x" * 100):
        error = library.get(path, params={name: "1"}).json()["error"]
        assert error == "a parameter: it is not known here"


def test_an_unknown_study_or_series_is_not_found(library: Library) -> None:
    query = library.uids["query"]
    for path in ("/studies/1.2.3.4/similar", f"/studies/{query}/series/1.2.3/similar"):
        response = library.get(path)
        assert response.status_code == 404
        assert "1.2.3.4" in response.text or query in response.text


def test_a_study_without_vectors_says_why_there_are_none(library: Library) -> None:
    study = dcmread(library.files["rtplan.dcm"]).StudyInstanceUID

    response = library.get(f"/studies/{study}/similar")

    assert response.status_code == 404
    assert "is skipped" in response.json()["error"]


def test_a_study_on_its_way_into_the_index_is_to_be_asked_for_again(
    start_node: Callable[..., Node], tmp_path: Path
) -> None:
    node = start_node(http={"port": 0}, lifecycle={"series_quiet_s": 3600})
    path = phantoms.still(tmp_path, new_uid=phantoms.uid_source(1), size=(64, 48), seed=1)
    peers.dcmsend(node.port, path)
    study = dcmread(path).StudyInstanceUID

    response = httpx.get(f"http://127.0.0.1:{node.http_port}/studies/{study}/similar")

    assert response.status_code == 503
    assert int(response.headers["retry-after"]) > 0
    assert "ask again" in response.json()["error"]


@pytest.mark.parametrize("quoted", [True, False])
def test_posted_files_are_ranked_like_the_kept_study_they_are(
    library: Library, quoted: bool
) -> None:
    files = sorted(library.files["query"].parent.iterdir())
    kind = '"application/dicom"' if quoted else "application/dicom"
    headers = {"Content-Type": f"multipart/related; type={kind}; boundary=b"}

    response = post(library, multipart(files), headers, modality="CT")

    assert response.status_code == 200, response.text
    found = response.json()
    studies = [case["study_instance_uid"] for case in found["cases"]]
    assert studies[0] == library.uids["twin"]
    assert library.uids["query"] not in studies
    assert library.uids["prior"] not in studies
    assert found["cases"][0]["score"] == pytest.approx(1, abs=1e-3)
    assert "patient_id" not in found["cases"][0]
    assert_nothing_is_left(library)


def test_posted_files_are_answered_as_a_kept_study_is_where_that_is_asked(library: Library) -> None:
    files = sorted(library.files["query"].parent.iterdir())
    headers = {"Content-Type": "multipart/related; boundary=b", "Accept": "application/dicom+json"}
    params = {"modality": "CT", "includefield": "PatientID"}

    posted = post(library, multipart(files), headers, **params)
    kept = library.get(f"/studies/{library.uids['query']}/similar", params=params)

    assert names(library, answers(posted)) == names(library, answers(kept))
    assert names(library, answers(posted))[0] == "twin"
    score = BLOCK.text(answers(posted)[0], private.SCORE)
    assert float(score) == pytest.approx(
        float(BLOCK.text(answers(kept)[0], private.SCORE)), abs=1e-5
    )
    for one, other in zip(answers(posted), answers(kept), strict=True):
        assert one.keys() == other.keys()
        assert one.PatientID == other.PatientID
    assert_nothing_is_left(library)


@pytest.mark.parametrize(
    ("accept", "includefield", "status"),
    [
        ("*/*", "", 200),
        ("application/json", "", 200),
        ("text/html", "", 406),
        ("*/*", "PatientID", 400),
    ],
)
def test_posted_files_are_answered_as_json_by_default(
    library: Library, accept: str, includefield: str, status: int
) -> None:
    body, asked = library.files["CT_small.dcm"].read_bytes(), {"includefield": includefield}

    response = post(library, body, DICOM | {"Accept": accept}, **asked)

    assert response.status_code == status
    assert response.headers["content-type"] == "application/json"
    assert_nothing_is_left(library)


def test_a_single_file_may_be_the_whole_body(library: Library) -> None:
    response = post(library, library.files["CT_small.dcm"].read_bytes(), DICOM)

    assert response.status_code == 200, response.text
    assert [case["rank"] for case in response.json()["cases"]][:2] == [1, 2]
    assert_nothing_is_left(library)


@pytest.mark.parametrize(
    ("body", "content_type", "status"),
    [
        (b"", "application/dicom", 400),
        (b"no DICOM", "application/dicom", 400),
        (PREAMBLE + b"\xff" * 500, "application/dicom", 400),
        (b"x", "application/json", 400),
        (b"x", "text/plain", 415),
        (b"x", "multipart/related; type=application/json; boundary=b", 415),
        (b"x", "multipart/related; type=application/dicom", 400),
        (b"x", "multipart/related; type=application/dicom; boundary=b", 400),
        (b"--b\r\n\r\nno end", "multipart/related; type=application/dicom; boundary=b", 400),
        (b"--b\r\n\r\nx\r\n--b--", "multipart/related; boundary=b", 400),
        (b"--b--", "multipart/related; boundary=b", 400),
        (b"--b\r\n" * 1000, "multipart/related; boundary=b", 400),
        (b"x", f"multipart/related; boundary={'b' * 500}", 400),
    ],
)
def test_a_bad_body_is_refused_and_nothing_is_left_of_it(
    library: Library, body: bytes, content_type: str, status: int
) -> None:
    response = post(library, body, {"Content-Type": content_type})

    assert (response.status_code, list(response.json())) == (status, ["error"])
    assert_nothing_is_left(library)


def test_files_that_show_nothing_are_refused(library: Library) -> None:
    plan = post(library, library.files["rtplan.dcm"].read_bytes(), DICOM)

    assert plan.status_code == 400
    assert "a treatment plan" in plan.json()["error"]
    assert_nothing_is_left(library)


@pytest.mark.parametrize("announced", [True, False])
def test_a_body_that_is_too_large_is_refused(library: Library, announced: bool) -> None:
    body = bytes(3 << 20)
    content: Any = body if announced else iter([body[: 1 << 20]] * 3)

    response = httpx.post(f"{library.url}/similar", content=content, headers=DICOM)

    assert response.status_code == 413
    assert response.json()["error"] == "the body is larger than 2 MiB"
    assert_nothing_is_left(library)


def test_nothing_is_left_when_the_client_goes_away_in_the_middle(library: Library) -> None:
    def broken() -> Any:
        yield PREAMBLE
        raise ConnectionError("gone")

    with pytest.raises(ConnectionError):
        httpx.post(f"{library.url}/similar", content=broken(), headers=DICOM)

    uploads = library.node.config.data / "uploads"
    peers.wait_for("an empty folder", lambda: not list(uploads.iterdir()))


def assert_nothing_is_left(library: Library) -> None:
    assert list((library.node.config.data / "uploads").iterdir()) == []
