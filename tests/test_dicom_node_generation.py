"""Which encoder a node runs, and what it does where that one is not to be had."""

import shutil
from collections.abc import Iterator, MutableMapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from encoders import image_of, small_encoder, study_of, take_in
from peers import quick_config, wait_for
from scripted import push

from dicom_node.config import Config, Destination
from dicom_node.generation import delete_dropped
from dicom_node.node import Node
from dicom_node.operate.reindex import reindex
from dicom_node.operate.stub_pacs import find_similar
from dicom_node.parts import Parts, open_parts
from index.vectors import ExactIndex

Events = list[MutableMapping[str, Any]]


@pytest.fixture
def parts(tmp_path: Path) -> Iterator[Parts]:
    """A data folder with two studies, embedded by the first encoder."""
    small_encoder(tmp_path / "first", 1)
    small_encoder(tmp_path / "second", 2)
    opened = open_parts(configured(tmp_path, "first"))
    take_in(opened, image_of(tmp_path, 1), image_of(tmp_path, 2))
    yield opened
    opened.close()


def configured(tmp_path: Path, encoder: str) -> Config:
    settings = {"threads": 1, "checkpoint": str(tmp_path / encoder)}
    return quick_config(tmp_path / "data", encoder=settings)


@pytest.fixture
def serve(tmp_path: Path) -> Iterator[Any]:
    """Return a function that starts a node with one of the encoders."""
    nodes: list[Node] = []

    def start(encoder: str) -> Node:
        nodes.append(Node(configured(tmp_path, encoder)))
        nodes[-1].start()
        return nodes[-1]

    yield start
    for node in nodes:
        node.stop()


def cases(node: Node, study: str) -> list[str]:
    peer = Destination(ae_title="SIMILIS_FIND", host="127.0.0.1", port=node.query_port)
    return [each.study_instance_uid for each in find_similar(study, peer, k=10)]


def said(events: Events, event: str) -> list[MutableMapping[str, Any]]:
    return [each for each in events if each["event"] == event]


@pytest.mark.usefixtures("parts")
def test_another_configured_encoder_changes_nothing_and_is_warned_of(
    serve: Any, tmp_path: Path, events: Events
) -> None:
    node = serve("second")

    assert node.model.name == "small-1"
    (warning,) = said(events, "configured_encoder_unused")
    assert warning["configured"] == str(tmp_path / "second")
    assert "similis reindex" in warning["advice"]


@pytest.mark.usefixtures("parts")
def test_the_configured_encoder_may_vanish(serve: Any, tmp_path: Path, events: Events) -> None:
    shutil.rmtree(tmp_path / "first")
    late = image_of(tmp_path, 3)

    node = serve("first")
    push(node.port, late)

    wait_for("its vectors", lambda: len(cases(node, study_of(late))) == 2)
    assert said(events, "configured_encoder_unused") == []


def test_without_the_encoder_that_answers_series_wait_and_answers_go_on(
    parts: Parts, serve: Any, tmp_path: Path, events: Events
) -> None:
    known = study_of(image_of(tmp_path / "same", 1))
    for kept in parts.folder.encoders.iterdir():
        shutil.rmtree(kept)
    late = image_of(tmp_path, 3)

    node = serve("second")
    push(node.port, late)

    (missing,) = said(events, "encoder_missing")[:1]
    assert "similis reindex" in missing["advice"]
    assert f"copy {missing['missing']} from the data folder of another node" in missing["advice"]
    assert Path(missing["missing"]).parent == parts.folder.encoders
    wait_for("the wait", lambda: said(events, "waiting_for_encoder"))
    assert len(cases(node, known)) == 1, "by the vectors that are there"
    assert parts.catalogue.counts().series == {"indexed": 2, "quiet": 1}

    reindex(parts, tmp_path / "second", share=1.0, advance=lambda *_: None)
    wait_for("all", lambda: len(cases(node, study_of(late))) == 2)
    assert node.model.name == "small-2"
    assert parts.catalogue.counts().series == {"indexed": 3}


def test_the_node_deletes_what_was_dropped_once_it_follows(
    parts: Parts, serve: Any, tmp_path: Path
) -> None:
    node = serve("first")
    reindex(parts, tmp_path / "second", share=1.0, advance=lambda *_: None)

    parts.catalogue.drop_generations()

    wait_for("the deletion", lambda: len(parts.catalogue.generations()) == 1)
    assert node.model.name == "small-2"
    wait_for("its encoder", lambda: len(list(parts.folder.encoders.iterdir())) == 1)


def test_files_are_not_deleted_while_a_generation_is_begun_in_the_folder(parts: Parts) -> None:
    left = parts.folder.encoders / "00000000000000aa"
    left.mkdir()
    with parts.folder.reindexing():
        delete_dropped(parts)
        assert left.is_dir()
    delete_dropped(parts)
    assert not left.exists()


class Late(ExactIndex):
    """An index that was opened while the node was stopping."""

    def __init__(self) -> None:
        super().__init__(model_id="late", dim=4)
        self.done: list[str] = []

    def interrupt(self) -> None:
        self.done.append("interrupted")

    def save(self) -> None:
        self.done.append("saved")

    def close(self) -> None:
        self.done.append("closed")


@pytest.mark.usefixtures("parts")
def test_what_a_node_changed_over_to_while_it_stops_is_saved_and_closed(
    serve: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    node = serve("first")
    before, late, join = node._generation.now(), Late(), node._loops.join

    def change_over(timeout_s: float) -> None:
        join(timeout_s)
        node._generation._answering = replace(before, index=late, words=None)

    monkeypatch.setattr(node._loops, "join", change_over)
    node.stop()
    before.index.close()

    assert late.done == ["interrupted", "saved", "closed"]
