"""Words asked by a command: the text space in this process, its vectors made where they lack."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from dicom_node.errors import NoTextSpace
from dicom_node.generation import answering_model, open_space
from dicom_node.parts import Parts
from dicom_node.words.filling import Filling
from dicom_node.words.kept import spaces_for
from dicom_node.words.space import WordSearch, folder_of
from encoder.errors import BadCheckpoint

if TYPE_CHECKING:
    from encoder.space_checkpoint import SpaceCheckpoint


def open_words(parts: Parts) -> WordSearch:
    """Open the text space of the vectors that answer; every kept image has a vector in it then.

    It does not become the one in use, unless it is the only one: that is for the node to say.
    Raises `NoTextSpace` where words are off, `encoder.errors.BadCheckpoint` where there is no text
    space of the encoder that answers, be it the configured one or the one that a node keeps.
    """
    from encoder.text_space import TextSpace  # here: a command without words loads no torch

    text = parts.config.text
    if not text.enabled:
        raise NoTextSpace
    model_id = answering_model(parts).model_id
    folders: list[Path | None] = [*spaces_for(parts.folder, text, model_id)]
    space = TextSpace(_loaded(folders or [folder_of(text)], model_id), device="cpu")
    search = open_space(parts, space, read_only=True)
    if parts.catalogue.answering_generation() is not None:
        filling = Filling(parts.catalogue, lambda: search, adopts=False, sleep=_go_on)
        while filling.next():
            pass
    return search


def _loaded(folders: Sequence[Path | None], model_id: str) -> SpaceCheckpoint:
    """Load the first that can be, as a node does; where none can, say what is wrong with the first.

    None is the shipped one.
    """
    from encoder import space_checkpoint

    wrong = []
    for folder in folders:
        try:
            return space_checkpoint.load(folder, image_model_id=model_id)
        except BadCheckpoint as error:
            wrong.append(error)
    first = wrong[0]
    advice = (
        f"{first.advice} Or set `text.folder`, which names the text space that is used; where that "
        "is of another encoder, `similis reindex` changes over to that one."
    )
    raise BadCheckpoint(first.path, first.reason, advice) from first


def _go_on(seconds: float) -> None:
    """Leave no time to others: whoever asked waits."""
