"""Which model's vectors answer, and when another's may."""

import threading

import pytest
from catalogues import MODEL, clip, receive
from sqlalchemy import func, select, update

from index.catalogue import Catalogue
from index.errors import OtherGeneration, UnknownGeneration
from index.generation import Gap, Generation, GenerationState, Made
from index.models import Clip, Embedding
from index.records import ClipRecord
from index.states import State

NEW = "fedcba9876543210"


def made(model_id: str) -> Made:
    return Made(model_id=model_id, name="tiny", version=f"tiny {model_id}", trained=True, dim=8)


@pytest.fixture
def answering(catalogue: Catalogue) -> Catalogue:
    """A catalogue with one indexed series, whose first generation answers and a second is begun."""
    catalogue.adopt_generation(made(MODEL))
    receive(catalogue, 1)
    embed(catalogue, 1)
    catalogue.begin_generation(made(NEW))
    return catalogue


def embed(catalogue: Catalogue, series_id: int, *clips: ClipRecord, model_id: str = MODEL) -> None:
    revision = catalogue.series_files(series_id).revision
    catalogue.save_clips(series_id, revision, model_id, clips or [clip(0)])
    catalogue.mark_indexed(series_id, revision)


def fill(catalogue: Catalogue, series_id: int, *clips: ClipRecord) -> None:
    revision = catalogue.series_files(series_id).revision
    catalogue.fill_clips(series_id, revision, NEW, clips or [clip(1)])


def swap(catalogue: Catalogue, model_id: str = NEW) -> bool:
    lacking = catalogue.lacking_series(model_id)
    assert lacking.series_ids == ()
    return catalogue.swap_generation(model_id, lacking.seen)


def states(catalogue: Catalogue) -> dict[str, GenerationState]:
    return {row.model_id: row.state for row in catalogue.generations()}


def count(catalogue: Catalogue, table: type[Clip] | type[Embedding]) -> int:
    with catalogue.reading() as connection:
        return connection.execute(select(func.count()).select_from(table)).scalar_one()


def test_the_first_generation_stays_however_many_ask(catalogue: Catalogue) -> None:
    assert catalogue.answering_generation() is None

    assert catalogue.adopt_generation(made(MODEL)).model_id == MODEL
    assert catalogue.adopt_generation(made(NEW)).model_id == MODEL

    assert states(catalogue) == {MODEL: GenerationState.ANSWERING}


def test_vectors_of_a_model_that_does_not_answer_are_refused_unless_they_fill(
    answering: Catalogue,
) -> None:
    with pytest.raises(OtherGeneration) as caught:
        answering.save_clips(1, 1, NEW, [clip(1)])
    assert (caught.value.model_id, caught.value.answering) == (NEW, MODEL)

    assert answering.fill_clips(1, 1, NEW, [clip(1)])


def test_filling_leaves_a_series_that_is_being_received_to_the_node(answering: Catalogue) -> None:
    receive(answering, 2)  # the series is DIRTY now, of revision 2

    fill(answering, 1)

    assert answering.counts().series == {State.DIRTY: 1}
    assert answering.close_quiet(force=True) == 1


def test_a_generation_lacks_what_the_answering_one_has_and_what_came_in_since(
    answering: Catalogue,
) -> None:
    assert answering.lacking_series(NEW).series_ids == (1,)
    fill(answering, 1)
    assert answering.lacking_series(NEW).series_ids == ()

    receive(answering, 1, series=2)
    assert answering.lacking_series(NEW).series_ids == (), "it has no vectors yet"
    answering.save_clips(2, 1, MODEL, [clip(0)])
    assert answering.lacking_series(NEW).series_ids == (2,), "EMBEDDED, not INDEXED"
    fill(answering, 2)

    receive(answering, 2, series=2)  # DIRTY: the older vectors serve on, here and there
    assert answering.lacking_series(NEW).series_ids == ()
    embed(answering, 2)
    assert answering.lacking_series(NEW).series_ids == (2,)


def test_a_dirty_series_that_the_answering_generation_covers_is_needed_too(
    answering: Catalogue,
) -> None:
    receive(answering, 2)

    assert answering.lacking_series(NEW).series_ids == (1,)


