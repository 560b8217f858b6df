"""The space that sentences and images of every modality share.

Owns: what is computed in it, which head takes which modality, the reading of scores. Does not own:
its folder (`space_checkpoint`), the image encoder (`embedder`), whose vectors it takes as they lie
in a catalogue.
Sources: M3Bind (arXiv:2506.18072) binds modalities by text; GR-CLIP (arXiv:2507.19054) closes the
gap between kinds of media by taking off means.
"""

from collections.abc import Sequence
from dataclasses import replace
from itertools import chain

import numpy as np
from numpy.typing import NDArray

from encoder.abbreviations import write_out
from encoder.errors import EncoderError
from encoder.lexicon import Understood, understood
from encoder.space_checkpoint import SpaceCheckpoint, space_id
from encoder.text_embedder import TextEmbedder
from encoder.wordpiece import MAX_CHARACTERS

Matrix = NDArray[np.float32]

# Modalities (PS3.3 section C.7.3.1.1.1) that one head may stand in for, the likest first.
KIN: tuple[tuple[str, ...], ...] = (
    ("CR", "DX", "RG", "RF"),
    ("US", "IVUS"),
    ("SM", "GM"),
    ("ECG", "EPS", "HD"),
    ("OP", "OPM"),
    ("OPT", "OPTENF"),
)
_EVERY_OTHER = ""


class TextSpace:
    """One text space, ready to use; `space_id` names exactly these weights, words and scores."""

    def __init__(self, checkpoint: SpaceCheckpoint, *, device: str = "auto") -> None:
        """Build the text tower; raises EncoderError for a device that is not there."""
        description, tensors = checkpoint.description, checkpoint.tensors
        self.space_id = space_id(checkpoint)
        self.image_model_id = description.image_model_id
        self.name = description.name
        self.version = f"{self.name} {self.space_id} (of encoder {self.image_model_id})"
        self.dim = description.dim
        self.image_dim = description.image_dim
        self.modalities = description.modalities
        self.floor = description.floor
        self.near = description.near
        self.temperature = description.temperature
        self._learned = {name: frozenset(words) for name, words in description.words.items()}
        self._text = TextEmbedder(checkpoint.text, device=device)
        arrays = {name: tensor.float().numpy() for name, tensor in tensors.items()}
        self._projection = arrays["projection.weight"], arrays["projection.bias"]
        self._heads = arrays["heads.weight"], arrays["heads.bias"]
        self._gaps, self._knots = arrays["gaps"], arrays["knots"]

    def knows(self, sentence: str) -> bool:
        """Say whether `texts` takes a sentence."""
        return self._text.knows(sentence)

    def texts(self, sentences: Sequence[str]) -> Matrix:
        """Turn sentences, their abbreviations written out, into unit rows (N, D).

        Raises BadText where one cannot be read, EncoderError where a vector is not finite.
        """
        for sentence in sentences:  # what people wrote is judged, not what it is written out to
            self._text.read(sentence)
        written = [_written(sentence) for sentence in sentences]
        weight, bias = self._projection
        return _unit(self._text.embed(written) @ weight.T + bias)

    def understanding(self, sentence: str) -> Understood:
        """Say which words of a sentence were learned, and how much of it is not read.

        `unlike` then are all modalities whose head is one of those. Raises BadText where no word of
        the sentence can be read.
        """
        unread = self._text.read(_written(sentence)).left_out
        read = understood(sentence, self._learned)
        every = sorted({*self.modalities, *chain.from_iterable(KIN)})
        unlike = tuple(one for one in every if self.head_of(one) in read.unlike)
        return replace(read, unread=unread, unlike=unlike)

    def images(self, vectors: Matrix, modalities: Sequence[str]) -> Matrix:
        """Turn vectors (N, C) of the image encoder into unit rows (N, D), each by its modality.

        Raises EncoderError for vectors of another width, or not as many as modalities.
        """
        if vectors.shape != (len(modalities), self.image_dim):
            raise EncoderError(
                f"{self.name} takes vectors (N, {self.image_dim}) and N modalities, not "
                f"{vectors.shape} and {len(modalities)}: use encoder {self.image_model_id}"
            )
        rows = np.array([self._row(modality) for modality in modalities], dtype=np.intp)
        placed = np.empty((len(vectors), self.dim), np.float32)
        weights, biases = self._heads
        for row in np.unique(rows):
            mine = rows == row
            placed[mine] = _unit(vectors[mine] @ weights[row].T + biases[row]) - self._gaps[row]
        return _unit(placed)

    def head_of(self, modality: str) -> str:
        """Name the bound modality whose head takes this one; empty for the head of all others."""
        family = next((kin for kin in KIN if modality in kin), ())
        return next((one for one in (modality, *family) if one in self.modalities), _EVERY_OTHER)

    def alike(self, cosines: NDArray[np.floating]) -> Matrix:
        """Turn cosines of text and image into those of two images that are as rare by chance.

        By chance is: between the training's images that share no caption. Order is kept.
        """
        alike: Matrix = np.interp(cosines, *self._knots).astype(np.float32)
        return alike

    def _row(self, modality: str) -> int:
        head = self.head_of(modality)
        return self.modalities.index(head) if head else len(self.modalities)


def _written(sentence: str) -> str:
    """Return a sentence as the text tower reads it."""
    return write_out(sentence)[:MAX_CHARACTERS]


def _unit(rows: Matrix) -> Matrix:
    """Bring rows (N, D) to length 1; raises EncoderError where one has none or is not finite."""
    lengths = np.linalg.norm(rows, axis=1, keepdims=True)
    if not (np.isfinite(lengths) & (lengths > 0)).all():
        raise EncoderError("a vector of the text space is not finite or is zero: check its folder")
    unit: Matrix = (rows / lengths).astype(np.float32)
    return unit
