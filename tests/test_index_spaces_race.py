"""Words that are saved just as their images or their space go: nothing is left, nobody waits long.

Each side has connections of its own, as two processes have.
"""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import numpy as np
import pytest
from catalogues import MODEL, RULE, Clock, clip, open_catalogue, receive
from sqlalchemy import Connection, ExceptionContext, Insert, delete, event

from index.catalogue import Catalogue
from index.errors import UnknownSpace
from index.generation import Made
from index.models import Embedding
from index.records import Header, StoredFile
from index.rejections import Rejects
from index.repairs import Unfit
from index.space import Space, TextSpace

SPACE = Space(space_id="aaaabbbbccccdddd", image_model_id=MODEL, name="w", version="w 1", dim=4)
A_WHILE_S = 0.3  # in which whoever needs not wait is through


@pytest.fixture
def nodes(database_url: str, clock: Clock) -> tuple[Catalogue, Catalogue]:
    """Who saves words and who deletes, on a series of two clips of which one has words."""
    saving, deleting = open_catalogue(database_url, clock), open_catalogue(database_url, clock)
    saving.adopt_generation(Made(model_id=MODEL, name="tiny", version="", trained=True, dim=8))
    saving.adopt_space(SPACE)
    receive(saving, 1)
    receive(saving, 2)
    saving.close_quiet(force=True)
    embed(saving)
    save(saving, lacking(saving)[:1])
    return saving, deleting


def embed(catalogue: Catalogue) -> None:
    clips = [clip(0), clip(1, sources=("1.2.1.2",))]
    catalogue.save_clips(1, catalogue.series_files(1).revision, MODEL, clips)


def lacking(catalogue: Catalogue) -> list[int]:
    return catalogue.without_words(SPACE).tolist()


def save(catalogue: Catalogue, sources: list[int]) -> None:
    catalogue.save_words(SPACE, sources, np.eye(4, dtype=np.float32)[: len(sources)])


def words(catalogue: Catalogue) -> list[int]:
    return catalogue.embedding_ids(SPACE.space_id).tolist()


def delete_sources(catalogue: Catalogue) -> None:
    for source in catalogue.embedding_ids(MODEL).tolist():
        catalogue.delete_vector(Unfit(source, 1, "1.2.1", ""))


def forget(catalogue: Catalogue) -> None:
    catalogue.forget_study("1.2", lambda kept: None)


def quarantine(catalogue: Catalogue) -> None:
    catalogue.quarantine(1, catalogue.series_files(1).revision, "unreadable")


def reject(catalogue: Catalogue) -> None:
    instances = tuple(("1.2", file.sop_instance_uid) for file in catalogue.series_files(1).files)
    note = Header(
        study_instance_uid="1.2",
        series_instance_uid="1.2.9",
        sop_instance_uid="1.2.9.1",
        sop_class_uid="1.2.840.10008.5.1.4.1.1.88.59",
        transfer_syntax_uid="1.2.840.10008.1.2.1",
        patient_id="P1",
        issuer_of_patient_id="HOSPITAL",
    )
    stored = StoredFile("note.dcm", "f" * 64, 1)
    rejects = Rejects(code="113001", instances=instances, lasting=True)
    catalogue.record(note, stored, RULE, rejects=rejects)


def delete_space(catalogue: Catalogue) -> None:
    while catalogue.delete_words(SPACE.space_id):
        pass


@contextmanager
def refusals(*catalogues: Catalogue) -> Iterator[list[BaseException]]:
    """Return what a database refuses meanwhile, be it tried again: a deadlock is such a thing."""
    refused: list[BaseException] = []

    def note(context: ExceptionContext) -> None:
        refused.append(context.original_exception)

    for each in catalogues:
        event.listen(each.engine, "handle_error", note)
    yield refused


@contextmanager
def before_insertion(catalogue: Catalogue, call: Callable[[], object]) -> Iterator[list[bool]]:
    """Begin a call when the first vectors are about to be inserted; tell whether it had to wait."""
    waited: list[bool] = []
    thread = threading.Thread(target=call)

    def begin(_: Connection, statement: object, *values: Any) -> None:
        if isinstance(statement, Insert) and statement.table.name == "embedding" and not waited:
            thread.start()
            thread.join(A_WHILE_S)
            waited.append(thread.is_alive())

    event.listen(catalogue.engine, "before_execute", begin)
    yield waited
    thread.join()


@pytest.mark.parametrize("go", [delete_sources, embed, quarantine, reject, forget, delete_space])
def test_words_that_are_saved_as_their_image_or_space_goes_go_with_it(
    nodes: tuple[Catalogue, Catalogue], go: Callable[[Catalogue], None]
) -> None:
    saving, deleting = nodes

    with refusals(*nodes) as refused, before_insertion(saving, partial(go, deleting)) as waited:
        save(saving, lacking(saving))

    assert words(saving) == []
    assert refused == []
    assert waited == [True], "it goes when the words are there to go with it"


def test_words_that_are_saved_as_the_row_of_their_space_goes_are_refused(
    nodes: tuple[Catalogue, Catalogue],
) -> None:
    saving, deleting = nodes
    sources, outcome = lacking(saving), []

    def try_to_save() -> None:
        with pytest.raises(UnknownSpace) as refused:
            save(saving, sources)
        outcome.append(refused.value)

    thread = threading.Thread(target=try_to_save)
    with deleting.writing() as connection:
        connection.execute(delete(Embedding).where(Embedding.model_id == SPACE.space_id))
        connection.execute(delete(TextSpace))
        thread.start()
        thread.join(A_WHILE_S)
        assert thread.is_alive(), "it waits for whether the space goes"
    thread.join()

    assert len(outcome) == 1
    assert words(saving) == []
