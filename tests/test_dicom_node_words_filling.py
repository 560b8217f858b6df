"""The filling of a text space: it goes on where it was, and lets go of what went meanwhile."""

from collections.abc import Iterator
from pathlib import Path

import peers
import pytest
from encoders import image_of, study_of, take_in
from word_searches import encoder_with_space

from dicom_node.errors import WorkerStopped
from dicom_node.generation import open_space
from dicom_node.parts import Parts, open_parts
from dicom_node.words.filling import Filling
from dicom_node.words.space import WordSearch
from encoder import space_checkpoint
from encoder.text_space import TextSpace
from index.vectors import Vectors

STUDIES = 3


class Stopping(TextSpace):
    """A text space that is ended while it works."""

    def images(self, vectors: Vectors, modalities: object) -> Vectors:
        raise WorkerStopped


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
    stopping = object.__new__(Stopping)
    stopping.__dict__.update(vars(search.words))
    stopped = WordSearch(stopping, search.index, search.search)
    assert Filling(parts.catalogue, lambda: stopped).next() is False
    assert kept(parts, search) == 0

    assert Filling(parts.catalogue, lambda: search).next() is True
    assert kept(parts, search) == STUDIES


def test_a_study_that_goes_while_it_is_filled_leaves_nothing(
    filling: tuple[Parts, WordSearch], tmp_path: Path
) -> None:
    parts, search = filling
    run = Filling(parts.catalogue, lambda: search)
    run._begin(search)
    run._look(search)
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