def test_the_swap_waits_for_what_comes_in_after_the_last_look(answering: Catalogue) -> None:
    fill(answering, 1)
    seen = answering.lacking_series(NEW).seen
    receive(answering, 1, series=2)
    embed(answering, 2)

    assert answering.swap_generation(NEW, seen) is False
    assert states(answering) == {MODEL: GenerationState.ANSWERING, NEW: GenerationState.FILLING}

    fill(answering, 2)
    assert swap(answering) is True
    assert states(answering) == {MODEL: GenerationState.RETIRED, NEW: GenerationState.ANSWERING}
    with pytest.raises(OtherGeneration):
        answering.save_clips(1, 1, MODEL, [clip(0)])


def test_the_way_back_lacks_only_what_came_in_after_the_swap(answering: Catalogue) -> None:
    fill(answering, 1)
    swap(answering)
    receive(answering, 1, series=2)
    embed(answering, 2, model_id=NEW)

    assert answering.lacking_series(MODEL).series_ids == (2,)
    answering.fill_clips(2, 1, MODEL, [clip(3)])
    assert swap(answering, MODEL)

    assert states(answering) == {MODEL: GenerationState.ANSWERING, NEW: GenerationState.RETIRED}


def test_a_gap_counts_as_long_as_its_series_stays_as_it_was(answering: Catalogue) -> None:
    answering.note_gap(NEW, 1, 1, "first reason")
    answering.note_gap(NEW, 1, 1, "damaged")

    assert answering.lacking_series(NEW).series_ids == ()
    assert answering.gaps(NEW) == (Gap("1.2.1", "damaged"),)

    receive(answering, 2)
    embed(answering, 1)
    assert answering.lacking_series(NEW).series_ids == (1,)
    assert answering.gaps(NEW) == ()


def test_a_series_with_fewer_vectors_is_incomplete_unless_a_gap_says_why(
    answering: Catalogue,
) -> None:
    embed(answering, 1, clip(0), clip(1))
    fill(answering, 1)
    assert answering.incomplete_series(NEW) == ("1.2.1",)

    answering.note_gap(NEW, 1, 1, "one of two is damaged")
    assert answering.incomplete_series(NEW) == ()


def test_what_came_in_meanwhile_is_lacking_not_incomplete(answering: Catalogue) -> None:
    fill(answering, 1)
    receive(answering, 1, series=2)
    embed(answering, 2)

    assert answering.incomplete_series(NEW) == ()
    assert answering.lacking_series(NEW).series_ids == (2,)


def test_dropping_deletes_the_vectors_and_what_only_they_belonged_to(answering: Catalogue) -> None:
    fill(answering, 1, clip(1), clip(2))  # the first clip is that of both
    swap(answering)
    assert (count(answering, Clip), count(answering, Embedding)) == (2, 3)

    assert answering.drop_generations() == (MODEL,)
    assert states(answering)[MODEL] is GenerationState.DROPPED
    while answering.delete_dropped():
        pass

    assert (count(answering, Clip), count(answering, Embedding)) == (2, 2)
    assert states(answering) == {NEW: GenerationState.ANSWERING}


def test_an_unknown_generation_cannot_answer(catalogue: Catalogue) -> None:
    with pytest.raises(UnknownGeneration, match=NEW):
        catalogue.swap_generation(NEW, 0)


def test_a_generation_that_is_begun_again_while_it_is_dropped_keeps_its_vectors(
    answering: Catalogue,
) -> None:
    fill(answering, 1)
    answering.drop_generations()
    deleted: list[int] = []
    deleting = threading.Thread(target=lambda: deleted.append(answering.delete_dropped()))
    begun = update(Generation).where(Generation.model_id == NEW)
    with answering.writing() as connection:
        connection.execute(begun.values(state=GenerationState.FILLING))
        deleting.start()
        deleting.join(1.0)
        assert deleting.is_alive(), "it waits until that is settled"
    deleting.join(10.0)

    assert deleted == [0]
    assert len(answering.embedding_ids(NEW)) == 1
