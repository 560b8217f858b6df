"""`GET /similar?text=`: the same as C-FIND says, in JSON or as data sets."""

import json
from collections.abc import Callable, MutableMapping
from pathlib import Path
from typing import Any

import httpx
import peers
import pytest
from pydicom.dataset import Dataset
from webs import url_of
from word_searches import (
    BLOCK,
    SENTENCE,
    STUDIES,
    WordLibrary,
    encoder_with_space,
    filled,
    filled_in_part,
)

from dicom_node.answer import private
from dicom_node.errors import WordsFailed, WorkerUnavailable
from dicom_node.node import Node

pytestmark = pytest.mark.peer
DICOM_JSON = "application/dicom+json"


def get(words: WordLibrary, accept: str = "*/*", **params: Any) -> httpx.Response:
    return ask(words.node, accept, **params)


def ask(node: Node, accept: str = "*/*", **params: Any) -> httpx.Response:
    url = f"{url_of(node)}/similar"
    return httpx.get(url, params=params, headers={"Accept": accept}, timeout=60)


def test_a_sentence_finds_what_c_find_finds(words: WordLibrary) -> None:
    sentence = f"{SENTENCE} of a wombat"
    _, expected = words.ask(sentence)

    told = get(words, text=sentence).json()
    datasets = get(words, DICOM_JSON, text=sentence)

    uids = [each.StudyInstanceUID for each in expected]
    assert [case["study_instance_uid"] for case in told["cases"]] == uids
    scores = [float(BLOCK.text(each, private.SCORE)) for each in expected]
    assert [case["score"] for case in told["cases"]] == scores
    assert (told["outside_space"], told["encoder"]) == (False, words.space.version)
    assert told["words"]["verdict"] == "doubtful"
    assert "not learned: wombat" in told["words"]["remarks"]
    # The small tower of the tests reads 16 pieces of words.
    warning = '299 similis "1 word was not learned; the end is not read"'
    assert datasets.headers["warning"] == warning
    assert datasets.headers["content-type"] == DICOM_JSON
    found = [Dataset.from_json(entry) for entry in datasets.json()]
    assert [each.StudyInstanceUID for each in found] == uids
    assert "PatientID" not in found[0]


def test_it_takes_the_parameters_of_the_other_routes(words: WordLibrary) -> None:
    assert len(get(words, text=SENTENCE, k=2).json()["cases"]) == 2
    assert get(words, text=SENTENCE, modality="MR").json()["cases"] == []
    told = get(words, DICOM_JSON, text=SENTENCE, includefield="PatientID").json()
    assert len({entry["00100020"]["Value"][0] for entry in told}) == STUDIES


def test_words_and_a_study_go_together(words: WordLibrary) -> None:
    study = words.studies()[1]
    _, expected = words.ask_private(SENTENCE, QUERY_STUDY=study)

    told = get(words, text=SENTENCE, study=study).json()

    uids = [case["study_instance_uid"] for case in told["cases"]]
    assert uids == [each.StudyInstanceUID for each in expected]
    assert study not in uids
    assert get(words, text=SENTENCE, study="1.2.3").status_code == 404


@pytest.mark.parametrize(
    ("params", "complaint"),
    [
        ({}, "text: Field required"),
        ({"text": ""}, "text: it has no word"),
        ({"text": " \n"}, "text: it has no word"),
        ({"text": "🫁"}, "it has no word"),
        ({"text": "снимок"}, "6 of its 6 letters are not Latin"),
        ({"text": "x" * 10_241}, "text: String should have at most 10240 characters"),
        ({"text": "chest", "study": "chest"}, "study: it is not a UID"),
        ({"text": "chest", "scope": "SAME_MODALITY"}, "this scope is of an example"),
        ({"text": "chest", "includefield": "PatientID"}, "it goes with Accept"),
    ],
)
def test_bad_questions_are_400_in_one_sentence(
    words: WordLibrary, params: dict[str, str], complaint: str
) -> None:
    response = get(words, **params)

    assert response.status_code == 400
    assert complaint in response.json()["error"]


