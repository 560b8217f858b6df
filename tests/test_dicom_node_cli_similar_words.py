"""`similis similar --text`: with and without an example, and what is refused."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from encoders import image_of, study_of
from test_dicom_node_cli import similis
from word_searches import encoder_with_space

SENTENCE = "opacity in the right lower lobe of a child"
STUDIES = 3


@dataclass(frozen=True)
class Library:
    data: Path
    files: tuple[Path, ...]
    settings: Path

    def ask(self, *arguments: object, expect: int = 0) -> Any:
        options = ("--config", self.settings)
        return similis("similar", *arguments, *options, data=self.data, expect=expect)

    def json(self, *arguments: object) -> dict[str, Any]:
        told: dict[str, Any] = json.loads(self.ask(*arguments, "--json").stdout)
        return told


def toml(sections: dict[str, dict[str, str]]) -> str:
    return "".join(
        f"[{name}]\n" + "".join(f'{key} = "{value}"\n' for key, value in section.items())
        for name, section in sections.items()
    )


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> Library:
    folder = tmp_path_factory.mktemp("library")
    settings = folder / "similis.toml"
    settings.write_text(toml(encoder_with_space(folder)))
    files = tuple(image_of(folder / "source", number) for number in range(STUDIES))
    similis("import", folder / "source", "--config", settings, data=folder / "data")
    return Library(folder / "data", files, settings)


def uids(told: dict[str, Any]) -> list[str]:
    return [case["study_instance_uid"] for case in told["cases"]]


def test_words_alone_rank_every_study_and_are_kept_ready_for_the_next_time(
    library: Library,
) -> None:
    told = library.json("--text", SENTENCE)

    assert sorted(uids(told)) == sorted(study_of(path) for path in library.files)
    assert told["outside_space"] is False
    status = json.loads(similis("status", "--json", data=library.data).stdout)
    assert status["embeddings"][told["model_id"]] == STUDIES
    assert library.json("--text", SENTENCE) == told


def test_all_of_the_weight_on_one_side_is_that_side_alone(library: Library) -> None:
    words = library.json("--text", SENTENCE)
    study = study_of(library.files[0])
    others = [uid for uid in uids(words) if uid != study]

    by_words = library.json(study, "--text", SENTENCE, "--text-weight", "1")
    assert uids(by_words) == others
    of_files = library.json(library.files[0], "--text", SENTENCE, "--text-weight", "1")
    assert of_files["cases"] == by_words["cases"]
    for example in (study, library.files[0]):
        by_image = library.json(example, "--text", SENTENCE, "--text-weight", "0")
        alone = library.json(example)
        if example == study:  # what is kept is embedded once
            assert by_image == alone
        assert (uids(by_image), by_image["model_id"]) == (uids(alone), alone["model_id"])
        scores = [[case["score"] for case in told["cases"]] for told in (by_image, alone)]
        assert scores[0] == pytest.approx(scores[1], abs=1e-3)  # a file may be embedded in bf16


def test_a_table_has_no_column_of_what_no_case_has(library: Library) -> None:
    said = library.ask("--text", SENTENCE).stdout

    assert all(name in said for name in ("rank", "score", "modality", "study"))
    assert "most alike" not in said
    assert "same in" not in said


def test_words_that_were_not_learned_are_named_to_who_asked(library: Library) -> None:
    said = library.ask("--text", "child without a wombat")

    assert "similis: not learned: wombat" in said.stderr
    assert "similis: negation is not understood: without" in said.stderr
    told = library.json("--text", "child without a wombat")["words"]
    assert (told["verdict"], told["not_learned"]) == ("doubtful", ["wombat"])


def test_an_example_is_not_read_where_there_is_no_text_space(
    library: Library, tmp_path: Path
) -> None:
    no_image = tmp_path / "no.dcm"
    no_image.write_bytes(b"no DICOM")
    settings = tmp_path / "similis.toml"
    settings.write_text(library.settings.read_text() + "enabled = false\n")

    asked = ("similar", no_image, "--text", "chest", "--config", settings)
    said = similis(*asked, data=library.data, expect=1)

    assert "cases are not searched by words here" in said.stderr


def test_filters_go_with_words(library: Library) -> None:
    assert uids(library.json("--text", SENTENCE, "--modality", "MR")) == []
    assert len(uids(library.json("--text", SENTENCE, "-k", "1"))) == 1


@pytest.mark.parametrize(
    ("arguments", "code", "complaint"),
    [
        ((), 2, "give an example, or what the cases are to be by"),
        (("--text", "снимок грудной клетки"), 1, "19 of its 19 letters are not Latin"),
        (("--text", "chest " * 11_000), 1, "it has 66000 characters, at most 10240 are read"),
        (("--text", "chest", "--text-weight", "1"), 2, "--text-weight is the share of --text"),
        (("1.2.3", "--text-weight", "1"), 2, "--text-weight is the share of --text"),
        (("--text", "chest", "--slice", "1"), 2, "a slice, a box and --not go with an"),
        (("1.2.3", "--text", "chest"), 1, "study 1.2.3 is not known here"),
    ],
)
def test_what_cannot_be_asked_is_refused_in_clear_words(
    library: Library, arguments: tuple[str, ...], code: int, complaint: str
) -> None:
    said = library.ask(*arguments, expect=code)
    assert complaint in " ".join(said.stderr.replace("│", " ").split())
    assert "Traceback" not in said.stderr


def test_words_that_are_like_nothing_say_so_and_name_no_case(
    library: Library, tmp_path: Path
) -> None:
    settings = tmp_path / "similis.toml"
    settings.write_text(toml(encoder_with_space(tmp_path, words={}, space_seed=2)))

    said = similis("similar", "--text", SENTENCE, "--config", settings, data=library.data)
    assert "No similar case found." in said.stdout
    assert "no word of this was learned" in said.stderr
    assert "only English is understood" in said.stderr
    told = similis("similar", "--text", SENTENCE, "--config", settings, "--json", data=library.data)
    assert json.loads(told.stdout)["outside_space"] is True
    assert json.loads(told.stdout)["cases"] == []


def test_without_a_text_space_words_are_a_failure_that_says_what_to_do(
    library: Library, tmp_path: Path
) -> None:
    settings = tmp_path / "similis.toml"
    other = encoder_with_space(tmp_path, seed=2)
    mine = encoder_with_space(tmp_path, seed=1)
    settings.write_text(toml({"encoder": mine["encoder"], "text": other["text"]}))
    said = similis("similar", "--text", SENTENCE, "--config", settings, data=library.data, expect=1)
    assert "`similis train bind`" in said.stderr
    assert "`similis reindex`" in said.stderr

    settings.write_text(toml(mine) + "enabled = false\n")
    said = similis("similar", "--text", SENTENCE, "--config", settings, data=library.data, expect=1)
    assert "cases are not searched by words here" in said.stderr
