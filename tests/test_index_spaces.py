"""Vectors in a text space: made of image vectors, and gone with them, whatever takes them."""

from dataclasses import replace

import numpy as np
import pytest
from catalogues import MODEL, Clock, clip, receive
from sqlalchemy import select

from index.catalogue import Catalogue
from index.errors import BadVector, UnknownSpace
from index.generation import Made
from index.models import Clip, Embedding
from index.space import Space
from index.vectors import Ids, Vectors

SPACE = Space(space_id="aaaabbbbccccdddd", image_model_id=MODEL, name="w", version="w 1", dim=4)


@pytest.fixture
def filled(catalogue: Catalogue) -> Catalogue:
    """A catalogue with a series of two clips, both with a vector in the space."""
    catalogue.adopt_generation(
        Made(model_id=MODEL, name="tiny", version="tiny", trained=True, dim=8)
    )
    catalogue.adopt_space(SPACE)
    receive(catalogue, 1)
    receive(catalogue, 2)
    embed(catalogue)
    fill(catalogue)
    return catalogue


def embed(catalogue: Catalogue) -> None:
    revision = catalogue.series_files(1).revision
    clips = [clip(0), clip(1, sources=("1.2.1.2",))]
    catalogue.save_clips(1, revision, MODEL, clips)
    catalogue.mark_indexed(1, revision)


def fill(catalogue: Catalogue) -> Ids:
    lacking = catalogue.without_words(SPACE)
    return catalogue.save_words(SPACE, lacking.tolist(), axes(len(lacking)))[0]


def axes(count: int) -> Vectors:
    return np.eye(4, dtype=np.float32)[:count]


def words(catalogue: Catalogue) -> list[int]:
    return catalogue.embedding_ids(SPACE.space_id).tolist()


def test_a_vector_in_the_space_lies_on_the_clip_of_its_image_vector(filled: Catalogue) -> None:
    assert filled.spaces() == (SPACE,)
    assert len(words(filled)) == 2
    assert filled.without_words(SPACE).tolist() == []
    with filled.reading() as connection:
        rows = connection.execute(select(Embedding.clip_id, Embedding.model_id)).all()
    by_model = {model: {c for c, m in rows if m == model} for model in (MODEL, SPACE.space_id)}
    assert by_model[MODEL] == by_model[SPACE.space_id]
    _, vectors = filled.vectors(words(filled))
    assert (vectors == axes(2)).all()


def test_image_vectors_come_with_the_modality_of_their_series(filled: Catalogue) -> None:
    ids = filled.embedding_ids(MODEL)

    found = filled.image_vectors(np.append(ids, 10_000))

    assert found.ids.tolist() == ids.tolist()
    assert found.vectors.shape == (2, 8)
    assert found.modalities == ("", "")


def test_a_series_that_is_embedded_again_lacks_words_again(filled: Catalogue) -> None:
    before = filled.bookmark()
    gone = words(filled)

    embed(filled)

    assert words(filled) == []
    assert filled.without_words(SPACE).tolist() == filled.embedding_ids(MODEL).tolist()
    assert set(gone) <= set(filled.changes(before).ids.tolist()), "an index hears that they went"
    with filled.reading() as connection:
        assert len(connection.execute(select(Clip.id)).all()) == 2


def test_words_go_with_a_study_that_is_forgotten(filled: Catalogue) -> None:
    before = filled.bookmark()
    gone = words(filled)

    filled.forget_study("1.2", lambda kept: None)

    assert words(filled) == []
    assert set(gone) <= set(filled.changes(before).ids.tolist())


def test_words_go_with_a_generation_that_is_dropped(filled: Catalogue) -> None:
    other = Made(model_id="fedcba9876543210", name="new", version="new", trained=True, dim=8)
    filled.begin_generation(other)
    revision = filled.series_files(1).revision
    filled.fill_clips(1, revision, other.model_id, [clip(2), clip(3, sources=("1.2.1.2",))])
    assert filled.swap_generation(other.model_id, filled.lacking_series(other.model_id).seen)
    assert len(words(filled)) == 2, "until then they stay, for the way back"

    filled.drop_generations()
    while filled.delete_dropped():
        pass

    assert words(filled) == []
    assert filled.spaces() == ()
    assert len(filled.embedding_ids(other.model_id)) == 2


def test_two_nodes_that_fill_at_once_keep_one_vector_each(filled: Catalogue) -> None:
    embed(filled)
    lacking = filled.without_words(SPACE).tolist()
    filled.save_words(SPACE, lacking[:1], axes(1))

    ids, rows = filled.save_words(SPACE, lacking, axes(2))

    assert rows.tolist() == [1], "the other node has done the first"
    assert ids.tolist() == words(filled)[1:]


def test_words_of_a_vector_that_went_meanwhile_are_not_kept(filled: Catalogue) -> None:
    old = filled.embedding_ids(MODEL).tolist()
    embed(filled)

    ids, rows = filled.save_words(SPACE, old, axes(2))

    assert (len(ids), len(rows), words(filled)) == (0, 0, [])


def test_a_vector_of_another_length_is_refused(filled: Catalogue) -> None:
    embed(filled)
    with pytest.raises(BadVector):
        filled.save_words(SPACE, filled.without_words(SPACE).tolist(), np.eye(8, dtype="f4")[:2])


def test_a_space_is_no_generation_and_lacks_nothing(filled: Catalogue) -> None:
    assert [row.model_id for row in filled.generations()] == [MODEL]
    assert filled.answering_generation().model_id == MODEL
    assert filled.lacking_series(MODEL).series_ids == ()
    assert len(filled.study_query("1.2", MODEL).vectors) == 2


def test_of_two_spaces_the_one_adopted_last_is_in_use(filled: Catalogue, clock: Clock) -> None:
    newer = replace(SPACE, space_id="0000111122223333")
    assert filled.answering_space() == SPACE
    clock.advance(1)
    filled.adopt_space(newer)
    assert filled.answering_space() == newer
    assert len(filled.without_words(newer)) == 2
    clock.advance(1)
    filled.adopt_space(SPACE)
    assert filled.answering_space() == SPACE
    assert filled.spaces() == (newer, SPACE)


def test_the_words_of_a_space_can_be_deleted_and_leave_the_images(filled: Catalogue) -> None:
    while filled.delete_words(SPACE.space_id):
        pass

    assert filled.spaces() == ()
    assert words(filled) == []
    assert len(filled.embedding_ids(MODEL)) == 2


def test_vectors_of_a_space_that_is_not_noted_are_refused(filled: Catalogue) -> None:
    embed(filled)
    lacking = filled.without_words(SPACE).tolist()
    while filled.delete_words(SPACE.space_id):
        pass

    with pytest.raises(UnknownSpace):
        filled.save_words(SPACE, lacking, axes(2))

    assert words(filled) == []


def test_a_space_that_is_only_noted_stays_behind_the_one_in_use(
    filled: Catalogue, clock: Clock
) -> None:
    tried = replace(SPACE, space_id="0000111122223333")
    clock.advance(1)

    filled.note_space(tried)
    filled.note_space(SPACE)

    assert filled.answering_space() == SPACE
    assert filled.has_space(tried)
    clock.advance(1)
    filled.adopt_space(tried)
    assert filled.answering_space() == tried
