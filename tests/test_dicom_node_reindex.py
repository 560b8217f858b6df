"""Another encoder for what is kept: filled beside, verified, swapped, and back."""

import os
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from encoders import image_of, small_encoder, study_of, take_in
from peers import quick_config, wait_for
from scripted import push
from sqlalchemy import text

from dicom_node.answer.query import Filters, similar_to_study
from dicom_node.errors import DataFolderBusy, GenerationUnfit, NotKnown
from dicom_node.generation import Answering, answering_model, delete_dropped, open_answering
from dicom_node.node import Node
from dicom_node.operate.forget import forget
from dicom_node.operate.reindex import Reindex, Reindexed, drop_old, former_encoder, reindex
from dicom_node.parts import Parts, open_parts
from dicom_node.receive.clips import Embedded
from index.records import Ranking, SeriesFiles

FILTERS = Filters(k=10)
STUDIES = 6


class Halt(Exception):
    """The power fails."""


@pytest.fixture
def parts(tmp_path: Path) -> Iterator[Parts]:
    """A data folder with some studies, embedded by the first encoder; no node runs."""
    encoder = {"threads": 1, "checkpoint": str(small_encoder(tmp_path / "first", 1))}
    opened = open_parts(quick_config(tmp_path / "data", encoder=encoder))
    take_in(opened, *(image_of(tmp_path, number) for number in range(STUDIES)))
    small_encoder(tmp_path / "second", 2)
    yield opened
    opened.close()


def ranked(parts: Parts, number: int = 0) -> Ranking:
    """Rank by the generation that answers."""
    return ranking_of(parts, open_answering(parts, answering_model(parts), read_only=True), number)


def ranking_of(parts: Parts, answering: Answering, number: int) -> Ranking:
    uid = parts.catalogue.find_study_by_accession("")  # none: the UIDs are those of the files
    assert uid == ()
    with parts.catalogue.reading() as connection:
        uids = connection.execute(text("SELECT study_instance_uid FROM study ORDER BY id"))
        study = list(uids.scalars())[number]
    found = similar_to_study(parts.catalogue, answering.search, study, FILTERS)
    assert found is not None
    return found.ranking


def fill(parts: Parts, encoder: Path | None, advance: Callable[[int, int], None]) -> Reindexed:
    return reindex(parts, encoder, share=1.0, advance=advance)


def unheard(done: int, total: int) -> None:
    """Hear of progress, and say nothing."""


def test_the_new_vectors_answer_and_the_encoder_is_kept(parts: Parts, tmp_path: Path) -> None:
    before = ranked(parts)

    done = fill(parts, tmp_path / "second", unheard)

    assert (done.embedded, done.gaps, done.verified) == (STUDIES, (), STUDIES)
    assert done.former.startswith("small-1 ")
    after = ranked(parts)
    assert after.model_id != before.model_id
    assert {case.study_instance_uid for case in after.cases} == {
        case.study_instance_uid for case in before.cases
    }
    assert [case.score for case in after.cases] != [case.score for case in before.cases]
    kept = {path.name for path in parts.folder.encoders.iterdir()}
    assert kept == {before.model_id, after.model_id}


def test_a_run_that_was_stopped_goes_on_where_it_was(parts: Parts, tmp_path: Path) -> None:
    def halt(done: int, total: int) -> None:
        if done == 4:
            raise Halt

    before = ranked(parts)
    with pytest.raises(Halt):
        fill(parts, tmp_path / "second", halt)
    assert ranked(parts) == before, "half a generation answers nothing"

    assert fill(parts, tmp_path / "second", unheard).embedded == STUDIES - 4


def test_a_killed_command_goes_on_where_it_was(parts: Parts, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "dicom_node", "reindex", "--encoder", tmp_path / "second"]
    command += ["--data", parts.folder.root, "--share", "0.05"]
    environment = {**os.environ, "SIMILIS_ENCODER__THREADS": "1"}
    process = subprocess.Popen(
        [str(part) for part in command], env=environment, stderr=subprocess.DEVNULL
    )
    wait_for("two series", lambda: lacking(parts, tmp_path) in range(1, STUDIES - 1))
    process.send_signal(signal.SIGKILL)
    process.wait()

    left = lacking(parts, tmp_path)
    assert 0 < left < STUDIES
    assert fill(parts, tmp_path / "second", unheard).embedded == left


