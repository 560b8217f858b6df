"""What the node needs of a text space, wherever it runs, and where its folder lies."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from importlib.resources import files
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from dicom_node.config import Text
from encoder.lexicon import Understood
from index.search import Search
from index.space import Space
from index.vectors import VectorIndex, Vectors


class Words(Protocol):
    """A text space: `encoder.text_space.TextSpace`, or the process that has one.

    `near` and `floor` are the best cosines that a sentence of learned words needs, and of others.
    """

    space_id: str
    image_model_id: str
    name: str
    version: str
    dim: int
    floor: float
    near: float

    def understanding(self, sentence: str) -> Understood:
        """Say which words of a sentence were learned."""

    def texts(self, sentences: Sequence[str]) -> Vectors:
        """Turn sentences into unit rows (N, D); raises `encoder.errors.BadText`."""

    def images(self, vectors: Vectors, modalities: Sequence[str]) -> Vectors:
        """Turn vectors (N, C) of the image encoder into unit rows (N, D)."""

    def alike(self, cosines: NDArray[np.floating]) -> Vectors:
        """Turn cosines of text and image into those of two images that are as rare."""


@dataclass(frozen=True, slots=True)
class WordSearch:
    """A text space with its vectors, opened for answers; `images` are those they are made of.

    `left_out` are those, by id, of which none can be made.
    """

    words: Words
    index: VectorIndex
    search: Search
    images: VectorIndex | None = None
    left_out: set[int] = field(default_factory=set, compare=False)

    @property
    def lacking(self) -> int:
        """Count the images that still get a vector in the space, by what the indexes hold."""
        lacking = 0 if self.images is None else max(0, len(self.images) - len(self.index))
        if self.images is None or not lacking or not self.left_out:
            return lacking
        gone = np.isin(list(self.left_out), self.images.ids(), invert=True)
        return max(0, lacking - len(self.left_out) + int(gone.sum()))


def row_of(words: Words) -> Space:
    """Return what the catalogue keeps of a text space."""
    return Space(
        space_id=words.space_id,
        image_model_id=words.image_model_id,
        name=words.name,
        version=words.version,
        dim=words.dim,
    )


def folder_of(text: Text) -> Path | None:
    """Return where the text space lies; None where words are off, or none ships."""
    if not text.enabled:
        return None
    if text.folder:
        return Path(text.folder)
    shipped = Path(str(files("encoder") / "weights" / "text"))
    return shipped if shipped.is_dir() else None
