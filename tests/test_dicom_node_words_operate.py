"""A text space beside check, status, reindex and a move of the catalogue; and on PostgreSQL."""

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import peers
import pytest
from encoders import image_of, small_encoder, take_in
from postgres import Server, closed_connections
from sqlalchemy import text
from test_dicom_node_cli import similis
from word_searches import SENTENCE, STUDIES, WordLibrary, encoder_with_space, filled

from dicom_node.data_folder import DataFolder
from dicom_node.operate.backup import back_up
from dicom_node.operate.check import Finding, Trouble, check
from dicom_node.operate.reindex import drop_old, reindex
from dicom_node.operate.repair import Outcome, repair
from dicom_node.operate.restore import restore
from dicom_node.operate.words import open_words
from dicom_node.parts import Parts, open_parts
from dicom_node.settings import load
from dicom_node.words.kept import keep_space, kept_space
from dicom_node.words.space import row_of
from encoder.errors import BadCheckpoint
from index.space import Space


@pytest.fixture
def sections(tmp_path: Path) -> dict[str, dict[str, str]]:
    return encoder_with_space(tmp_path)


@pytest.fixture
def parts(tmp_path: Path, sections: dict[str, dict[str, str]]) -> Iterator[Parts]:
    """A data folder with some studies, all with words; no node runs."""
    opened = open_parts(peers.quick_config(tmp_path / "data", **sections))
    take_in(opened, *(image_of(tmp_path, number) for number in range(STUDIES)))
    assert len(open_words(opened).index) == STUDIES
    yield opened
    opened.close()


def found(parts: Parts) -> list[Finding]:
    return list(check(parts, lambda number: None))


def space_of(parts: Parts) -> Space:
    space = parts.catalogue.answering_space()
    assert space is not None
    return space


def words(parts: Parts, space: Space) -> int:
    return len(parts.catalogue.embedding_ids(space.space_id))


def unheard(done: int, total: int) -> None:
    """Hear of progress, and say nothing."""


def test_words_that_cannot_be_compared_are_found_and_made_again(parts: Parts) -> None:
    assert found(parts) == []
    space = space_of(parts)
    with parts.catalogue.writing() as connection:
        connection.execute(
            text(
                "UPDATE embedding SET vector = x'00' WHERE id = "
                "(SELECT min(id) FROM embedding WHERE model_id = :space)"
            ),
            {"space": space.space_id},
        )

    (finding,) = found(parts)
    assert finding.trouble is Trouble.VECTOR_UNFIT
    assert repair(parts, finding).outcome is Outcome.REPAIRED
    take_in(parts)
    assert len(open_words(parts).index) == STUDIES
    assert found(parts) == []


def test_a_graph_of_words_that_is_damaged_is_found_and_built_again(parts: Parts) -> None:
    space = space_of(parts)
    repair(parts, Finding(Trouble.GRAPH_UNUSABLE, ""))
    graphs = list(parts.folder.vectors.glob(f"{space.space_id}*"))
    assert graphs
    for graph in graphs:
        graph.write_bytes(graph.read_bytes()[:-9])

    (finding,) = found(parts)

    assert finding.trouble is Trouble.GRAPH_UNUSABLE
    repair(parts, finding)
    assert found(parts) == []


def test_status_names_the_space_and_counts_its_vectors(parts: Parts) -> None:
    data = parts.config.data
    told = json.loads(similis("status", "--json", data=data).stdout)
    space = space_of(parts)
    assert [each["version"] for each in told["text_spaces"]] == [space.version]
    assert told["embeddings"][space.space_id] == STUDIES
    assert [each["model_id"] for each in told["generations"]] == [space.image_model_id]
    said = similis("status", data=data).stdout
    assert "text space" in said
    assert space.version in said