def lacking(parts: Parts, tmp_path: Path) -> int:
    """Count what the second generation lacks; none while it has not begun."""
    others = [row for row in parts.catalogue.generations() if row.name == "small-2"]
    return len(parts.catalogue.lacking_series(others[0].model_id).series_ids) if others else 0


def test_a_series_that_cannot_be_read_is_told_of_and_keeps_its_old_vectors(
    parts: Parts, tmp_path: Path
) -> None:
    (first, *_) = parts.catalogue.series_files(1).files
    parts.store.path(first.relative_path).unlink()

    done = fill(parts, tmp_path / "second", unheard)

    assert [gap.series_instance_uid for gap in done.gaps] == [
        parts.catalogue.series_files(1).series_instance_uid
    ]
    assert len(ranked(parts, 1).cases) == STUDIES - 2
    back = fill(parts, former_encoder(parts)[1], unheard)
    assert back.embedded == 0
    assert [gap.reason for gap in back.gaps] == ["1 of its 1 files are lost"]
    assert len(ranked(parts, 1).cases) == STUDIES - 1


def test_vectors_that_are_not_what_the_encoder_gives_never_answer(
    parts: Parts, tmp_path: Path
) -> None:
    before = ranked(parts)

    def spoil(done: int, total: int) -> None:
        if done == total:
            with parts.catalogue.writing() as connection:
                connection.execute(
                    text(
                        "UPDATE embedding SET vector = (SELECT vector FROM embedding "
                        "WHERE model_id != :old ORDER BY id LIMIT 1) WHERE model_id != :old"
                    ),
                    {"old": before.model_id},
                )

    with pytest.raises(GenerationUnfit, match="gives other vectors than are kept"):
        fill(parts, tmp_path / "second", spoil)

    assert ranked(parts) == before


def test_where_nothing_can_be_verified_the_change_is_made(parts: Parts, tmp_path: Path) -> None:
    """An empty catalogue is no other case."""
    for number in range(STUDIES):
        (file,) = parts.catalogue.series_files(number + 1).files
        parts.store.path(file.relative_path).unlink()

    done = fill(parts, tmp_path / "second", unheard)

    assert (done.verified, len(done.gaps)) == (0, STUDIES)
    assert answering_model(parts).name == "small-2"


