"""What a trained encoder is compared with, each behind the same door as the encoder itself.

Owns: `Method` and its kinds: a Similis checkpoint, the untrained one, pixels with PCA, ImageNet's
EfficientNet-Lite0, and Vision Transformers in Hugging Face folders. Does not own: reading images
(`reading`), scores (`scores`).
"""

from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from encoder import checkpoint as checkpoints
from encoder.checkpoint import Checkpoint, Description
from encoder.clip import Clip, Kind
from encoder.config import PRESETS, Extent
from encoder.device import available
from encoder.embedder import Embedder
from encoder.model import initial_weights
from encoder.normalise import normalise
from training import lite0

Matrix = NDArray[np.float32]

FRAMES = {Kind.STILL: 1, Kind.VOLUME: 32, Kind.CINE: 16}
IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
SIDE_PX = 224
PIXELS_SIDE_PX = 32
PIXELS_COMPONENTS = 128
_IMAGES_AT_ONCE = 32


class Method(Protocol):
    """Anything that turns clips into vectors.

    `extent` is the size to which planes of volumes may be shrunk while they are read.
    """

    @property
    def name(self) -> str:
        """What the table calls it."""

    @property
    def model_id(self) -> str:
        """The same id, fitted on the same rows if at all, means the same vectors."""

    @property
    def extent(self) -> Extent:
        """See the class."""

    def embed(self, clips: Iterable[Clip]) -> Matrix:
        """Turn clips as read into rows (N, D), in the same order."""

    def fitted(self, vectors: Matrix, train: NDArray[np.bool_]) -> Matrix:
        """Apply what is fitted on the rows of the train split, if anything is."""


class SimilisEncoder:
    """A checkpoint through the `Embedder` that the node itself uses."""

    def __init__(self, checkpoint: Checkpoint, name: str, *, device: str = "auto") -> None:
        self._embedder = Embedder(checkpoint, device=device)
        self.name, self.model_id = name, self._embedder.model_id
        self.extent = self._embedder.config.volume

    def embed(self, clips: Iterable[Clip]) -> Matrix:
        """Turn clips as read into unit rows (N, D)."""
        return self._embedder.embed(clips)

    def fitted(self, vectors: Matrix, train: NDArray[np.bool_]) -> Matrix:
        """Return the vectors: a checkpoint holds all that was fitted."""
        return vectors


def untrained(preset: str = "tiny", seed: int = 0) -> Checkpoint:
    """Return the seeded initialisation of a preset: what training starts from."""
    config = PRESETS[preset]
    description = Description(checkpoints.FORMAT, f"similis-{preset}", False, seed, config)
    return Checkpoint(description, initial_weights(config, seed))


class Pixels:
    """Grey values at 32 px, averaged over slices or frames; PCA of the train split."""

    name = "pixels"
    model_id = f"pixels-{PIXELS_SIDE_PX}-pca-{PIXELS_COMPONENTS}"
    extent = Extent(FRAMES[Kind.VOLUME], PIXELS_SIDE_PX, PIXELS_SIDE_PX)

    def embed(self, clips: Iterable[Clip]) -> Matrix:
        """Turn clips into rows (N, 32 * 32)."""
        rows = [frames_of(clip, PIXELS_SIDE_PX).mean(axis=(0, 1)).ravel() for clip in clips]
        return np.array(rows, np.float32).reshape(-1, PIXELS_SIDE_PX**2)

    def fitted(self, vectors: Matrix, train: NDArray[np.bool_]) -> Matrix:
        """Project on the first principal components of the train rows."""
        return pca(vectors, train, PIXELS_COMPONENTS)


def pca(vectors: Matrix, train: NDArray[np.bool_], components: int) -> Matrix:
    """Centre and project on the directions in which the train rows vary most, (N, components).

    There are fewer where there are not as many train rows; where there is none, all rows are
    fitted on.
    """
    rows = (vectors[train] if train.any() else vectors).astype(np.float64)
    centre = rows.mean(axis=0)
    fitted_on, moved = rows - centre, vectors - centre
    _, directions = np.linalg.eigh(fitted_on.T @ fitted_on)  # ascending
    kept = min(components, max(len(fitted_on) - 1, 1))
    projected: Matrix = (moved @ directions[:, ::-1][:, :kept]).astype(np.float32)
    return projected


class FrameEncoder:
    """A network for single pictures: the mean of its features over slices or frames.

    `features` maps pictures (N, 3, side, side), normalised as ImageNet is, to rows (N, D).
    """

    def __init__(
        self,
        name: str,
        model_id: str,
        features: Callable[[Tensor], Tensor],
        *,
        side_px: int = SIDE_PX,
        device: str = "cpu",
    ) -> None:
        self.name, self.model_id = name, model_id
        self.extent = Extent(FRAMES[Kind.VOLUME], side_px, side_px)
        self._features, self._side_px, self._device = features, side_px, device
        self._mean = torch.tensor(IMAGENET_MEAN).view(1, 3, 1, 1)
        self._std = torch.tensor(IMAGENET_STD).view(1, 3, 1, 1)

    def embed(self, clips: Iterable[Clip]) -> Matrix:
        """Turn clips into rows (N, D)."""
        rows: list[Matrix] = []
        for batch in self._batches(clips):
            images = (torch.from_numpy(np.concatenate(batch)) - self._mean) / self._std
            with torch.inference_mode():
                features = self._features(images.to(self._device)).float().cpu().numpy()
            ends = np.cumsum([len(frames) for frames in batch])[:-1]
            rows += [part.mean(axis=0) for part in np.split(features, ends)]
        return np.stack(rows) if rows else np.empty((0, 0), np.float32)

    def fitted(self, vectors: Matrix, train: NDArray[np.bool_]) -> Matrix:
        """Return the vectors: nothing is fitted."""
        return vectors

    def _batches(self, clips: Iterable[Clip]) -> Iterator[list[Matrix]]:
        """Gather the frames of clips up to about `_IMAGES_AT_ONCE`."""
        batch: list[Matrix] = []
        for clip in clips:
            batch.append(frames_of(clip, self._side_px))
            if sum(map(len, batch)) >= _IMAGES_AT_ONCE:
                yield batch
                batch = []
        if batch:
            yield batch


def frames_of(clip: Clip, side_px: int) -> Matrix:
    """Return the frames of a clip as pictures (T, 3, side, side) in [0, 1]."""
    extent = Extent(FRAMES[clip.kind], side_px, side_px)
    return np.ascontiguousarray(normalise(clip, extent).array.swapaxes(0, 1))


def method(name: str, *, device: str = "auto") -> Method:
    """Return what `--encoder` names: lite0, random, pixels, hf:DIR or the folder of a checkpoint.

    Raises BadCheckpoint, BaselineMissing, or EncoderError for a device that is not there.
    """
    if name == "pixels":
        return Pixels()
    if name == "random":
        return SimilisEncoder(untrained(), "random", device=device)
    if name == "lite0":
        return _lite0(available(device))
    if name.startswith("hf:"):
        from training.huggingface import vit  # it builds on this module

        return vit(Path(name.removeprefix("hf:")), device=available(device))
    return SimilisEncoder(checkpoints.load(Path(name)), Path(name).name, device=device)


def _lite0(device: str) -> FrameEncoder:
    """Return EfficientNet-Lite0 trained on ImageNet."""
    weights = {name: tensor.to(device) for name, tensor in lite0.load_weights().items()}
    return FrameEncoder(
        "lite0", lite0.MODEL_ID, lambda images: lite0.features(weights, images), device=device
    )