def test_another_encoder_has_no_words_until_it_gives_way_again(
    parts: Parts, tmp_path: Path
) -> None:
    space = space_of(parts)
    former = parts.folder.encoders / space.image_model_id

    reindex(parts, small_encoder(tmp_path / "new", 2), share=1.0, advance=unheard)
    assert parts.catalogue.answering_space() is None
    with pytest.raises(BadCheckpoint, match="its heads take vectors of"):
        open_words(parts)
    (finding,) = found(parts)
    model_id = parts.catalogue.answering_generation().model_id
    assert (finding.trouble, finding.subject) == (Trouble.WORDS_UNANSWERED, model_id)
    assert f"is of encoder {space.image_model_id}: answer with that by" in finding.detail
    assert repair(parts, finding).outcome is Outcome.LEFT
    said = similis("check", "--json", data=parts.config.data, SIMILIS_TEXT__ENABLED="false")
    assert json.loads(said.stdout) == [], "words are not wanted then"
    assert found_by_command(parts) == [{"trouble": finding.trouble, "subject": model_id}]
    assert words(parts, space) == STUDIES, "they are kept for the way back"

    reindex(parts, former, share=1.0, advance=unheard)
    assert space_of(parts) == space
    assert len(open_words(parts).index) == STUDIES
    assert found(parts) == []


def found_by_command(parts: Parts) -> list[dict[str, str]]:
    """Return what `similis check` finds, which is no failure."""
    settings = {"SIMILIS_TEXT__FOLDER": parts.config.text.folder}
    rows = json.loads(similis("check", "--json", data=parts.config.data, **settings).stdout)
    return [{name: row[name] for name in ("trouble", "subject")} for row in rows]


def test_what_is_dropped_takes_its_words_along(parts: Parts, tmp_path: Path) -> None:
    space = space_of(parts)
    reindex(parts, small_encoder(tmp_path / "new", 2), share=1.0, advance=unheard)

    assert drop_old(parts) == (space.image_model_id,)

    assert words(parts, space) == 0
    assert parts.catalogue.spaces() == ()


def test_a_space_that_a_newer_one_replaced_is_dropped_and_the_newer_one_stays(
    parts: Parts, tmp_path: Path
) -> None:
    former = space_of(parts)
    newer = encoder_with_space(tmp_path, space_seed=7)
    config = peers.quick_config(parts.config.data, **newer)
    second = open_parts(config)
    assert len(open_words(second).index) == STUDIES
    second.catalogue.adopt_space(row_of(open_words(second).words))

    assert drop_old(second) == (former.space_id,)

    assert (words(second, former), words(second, space_of(second))) == (0, STUDIES)
    assert found(second) == []
    second.close()


def test_a_space_that_a_command_tried_is_dropped_and_the_one_in_use_stays(
    parts: Parts, tmp_path: Path
) -> None:
    used = space_of(parts)
    trial = open_parts(
        peers.quick_config(parts.config.data, **encoder_with_space(tmp_path, space_seed=7))
    )
    tried = open_words(trial)
    assert len(tried.index) == STUDIES
    assert space_of(parts) == used

    assert drop_old(trial) == (tried.words.space_id,)

    assert words(parts, used) == STUDIES
    assert found(parts) == []
    trial.close()


def test_the_space_that_the_node_in_this_folder_keeps_is_not_dropped(
    parts: Parts, sections: dict[str, dict[str, str]]
) -> None:
    mine = space_of(parts)
    keep_space(parts.folder, mine.image_model_id, mine.space_id, Path(sections["text"]["folder"]))
    of_another_node = replace(mine, space_id="00000000000000aa")
    parts.catalogue.adopt_space(of_another_node)

    assert drop_old(parts) == ()

    assert words(parts, mine) == STUDIES


def test_a_damaged_copy_of_a_space_is_made_anew(
    parts: Parts, sections: dict[str, dict[str, str]]
) -> None:
    mine, source = space_of(parts), Path(sections["text"]["folder"])
    kept = keep_space(parts.folder, mine.image_model_id, mine.space_id, source)
    good = (kept / "model.safetensors").read_bytes()
    (kept / "model.safetensors").write_bytes(good[:-1] + bytes([good[-1] ^ 1]))

    assert keep_space(parts.folder, mine.image_model_id, mine.space_id, source) == kept

    assert (kept / "model.safetensors").read_bytes() == good
    assert list(kept.parent.iterdir()) == [kept]


def test_a_command_asks_the_kept_space_where_the_configured_one_cannot_be_read(
    parts: Parts, sections: dict[str, dict[str, str]], tmp_path: Path
) -> None:
    mine = space_of(parts)
    keep_space(parts.folder, mine.image_model_id, mine.space_id, Path(sections["text"]["folder"]))
    broken = sections | {"text": {"folder": str(tmp_path / "nothing")}}

    beside = open_parts(peers.quick_config(parts.config.data, **broken))
    try:
        assert open_words(beside).words.space_id == mine.space_id
    finally:
        beside.close()


