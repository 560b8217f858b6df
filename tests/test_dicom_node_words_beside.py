"""Words beside an example, at every door: how both are weighed, and what does not go together."""

from collections.abc import Callable
from itertools import combinations
from pathlib import Path
from typing import Any

import httpx
import peers
import pytest
from encoders import image_of
from webs import multipart, url_of
from word_searches import SENTENCE, WordLibrary, encoder_with_space, filled

from dicom_node.node import Node

pytestmark = pytest.mark.peer
DICOM = {"Content-Type": "application/dicom"}
RELATED = {"Content-Type": "multipart/related; type=application/dicom; boundary=b"}

Scores = dict[str, float]


def get(node: Node, path: str = "/similar", **params: Any) -> httpx.Response:
    return httpx.get(url_of(node) + path, params=params, timeout=60)


def post(node: Node, body: bytes, headers: dict[str, str] = DICOM, **params: Any) -> httpx.Response:
    url = f"{url_of(node)}/similar"
    return httpx.post(url, content=body, headers=headers, params=params, timeout=60)


def ask(node: Node, body: object, **params: Any) -> httpx.Response:
    return httpx.post(f"{url_of(node)}/similar", json=body, params=params, timeout=60)


def scores(response: httpx.Response) -> Scores:
    assert response.status_code == 200, response.text
    return {case["study_instance_uid"]: case["score"] for case in response.json()["cases"]}


def plain(node: Node, study: str) -> Scores:
    """Return the scores of the example alone."""
    told = get(node, f"/studies/{study}/similar").json()
    return {entry["0020000D"]["Value"][0]: entry["00991002"]["Value"][0] for entry in told}


def test_the_score_goes_from_that_of_the_example_to_that_of_the_sentence(
    words: WordLibrary,
) -> None:
    study = words.studies()[2]
    by_image = plain(words.node, study)
    by_words = scores(get(words.node, text=SENTENCE))
    del by_words[study]
    assert list(by_image) != list(by_words)

    for weight in (0, 1e-4, 0.25, 0.5, 0.75, 1 - 1e-4, 1):
        told = scores(get(words.node, text=SENTENCE, study=study, text_weight=weight))
        expected = {uid: weight * by_words[uid] + (1 - weight) * by_image[uid] for uid in by_image}
        assert told == pytest.approx(expected, abs=1e-5)
        assert list(told) == sorted(told, key=lambda uid: (-told[uid], uid))
        for first, second in combinations(told, 2):  # what both sides agree on holds for the mix
            assert by_image[first] >= by_image[second] or by_words[first] >= by_words[second]


def test_words_of_no_weight_are_not_asked(tmp_path: Path) -> None:
    sections = encoder_with_space(tmp_path, floor=0.999)
    with peers.stopped_at_the_end(node := filled(tmp_path, sections)):
        study = WordLibrary(node, sections).studies()[0]
        asked = get(node, text="nothing of this", study=study, text_weight=0)
        alone = plain(node, study)
        posted = image_of(tmp_path / "push", 0).read_bytes()
        told = [post(node, posted, text=SENTENCE, text_weight=0), post(node, posted)]

    assert scores(asked) == pytest.approx(alone)
    assert asked.json()["model_id"] == node.model.model_id
    assert told[0].json() == told[1].json()
    assert told[0].json()["cases"]


def test_words_that_say_nothing_leave_the_answer_to_the_example(
    words: WordLibrary, tmp_path: Path
) -> None:
    study, body = words.studies()[1], image_of(tmp_path, 1).read_bytes()
    alone = post(words.node, body).json()

    kept = get(words.node, text="wombat", study=study)
    posted = post(words.node, body, text="wombat")
    datasets = httpx.get(
        f"{url_of(words.node)}/similar",
        params={"text": "wombat", "study": study},
        headers={"Accept": "application/dicom+json"},
        timeout=60,
    )

    assert posted.json()["cases"] == alone["cases"]
    assert scores(kept) == pytest.approx(plain(words.node, study))
    for told in (kept.json(), posted.json()):
        assert told["model_id"] == alone["model_id"] == words.node.model.model_id
        assert told["encoder"] == alone["encoder"] == words.node.model.version
        assert "the words have no share" in " ".join(told["words"]["remarks"])
    assert datasets.json()[0]["00991008"]["Value"] == [alone["encoder"]]
    assert datasets.headers["warning"].startswith('299 similis "the words have no share')


def test_words_of_no_weight_need_no_text_space(
    tmp_path: Path, start_node: Callable[..., Node]
) -> None:
    sections = encoder_with_space(tmp_path)
    node = start_node(http={"port": 0}, encoder=sections["encoder"], text={"enabled": False})
    posted = image_of(tmp_path / "push", 1).read_bytes()

    assert scores(post(node, posted, text=SENTENCE, text_weight=0)) == {}
    refused = post(node, posted, text=SENTENCE)
    assert (refused.status_code, "`text.enabled` is false" in refused.text) == (501, True)


