"""The filling of a text space: it goes on where it was, and lets go of what went meanwhile."""

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import peers
import pytest
from encoders import image_of, study_of, take_in
from sqlalchemy import update
from test_dicom_node_cli import similis
from word_searches import encoder_with_space

from dicom_node.errors import WordsFailed, WorkerStopped, WorkerUnavailable
from dicom_node.generation import open_space
from dicom_node.parts import Parts, open_parts
from dicom_node.words.filling import Filling
from dicom_node.words.space import WordSearch, row_of
from encoder import space_checkpoint
from encoder.text_space import TextSpace
from index.models import Embedding
from index.vectors import ExactIndex, Vectors

STUDIES = 3


class Stopping(TextSpace):
    """A text space that is ended while it works."""

    def images(self, vectors: Vectors, modalities: object) -> Vectors:
        raise WorkerStopped


class Refusing(TextSpace):
    """A text space that makes nothing of one vector, and says so or is lost over it."""

    refused: Vectors
    lost: bool
    asked = 0

    def images(self, vectors: Vectors, modalities: list[str]) -> Vectors:
        self.asked += 1
        if any((vectors == each).all(axis=1).any() for each in self.refused):
            raise WordsFailed("no vector", lost=self.lost)
        return super().images(vectors, modalities)


class Absent(TextSpace):
    """A text space whose process cannot be started."""

    asked = 0

    def images(self, vectors: Vectors, modalities: object) -> Vectors:
        self.asked += 1
        raise WorkerUnavailable("no such folder")


def as_a(kind: type[TextSpace], search: WordSearch, **attributes: object) -> WordSearch:
    """Return the same search with a text space that behaves otherwise."""
    words = object.__new__(kind)
    words.__dict__.update(vars(search.words) | attributes)
    return WordSearch(words, search.index, search.search)


@pytest.fixture
def filling(tmp_path: Path) -> Iterator[tuple[Parts, WordSearch]]:
    """A data folder with some studies, none of which has words yet."""
    sections = encoder_with_space(tmp_path)
    parts = open_parts(peers.quick_config(tmp_path / "data", **sections))
    take_in(parts, *(image_of(tmp_path, number) for number in range(STUDIES)))
    space = TextSpace(space_checkpoint.load(Path(sections["text"]["folder"])))
    yield parts, open_space(parts, space)
    parts.close()


def kept(parts: Parts, search: WordSearch) -> int:
    return len(parts.catalogue.embedding_ids(search.words.space_id))


def test_it_finds_what_comes_and_leaves_what_is_there(
    filling: tuple[Parts, WordSearch], tmp_path: Path
) -> None:
    parts, search = filling
    run = Filling(parts.catalogue, lambda: search)
    assert [run.next(), run.next()] == [True, False]
    assert kept(parts, search) == len(search.index) == STUDIES

    take_in(parts, image_of(tmp_path, STUDIES))

    assert [run.next(), run.next()] == [True, False]
    assert kept(parts, search) == len(search.index) == STUDIES + 1


def test_what_was_stopped_is_filled_by_the_next(filling: tuple[Parts, WordSearch]) -> None:
    parts, search = filling
    stopped = as_a(Stopping, search)
    assert Filling(parts.catalogue, lambda: stopped).next() is False
    assert kept(parts, search) == 0

    assert Filling(parts.catalogue, lambda: search).next() is True
    assert kept(parts, search) == STUDIES


def begun(parts: Parts, search: WordSearch) -> Filling:
    """Look for what is lacking, and make nothing yet."""
    run = Filling(parts.catalogue, lambda: search)
    run._begin(search)
    run._look(search)
    return run


def drop(parts: Parts, search: WordSearch) -> None:
    while parts.catalogue.delete_words(search.words.space_id):
        pass


def test_a_study_that_goes_while_it_is_filled_leaves_nothing(
    filling: tuple[Parts, WordSearch], tmp_path: Path
) -> None:
    parts, search = filling
    run = begun(parts, search)
    for number in range(STUDIES):
        study = study_of(image_of(tmp_path / "again", number))
        parts.catalogue.forget_study(study, lambda kept: None)

    assert run.next() is True
    assert run.next() is False
    assert (kept(parts, search), len(search.index)) == (0, 0)


def test_without_a_text_space_there_is_nothing_to_do(filling: tuple[Parts, WordSearch]) -> None:
    parts, search = filling
    answering: list[WordSearch | None] = [None]
    run = Filling(parts.catalogue, lambda: answering[0])
    assert run.next() is False
    answering[0] = search
    assert run.next() is True


def test_a_space_that_was_dropped_beneath_it_is_filled_anew(
    filling: tuple[Parts, WordSearch],
) -> None:
    parts, search = filling
    run = Filling(parts.catalogue, lambda: search)
    assert [run.next(), run.next()] == [True, False]

    drop(parts, search)

    assert [run.next(), run.next()] == [True, False]
    assert kept(parts, search) == len(search.index) == STUDIES
    assert [each.space_id for each in parts.catalogue.spaces()] == [search.words.space_id]