def test_forgotten_generations_leave_the_graph_of_the_space_in_use(parts: Parts) -> None:
    space = space_of(parts)
    repair(parts, Finding(Trouble.GRAPH_UNUSABLE, ""))
    with parts.catalogue.writing() as connection:
        connection.execute(
            text(
                "INSERT INTO generation (model_id, name, version, trained, dim, state, started_at) "
                "VALUES ('00000000000000aa', '', '', 1, 8, 'filling', 0)"
            )
        )

    assert drop_old(parts) == ("00000000000000aa",)

    assert list(parts.folder.vectors.glob(f"{space.space_id}*"))


def test_the_section_can_be_set_from_the_environment() -> None:
    told = load(
        None, environment={"SIMILIS_TEXT__FOLDER": "/srv/words", "SIMILIS_TEXT__WEIGHT": "1"}
    )
    assert (told.config.text.folder, told.config.text.weight) == ("/srv/words", 1.0)


@pytest.mark.peer
def test_on_postgresql_words_are_found_by_pgvector(
    tmp_path: Path, sections: dict[str, dict[str, str]], postgresql: Server
) -> None:
    with postgresql.database() as url, closed_connections():
        storage = {"storage": {"database_url": url}}
        node = filled(tmp_path, sections | storage)
        with peers.stopped_at_the_end(node):
            library = WordLibrary(node, sections)
            _, answers = library.ask(SENTENCE)
            expected = library.cosines(SENTENCE)
            table = f'"vector_{space_of(node._parts).space_id}"'
            with node.catalogue.reading() as connection:
                counted = connection.execute(text(f"SELECT count(*) FROM {table}")).scalar()

            assert [each.StudyInstanceUID for each in answers] == sorted(
                expected, key=lambda uid: -expected[uid]
            )
            assert counted == STUDIES
            study = library.studies()[0]
            node.catalogue.forget_study(study, lambda kept: None)
            assert study not in [each.StudyInstanceUID for each in library.ask(SENTENCE)[1]]
            with node.catalogue.reading() as connection:
                left = connection.execute(text(f"SELECT count(*) FROM {table}")).scalar()
            assert left == STUDIES - 1

            space = space_of(node._parts)
            while node.catalogue.delete_words(space.space_id):
                pass
            peers.wait_for(
                "words anew",
                lambda: len(node.catalogue.embedding_ids(space.space_id)) == STUDIES - 1,
            )
            peers.wait_for(
                "its table", lambda: len(node._generation.now().words.index.ids()) == STUDIES - 1
            )
            assert len(library.ask(SENTENCE)[1]) == STUDIES - 1


def test_status_counts_what_is_not_searched_by_words_yet(parts: Parts, tmp_path: Path) -> None:
    take_in(parts, image_of(tmp_path, STUDIES), image_of(tmp_path, STUDIES + 1))
    settings = tmp_path / "similis.toml"
    encoder, text = parts.config.encoder.checkpoint, parts.config.text.folder

    def told(text: str) -> dict[str, object]:
        settings.write_text(f'[encoder]\ncheckpoint = "{encoder}"\n[text]\n{text}\n')
        said = similis("status", "--json", "--config", settings, data=parts.config.data)
        words: dict[str, object] = json.loads(said.stdout)["words"]
        return words

    assert told(f'folder = "{text}"') == {
        "space_id": space_of(parts).space_id,
        "lacking": 2,
        "left_out": 0,
        "trouble": "",
    }
    assert "`text.enabled` is false" in str(told("enabled = false")["trouble"])
    assert "`text.folder`: /nothing" in str(told('folder = "/nothing"')["trouble"])


def test_a_backup_holds_the_text_space_that_is_kept(
    parts: Parts, sections: dict[str, dict[str, str]], tmp_path: Path
) -> None:
    space = space_of(parts)
    source = Path(sections["text"]["folder"])
    keep_space(parts.folder, space.image_model_id, space.space_id, source)

    back_up(parts, tmp_path / "backup", link=False, advance=lambda done, total: None)
    config = peers.quick_config(tmp_path / "restored", **sections)
    restore(tmp_path / "backup", config, lambda done, total: None)

    kept = kept_space(DataFolder(config.data, config.kept), space.image_model_id)
    assert kept is not None
    assert kept.name == space.space_id
    for file in source.iterdir():
        assert (kept / file.name).read_bytes() == file.read_bytes()
