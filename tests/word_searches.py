"""Text spaces for the encoders of tests, kept in folders, and nodes that have them."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import peers
from encoders import image_of, small_encoder, take_in
from pydicom.dataset import Dataset
from scripted import c_find, identifier
from text_spaces import small_space

from dicom_node.answer import private
from dicom_node.generation import Answering
from dicom_node.node import Node
from dicom_node.parts import open_parts
from encoder import checkpoint, space_checkpoint
from encoder.space_checkpoint import SpaceCheckpoint
from encoder.text_space import TextSpace
from index.vectors import ExactIndex

SENTENCE = "opacity in the right lower lobe of a child"
BLOCK = private.Block(0x10)
STUDIES = 5


def encoder_with_space(
    folder: Path, *, seed: int = 1, floor: float = -1.0, space_seed: int = 1, **options: Any
) -> dict[str, dict[str, str]]:
    """Write a small encoder and a text space of it; return the sections that name them."""
    encoder = small_encoder(folder / f"encoder-{seed}", seed)
    space = space_of(encoder, floor=floor, seed=space_seed, **options)
    name = folder / f"space-{seed}-{space_seed}"
    space_checkpoint.save(name, space)
    return {"encoder": {"checkpoint": str(encoder)}, "text": {"folder": str(name)}}


def space_of(encoder: Path, **options: Any) -> SpaceCheckpoint:
    """Draw a text space for the vectors of an encoder; options as of `small_space`.

    It has learned the words of `SENTENCE` unless others are given.
    """
    options.setdefault("words", {"CT": ("child", "chest", "lobe", "lower", "opacity", "right")})
    loaded = checkpoint.load(encoder)
    return small_space(image_model_id=checkpoint.model_id(loaded), image_dim=loaded.dim, **options)


class WordLibrary:
    """A node with some CT studies, each of one clip, and the text space that it has."""

    def __init__(self, node: Node, sections: dict[str, dict[str, str]]) -> None:
        self.node = node
        self.space = TextSpace(space_checkpoint.load(Path(sections["text"]["folder"])))

    def cosines(self, sentence: str) -> dict[str, float]:
        """Return by Study Instance UID how near its clip is to a sentence."""
        catalogue = self.node.catalogue
        studies = self.studies()
        vectors = np.concatenate(
            [catalogue.study_query(uid, self.node.model.model_id).vectors for uid in studies]
        )
        images = self.space.images(vectors, ["CT"] * len(studies))
        return dict(zip(studies, (images @ self.space.texts([sentence])[0]).tolist(), strict=True))

    def studies(self) -> list[str]:
        ids = self.node.catalogue.embedding_ids(self.node.model.model_id).tolist()
        rows = self.node.catalogue.case_rows(ids, self.node.catalogue.bookmark())[0]
        return [rows[key].study_instance_uid for key in ids]

    def ask(self, sentence: str, **keys: object) -> tuple[Dataset, list[Dataset]]:
        """Ask the AE for words."""
        asked = identifier(SpecificCharacterSet="ISO_IR 192", StudyInstanceUID="", **keys)
        asked.StudyDescription = sentence
        BLOCK.reserve(asked)
        statuses, answers = c_find(self.node.query_port, asked, called="SIMILIS_TEXT")
        return statuses[-1], answers

    def ask_private(self, sentence: str, level: str = "STUDY", **keys: object) -> Any:
        """Ask the AE for examples by the private key; `keys` are private ones too."""
        unique = {"STUDY": "StudyInstanceUID", "SERIES": "SeriesInstanceUID"}[level]
        asked = identifier(level, **{unique: ""})
        asked.SpecificCharacterSet = "ISO_IR 192"
        BLOCK.reserve(asked)
        for name, value in {"QUERY_TEXT": sentence, **keys}.items():
            BLOCK.put(asked, getattr(private, name), value)
        statuses, answers = c_find(self.node.query_port, asked)
        return statuses[-1], answers


def filled(folder: Path, sections: dict[str, dict[str, str]]) -> Node:
    """Start a node on some studies; return it when all have their words."""
    config = peers.quick_config(folder / "data", http={"port": 0}, **sections)
    parts = open_parts(config)
    take_in(parts, *(image_of(folder / "push", number) for number in range(STUDIES)))
    parts.close()
    node = Node(config)
    node.start()
    space = node._generation.now().words.words.space_id
    peers.wait_for("words", lambda: len(node.catalogue.embedding_ids(space)) == STUDIES)
    return node


def filled_in_part(answering: Answering) -> Answering:
    """Return what to answer with while there are more images than have words."""
    words = answering.words
    assert words is not None
    images = ExactIndex(model_id=answering.model.model_id, dim=STUDIES + 1)
    images.add(np.arange(STUDIES + 1), np.eye(STUDIES + 1, dtype=np.float32))
    return replace(answering, words=replace(words, images=images))


def uids(answers: list[Dataset]) -> list[str]:
    """Return the studies of answers, in their order."""
    return [answer.StudyInstanceUID for answer in answers]