def test_64_kb_never_reach_the_text_space(words: WordLibrary) -> None:
    assert get(words, text="x" * 65_000).status_code in (400, 414)
    assert get(words, text=SENTENCE).status_code == 200


def test_no_word_of_a_question_is_logged(
    words: WordLibrary, events: list[MutableMapping[str, Any]]
) -> None:
    assert get(words, text="opacity of Zebulon Quackenbush").status_code == 200
    assert get(words, text="Zebulon 胸部写真胸部写真").status_code == 400

    assert events
    said = json.dumps(events, default=str)
    assert not [trace for trace in ("Zebulon", "Quackenbush", "opacity") if trace in said]


def test_words_outside_the_space_have_no_cases_and_it_says_so(tmp_path: Path) -> None:
    sections = encoder_with_space(tmp_path, words={})
    with peers.stopped_at_the_end(node := filled(tmp_path, sections)):
        told = ask(node, text=SENTENCE)
        datasets = ask(node, DICOM_JSON, text=SENTENCE)

    assert (told.status_code, told.json()["cases"]) == (200, [])
    assert told.json()["outside_space"] is True
    words = told.json()["words"]
    assert words["verdict"] == "outside"
    assert words["not_learned"] == ["opacity", "right", "lower", "lobe", "child"]
    assert words["remarks"][-1].startswith("name the modality and the body part")
    assert datasets.json() == []
    assert datasets.headers["warning"].startswith('299 similis "words were never learned')


def test_without_a_text_space_it_is_not_implemented(
    tmp_path: Path, start_node: Callable[..., Node]
) -> None:
    node = start_node(http={"port": 0}, text={"enabled": False})

    response = ask(node, text=SENTENCE)

    assert response.status_code == 501
    assert "not searched by words here" in response.json()["error"]
    assert "`text.enabled` is false" in response.json()["error"]


def test_where_the_text_space_is_of_another_encoder_the_answer_says_what_to_do(
    tmp_path: Path, start_node: Callable[..., Node]
) -> None:
    other = encoder_with_space(tmp_path, seed=2)
    mine = encoder_with_space(tmp_path, seed=1)
    node = start_node(http={"port": 0}, encoder=mine["encoder"], text=other["text"])

    response = ask(node, text=SENTENCE)

    assert response.status_code == 501
    said = response.json()["error"]
    assert f"the encoder that answers, {node.model.model_id}: bind one" in said
    assert "`similis train bind`" in said
    assert "`similis reindex`" in said


def test_a_fault_of_the_text_process_is_503_and_may_be_asked_again(
    words: WordLibrary, monkeypatch: pytest.MonkeyPatch, events: list[MutableMapping[str, Any]]
) -> None:
    faults = [WordsFailed("signal SIGKILL", lost=True), WorkerUnavailable("/srv/words is gone")]
    for fault in faults:
        monkeypatch.setattr(words.node._texts.running, "_ask_in_turn", _raising(fault))
        response = get(words, text=SENTENCE)
        assert (response.status_code, response.headers["retry-after"]) == (503, "5")
        assert "now, ask again" in response.json()["error"]
        assert "embedding" not in response.json()["error"]
        assert fault.reason not in response.json()["error"]
    assert "SIGKILL" in json.dumps(events, default=str)
    openapi = httpx.get(f"{url_of(words.node)}/openapi.json").json()
    assert "503" in openapi["paths"]["/similar"]["get"]["responses"]


def _raising(fault: Exception) -> Callable[..., None]:
    def ask_in_turn(*_: object) -> None:
        raise fault

    return ask_in_turn


def test_while_words_are_made_the_answer_says_that_cases_may_be_missing(
    words: WordLibrary, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert get(words, text=SENTENCE).json()["complete"] is True
    assert "warning" not in get(words, DICOM_JSON, text=SENTENCE).headers
    whole = words.node._generation.now()
    monkeypatch.setattr(words.node._generation, "_answering", filled_in_part(whole))

    assert get(words, text=SENTENCE).json()["complete"] is False
    assert "may be missing" in get(words, DICOM_JSON, text=SENTENCE).headers["warning"]