def test_what_arrives_while_the_graph_is_built_is_filled_before_the_swap(
    parts: Parts, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    build = Reindex._build_graph

    def build_and_receive(run: Reindex) -> None:
        build(run)
        take_in(parts, image_of(tmp_path, 100))

    monkeypatch.setattr(Reindex, "_build_graph", build_and_receive)

    assert fill(parts, tmp_path / "second", unheard).embedded == STUDIES + 1
    assert len(ranked(parts).cases) == STUDIES


def test_a_study_that_is_forgotten_while_it_is_verified_is_left_out(
    parts: Parts, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clips_of = Reindex._clips_of

    def forget_first(run: Reindex, series: SeriesFiles) -> tuple[Embedded | None, str]:
        if run._done == STUDIES and series.series_id == 1:
            forget(parts, series.study_instance_uid)
        return clips_of(run, series)

    monkeypatch.setattr(Reindex, "_clips_of", forget_first)

    assert fill(parts, tmp_path / "second", unheard).verified == STUDIES - 1


def test_a_way_back_that_was_interrupted_can_be_gone_again(parts: Parts, tmp_path: Path) -> None:
    def halt(done: int, total: int) -> None:
        raise Halt

    before = ranked(parts)
    fill(parts, tmp_path / "second", unheard)
    take_in(parts, image_of(tmp_path, 100))
    with pytest.raises(Halt):
        fill(parts, former_encoder(parts)[1], halt)

    former, encoder = former_encoder(parts)
    assert former.model_id == before.model_id
    fill(parts, encoder, unheard)
    assert ranked(parts).model_id == before.model_id


def test_the_way_back_fills_what_came_in_since(parts: Parts, tmp_path: Path) -> None:
    before = ranked(parts)
    fill(parts, tmp_path / "second", unheard)
    take_in(parts, image_of(tmp_path, 100))
    shutil.rmtree(tmp_path / "first")  # the configured encoder is gone, the kept one is not

    former, encoder = former_encoder(parts)
    done = fill(parts, encoder, unheard)

    assert (former.model_id, done.embedded) == (before.model_id, 1)
    after = ranked(parts)
    assert after.model_id == before.model_id
    assert len(after.cases) == len(before.cases) + 1


def test_what_does_not_answer_can_be_dropped(parts: Parts, tmp_path: Path) -> None:
    old = ranked(parts).model_id
    fill(parts, tmp_path / "second", unheard)
    after = ranked(parts)

    assert drop_old(parts) == (old,)

    assert parts.catalogue.counts().embeddings == {after.model_id: STUDIES}
    for folder in (parts.folder.encoders, parts.folder.vectors):
        assert [path.name for path in folder.iterdir() if path.name.startswith(old)] == []
    assert ranked(parts) == after
    with pytest.raises(NotKnown, match="nothing to go back to"):
        former_encoder(parts)


def test_one_run_at_a_time(parts: Parts, tmp_path: Path) -> None:
    with (
        parts.folder.reindexing(),
        pytest.raises(DataFolderBusy, match="a running `similis reindex`"),
    ):
        fill(parts, tmp_path / "second", unheard)


def test_what_answers_already_is_only_completed(parts: Parts, tmp_path: Path) -> None:
    done = fill(parts, None, unheard)

    assert (done.former, done.embedded) == ("", 0)


@pytest.mark.slow
def test_a_running_node_changes_over_and_no_answer_mixes_two_generations(
    parts: Parts, tmp_path: Path
) -> None:
    node = Node(parts.config)
    node.start()
    seen: list[Ranking] = []
    stop = threading.Event()

    def ask() -> None:
        while not stop.is_set():
            seen.append(ranking_of(parts, node._generation.now(), 0))  # type: ignore[union-attr]

    asking = threading.Thread(target=ask)
    try:
        first = node.model.model_id
        asking.start()

        def push_one(done: int, total: int) -> None:
            if done == 2:
                push(node.port, image_of(tmp_path, 200))

        done = fill(parts, tmp_path / "second", push_one)
        wait_for("the change", lambda: node.model.model_id != first)
        late = image_of(tmp_path, 201)
        push(node.port, late)
        wait_for("the late ones", lambda: len(ranked(parts).cases) == STUDIES + 1)
    finally:
        stop.set()
        asking.join()
        node.stop()

    second = answering_model(parts).model_id
    assert {ranking.model_id for ranking in seen} == {first, second}
    assert done.gaps == ()
    scores = {first: {}, second: {}}
    for ranking in seen:
        for case in ranking.cases:
            known = scores[ranking.model_id].setdefault(case.study_instance_uid, case.score)
            assert known == pytest.approx(case.score, abs=1e-5)
    assert all(
        scores[first][uid] != pytest.approx(scores[second][uid], abs=1e-4) for uid in scores[first]
    )
    assert parts.catalogue.lacking_series(second).series_ids == ()
    assert study_of(late) in scores[second]


def test_files_of_a_generation_that_another_node_dropped_are_deleted(
    parts: Parts, tmp_path: Path
) -> None:
    old = ranked(parts).model_id
    fill(parts, tmp_path / "second", unheard)
    parts.catalogue.drop_generations()
    while parts.catalogue.delete_dropped():
        pass
    foreign = parts.folder.vectors / "notes.txt"
    foreign.write_text("an administrator's")

    delete_dropped(parts)

    for folder in (parts.folder.encoders, parts.folder.vectors):
        assert [path.name for path in folder.iterdir() if path.name.startswith(old)] == []
    assert foreign.exists()
    assert len(list(parts.folder.encoders.iterdir())) == 1