def test_a_space_that_is_dropped_while_a_batch_is_made_is_filled_anew(
    filling: tuple[Parts, WordSearch], tmp_path: Path
) -> None:
    parts, search = filling
    run = begun(parts, search)
    drop(parts, search)

    assert [run.next(), run.next(), run.next()] == [True, True, False]
    assert kept(parts, search) == len(search.index) == STUDIES


@pytest.mark.parametrize("lost", [False, True])
def test_a_vector_that_nothing_is_made_of_is_left_out_and_the_others_are_not(
    filling: tuple[Parts, WordSearch], tmp_path: Path, lost: bool
) -> None:
    parts, search = filling
    ids = parts.catalogue.without_words(row_of(search.words))
    refused = parts.catalogue.image_vectors(ids[1:2]).vectors
    refusing = as_a(Refusing, search, refused=refused, lost=lost)
    run = Filling(parts.catalogue, lambda: refusing)

    assert [run.next(), run.next()] == [True, False]
    assert kept(parts, search) == STUDIES - 1
    assert told_by_status(parts) == {"lacking": 0, "left_out": 1}
    asked = refusing.words.asked
    take_in(parts, image_of(tmp_path, STUDIES))
    assert told_by_status(parts) == {"lacking": 1, "left_out": 1}
    assert [run.next(), run.next()] == [True, False]
    assert kept(parts, search) == STUDIES
    assert refusing.words.asked == asked + 1, "what was left out is not tried again"
    assert told_by_status(parts) == {"lacking": 0, "left_out": 1}


def told_by_status(parts: Parts) -> dict[str, int]:
    words = json.loads(similis("status", "--json", data=parts.config.data).stdout)["words"]
    return {name: words[name] for name in ("lacking", "left_out")}


def test_a_batch_with_several_vectors_that_end_the_process_is_filled_but_for_them(
    filling: tuple[Parts, WordSearch], tmp_path: Path
) -> None:
    parts, search = filling
    take_in(parts, *(image_of(tmp_path, number) for number in range(STUDIES, 16)))
    ids = parts.catalogue.without_words(row_of(search.words))
    refused = parts.catalogue.image_vectors(ids[1::4]).vectors
    found = parts.catalogue.image_vectors(ids)
    images = ExactIndex(model_id=search.words.image_model_id, dim=found.vectors.shape[1])
    images.add(found.ids, found.vectors)
    refusing = replace(as_a(Refusing, search, refused=refused, lost=True), images=images)
    run = Filling(parts.catalogue, lambda: refusing)

    assert [run.next(), run.next()] == [True, False]
    assert kept(parts, search) == 16 - len(refused)
    assert refusing.lacking == 0, "nothing more is to come"
    take_in(parts, image_of(tmp_path, 16))
    refusing.images.add(np.array([10_000]), found.vectors[:1])
    assert refusing.lacking == 1
    refusing.images.remove(np.array([10_000, ids[1]]))
    assert refusing.lacking == 0, "one of those left out went"


@pytest.mark.parametrize("stored", [b"\0" * 5, np.full(48, np.nan, "<f4").tobytes()])
def test_an_image_vector_that_is_not_fit_stands_in_nobodys_way(
    filling: tuple[Parts, WordSearch], stored: bytes
) -> None:
    parts, search = filling
    first = parts.catalogue.without_words(row_of(search.words))[0]
    with parts.catalogue.writing() as connection:
        changed = update(Embedding).where(Embedding.id == int(first))
        connection.execute(changed.values(vector=stored))
    run = Filling(parts.catalogue, lambda: search)

    assert [run.next(), run.next()] == [True, False]
    assert kept(parts, search) == STUDIES - 1
    assert told_by_status(parts) == {"lacking": 0, "left_out": 1}
    assert "images left out of words" in similis("status", data=parts.config.data).stdout


def test_a_process_that_cannot_be_started_is_waited_for_ever_longer(
    filling: tuple[Parts, WordSearch],
) -> None:
    parts, search = filling
    absent = as_a(Absent, search)
    now = [0.0]
    run = Filling(parts.catalogue, lambda: absent, clock=lambda: now[0])
    asked = []
    for second in range(1000):
        now[0] = float(second)
        before = absent.words.asked
        assert run.next() is False
        if absent.words.asked > before:
            asked.append(second)

    assert asked == [0, 5, 15, 35, 75, 155, 315, 615, 915]
    assert kept(parts, search) == 0


def test_a_process_that_is_lost_whatever_it_is_given_is_left_alone_for_a_while(
    filling: tuple[Parts, WordSearch], tmp_path: Path
) -> None:
    parts, search = filling
    take_in(parts, *(image_of(tmp_path, number) for number in range(STUDIES, 12)))
    lost = as_a(Refusing, search, refused=np.zeros((1, 48)), lost=True)
    lost.words.images = _lose  # type: ignore[method-assign]  # over every vector
    run = Filling(parts.catalogue, lambda: lost, clock=lambda: 0.0)

    assert [run.next(), run.next()] == [False, False]
    assert kept(parts, search) == 0


def _lose(vectors: Vectors, modalities: object) -> Vectors:
    raise WordsFailed("the text process died", lost=True)