def test_the_lowest_score_is_of_the_mixed_ones(words: WordLibrary) -> None:
    study = words.studies()[2]
    told = scores(get(words.node, text=SENTENCE, study=study))
    first, second, *_ = told.values()

    limit = (first + second) / 2
    assert list(scores(get(words.node, text=SENTENCE, study=study, min_score=limit))) == [
        next(iter(told))
    ]


def test_words_go_with_a_posted_file_as_with_a_kept_study(
    words: WordLibrary, tmp_path: Path
) -> None:
    study = words.studies()[1]
    body = image_of(tmp_path, 1).read_bytes()
    kept = get(words.node, text=SENTENCE, study=study, text_weight=0.3)

    posted = post(words.node, body, text=SENTENCE, text_weight=0.3)

    assert scores(posted) == pytest.approx(scores(kept), abs=1e-5)
    assert posted.json()["outside_space"] is False
    assert "outside_space" not in post(words.node, body).json()
    datasets = httpx.post(
        f"{url_of(words.node)}/similar",
        content=body,
        headers=DICOM | {"Accept": "application/dicom+json"},
        params={"text": SENTENCE, "text_weight": 0.3},
        timeout=60,
    ).json()
    assert [entry["0020000D"]["Value"][0] for entry in datasets] == list(scores(posted))
    assert datasets[0]["00991003"]["Value"] == [study]


def test_words_go_with_a_box_of_a_posted_file(words: WordLibrary, tmp_path: Path) -> None:
    body = image_of(tmp_path, 1).read_bytes()
    boxed = {"slice": 1, "box": "8,8,40,40"}
    alone = scores(post(words.node, body, **boxed))

    told = post(words.node, body, text=SENTENCE, text_weight=1e-5, **boxed)

    told_scores = scores(told)  # of all: with words near-duplicates are cases of their own
    assert {uid: told_scores[uid] for uid in alone} == pytest.approx(alone, abs=1e-4)
    assert {tuple(case["query_part"]["box"]) for case in told.json()["cases"]} == {(8, 8, 40, 40)}


def test_a_body_of_json_asks_what_the_url_does(words: WordLibrary) -> None:
    study = words.studies()[1]
    for asked in ({}, {"k": 2, "modality": "CT"}, {"study": study, "text_weight": 0.3}):
        answer = ask(words.node, {"text": SENTENCE, **asked})
        assert (answer.status_code, answer.json()) == (
            200,
            get(words.node, text=SENTENCE, **asked).json(),
        )


@pytest.mark.parametrize(
    ("body", "status", "complaint"),
    [
        ({}, 400, "text: Field required"),
        ({"text": " "}, 400, "text: it has no word"),
        ({"text": "chest", "k": 0}, 400, "k: "),
        ({"text": "chest", "box": "1,2,3,4"}, 400, "box: it is not known here"),
        ({"text": "chest", "text_weight": 0.3}, 400, "text_weight: it is of words beside an ex"),
        ({"text": "chest", "study": "1.2.3"}, 404, "study 1.2.3 is not known here"),
        (["chest"], 400, "the body is no JSON object"),
        ({"text": "x" * 200_000}, 413, "the body is larger than 128 KiB"),
    ],
)
def test_a_body_of_json_that_asks_nothing_is_refused(
    words: WordLibrary, body: object, status: int, complaint: str
) -> None:
    answer = ask(words.node, body)

    assert (answer.status_code, complaint in answer.json()["error"]) == (status, True), answer.text


def test_a_body_that_is_no_json_is_refused_without_a_word_of_it(words: WordLibrary) -> None:
    headers = {"Content-Type": "application/json; charset=utf-8"}
    for body in (b"", b"Zebulon", b'{"text": "Zebulon\xff"}', b"[" * 100_000):
        answer = post(words.node, body, headers)
        assert (answer.status_code, answer.json()["error"]) == (400, "the body is no JSON object")
    answer = ask(words.node, {"text": "chest"}, k=2)
    assert "with a body of JSON all parameters are in the body" in answer.json()["error"]


@pytest.mark.parametrize(
    ("params", "complaint"),
    [
        ({"text_weight": 0.3}, "text_weight: it is of words beside an example, and there are none"),
        ({"text": SENTENCE, "text_weight": 1.5}, "text_weight: "),
        ({"text": " "}, "text: it has no word"),
        ({"text": SENTENCE, "unlike": "1.2.3"}, "text: it goes without unlike"),
        ({"text": SENTENCE}, "text: it goes with one example; send the files of one study"),
    ],
)
def test_what_does_not_go_with_posted_files_is_refused(
    words: WordLibrary, tmp_path: Path, params: dict[str, Any], complaint: str
) -> None:
    body = multipart([image_of(tmp_path, 1), image_of(tmp_path, 2)])

    answer = post(words.node, body, RELATED, **params)

    assert (answer.status_code, complaint in answer.json()["error"]) == (400, True), answer.text


def test_a_share_of_words_needs_an_example(words: WordLibrary) -> None:
    answer = get(words.node, text=SENTENCE, text_weight=0.3)

    assert answer.status_code == 400
    assert answer.json()["error"].startswith("text_weight: it is of words beside an example")
