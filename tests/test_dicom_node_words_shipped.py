"""Words with what ships: text space and encoder, README's sentences, real images, each door.

Which images are like a sentence is the space's own; here they are of the modality that it names.
"""

import json
import re
from collections.abc import Callable, Iterator, MutableMapping
from pathlib import Path
from typing import Any

import httpx
import peers
import pytest
from encoders import take_in
from pydicom.data import get_testdata_file
from scripted import c_find, identifier
from test_dicom_node_cli import similis
from webs import url_of
from word_searches import BLOCK

from dicom_node.answer import private
from dicom_node.node import Node
from dicom_node.parts import open_parts

pytestmark = pytest.mark.peer
README = Path(__file__).parents[1] / "README.md"
NAMED = (("chest x-ray", "CR"), ("breast ultrasound", "US"))
# A chest and a shin in X-ray, heads in CT, ultrasound of a heart and of two others, an MR.
IMAGES = (
    "RG1_UNCR.dcm", "RG3_UNCR.dcm", "CT_small.dcm", "693_J2KI.dcm", "examples_ybr_color.dcm",
    "examples_palette.dcm", "examples_jpeg2k.dcm", "MR_small.dcm",
)  # fmt: skip

Case = tuple[str, str, float]  # study, modality, score


@pytest.fixture(scope="module")
def shipped(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Node]:
    config = peers.quick_config(tmp_path_factory.mktemp("shipped"), http={"port": 0}, text={})
    parts = open_parts(config)
    take_in(parts, *(Path(str(get_testdata_file(name, download=False))) for name in IMAGES))
    parts.close()
    with peers.stopped_at_the_end(node := Node(config)):
        node.start()
        images = len(node.catalogue.embedding_ids(node.model.model_id))
        space = node._generation.now().words.words.space_id
        peers.wait_for("words", lambda: len(node.catalogue.embedding_ids(space)) == images)
        yield node


def sentences_of_readme() -> list[tuple[str, str]]:
    """Return the sentences that its commands ask, with the modality beside each."""
    block = README.read_text(encoding="utf-8").partition("**Ask in words.**")[2].split("```\n")[1]
    commands = re.sub(r"\\\n\s*", "", block).strip().splitlines()
    said = r'(?:text=|StudyDescription=|"text": ")([a-z][a-z -]+)"'
    of = r'(?:modality=|ModalitiesInStudy=|"modality": ")([A-Z]{2})'
    return [(re.findall(said, each)[0], re.findall(of, each)[0]) for each in commands]


def by_c_find(node: Node, sentence: str, **keys: str) -> list[Case]:
    asked = identifier(SpecificCharacterSet="ISO_IR 192", StudyInstanceUID="", **keys)
    asked.ModalitiesInStudy = keys.get("ModalitiesInStudy", "")
    asked.StudyDescription = sentence
    BLOCK.reserve(asked)
    statuses, answers = c_find(node.query_port, asked, called="SIMILIS_TEXT")
    assert statuses[-1].Status == 0x0000
    return [
        (
            str(each.StudyInstanceUID),
            str(each.ModalitiesInStudy),
            float(BLOCK.text(each, private.SCORE)),
        )
        for each in answers
    ]


def by_http(node: Node, **asked: str) -> list[Case]:
    answer = httpx.post(f"{url_of(node)}/similar", json=asked, timeout=60)
    assert answer.status_code == 200, answer.text
    return told(answer.json())


def told(answer: dict[str, Any]) -> list[Case]:
    return [(c["study_instance_uid"], c["modality"], c["score"]) for c in answer["cases"]]


def test_readme_asks_at_two_doors() -> None:
    assert len(sentences_of_readme()) >= 2


@pytest.mark.parametrize(("sentence", "modality"), sentences_of_readme())
def test_the_sentences_of_readme_are_answered(shipped: Node, sentence: str, modality: str) -> None:
    answers = by_c_find(shipped, sentence, ModalitiesInStudy=modality)

    assert answers
    assert {each[1] for each in answers} == {modality}
    assert [each[0] for each in answers] == [
        each[0] for each in by_http(shipped, text=sentence, modality=modality)
    ]


@pytest.mark.parametrize(("sentence", "modality"), NAMED)
def test_the_modality_that_is_named_comes_first_at_each_door(
    shipped: Node, sentence: str, modality: str
) -> None:
    answers = by_http(shipped, text=sentence)

    kept = [each[1] for each in answers].count(modality)
    assert kept >= 2
    assert [each[1] for each in answers][:kept] == [modality] * kept
    assert by_c_find(shipped, sentence) == [
        (uid, of, pytest.approx(score, abs=1e-5)) for uid, of, score in answers
    ]


def test_a_modality_of_which_nothing_is_kept_is_not_answered_with_others(shipped: Node) -> None:
    asked = {"text": "endoscopy of the colon"}
    answer = httpx.post(f"{url_of(shipped)}/similar", json=asked, timeout=60).json()

    assert answer["cases"] == []
    assert answer["words"]["verdict"] == "far"
    assert {"CR", "DX", "CT", "US"} <= {*answer["words"]["unlike"]}
    assert "ES" not in answer["words"]["unlike"]
    assert {each[1] for each in by_http(shipped, text="CT of the head")} <= {"CT", "MR"}


def test_the_command_line_says_the_same_beside_the_node(shipped: Node) -> None:
    said = similis("similar", "--text", "chest x-ray", "--json", data=shipped.config.data)

    assert told(json.loads(said.stdout)) == by_http(shipped, text="chest x-ray")


def test_a_posted_image_and_words_are_asked_together(
    shipped: Node, bundled: Callable[[str], Path]
) -> None:
    def ask(**params: object) -> list[Case]:
        answer = httpx.post(
            f"{url_of(shipped)}/similar",
            content=bundled("CT_small.dcm").read_bytes(),
            headers={"Content-Type": "application/dicom"},
            params={key: str(value) for key, value in params.items()},
            timeout=60,
        )
        assert answer.status_code == 200, answer.text
        return told(answer.json())

    words = ask(text="breast ultrasound", text_weight=0.9)
    assert words[0][1] == "US"
    assert ask(text="breast ultrasound", text_weight=0) == ask()


def test_no_word_is_in_the_log_or_the_data_folder(
    shipped: Node, events: list[MutableMapping[str, Any]]
) -> None:
    sentence = "chest x-ray of zebulon quackenbush"
    assert by_c_find(shipped, sentence)
    assert by_http(shipped, text=sentence)
    similis("similar", "--text", sentence, data=shipped.config.data)

    assert any(event["event"] == "words_asked" for event in events)
    said = json.dumps(events, default=str)
    kept = [path for path in shipped.config.data.rglob("*") if path.is_file()]
    for trace in ("quackenbush", "zebulon", "x-ray of"):
        assert trace not in said
        assert not [path for path in kept if trace in path.read_bytes().decode("latin-1").lower()]
