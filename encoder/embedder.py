"""From clips to unit vectors.

Owns: batching, pooling, post-processing, and the promise that what leaves is finite and of length
one. Does not own: reading (`pixels`), the choice of device (`device`), storage (the caller).
"""

from collections.abc import Iterable, Iterator, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from encoder import checkpoint as checkpoints
from encoder.checkpoint import Checkpoint
from encoder.clip import Clip
from encoder.config import Pooling
from encoder.device import choose
from encoder.errors import EncoderError
from encoder.model import build
from encoder.normalise import normalise
from encoder.tokens import tokenise

# Tokens through the network at once: enough to keep the cores busy, some 100 MB at width 384.
BATCH_TOKENS = 4096

_Tokens = tuple[NDArray[np.float32], NDArray[np.float32]]


class Embedder:
    """One encoder, ready to use; `model_id` names exactly these weights and this config."""

    def __init__(
        self,
        checkpoint: Checkpoint,
        *,
        device: str = "auto",
        threads: int | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        """Build the network and choose where it runs; a given `dtype` switches the trial off."""
        if threads is not None:
            torch.set_num_threads(threads)
        description = checkpoint.description
        self.config = description.config
        self.model_id = checkpoints.model_id(checkpoint)
        self.version = checkpoints.version(checkpoint)
        self.name = description.name
        self.trained = description.trained
        self.dim = checkpoint.dim
        encoder = build(self.config, {n: t.float() for n, t in checkpoint.network.items()}).eval()
        self.choice = choose(encoder, device=device, dtype=dtype)
        self._encoder = encoder.to(self.choice.device, self.choice.dtype)
        self._centre = checkpoint.tensors.get(checkpoints.CENTRE)
        self._whiten = checkpoint.tensors.get(checkpoints.WHITEN)

    def embed(self, clips: Iterable[Clip]) -> NDArray[np.float32]:
        """Turn clips, as `pixels.read` gives them, into unit rows (N, D) in the same order.

        Clips are taken one by one and only their tokens are kept.
        Raises EncoderError where a vector is not finite or has no length.
        """
        vectors: dict[int, NDArray[np.float32]] = {}
        for rows, tokens in self._batches(clips):
            cls, mean = self._outputs(tokens)
            vectors.update(zip(rows, self._finished(cls, mean).numpy(), strict=True))
        return np.array([vectors[row] for row in sorted(vectors)], np.float32).reshape(-1, self.dim)

    def outputs(self, clips: Iterable[Clip]) -> NDArray[np.float32]:
        """Return what `embed` pools, before it does: CLS and mean token, (N, 2, D)."""
        pairs: dict[int, Tensor] = {}
        for rows, tokens in self._batches(clips):
            pairs.update(zip(rows, torch.stack(self._outputs(tokens), dim=1), strict=True))
        kept = [pairs[row].numpy() for row in sorted(pairs)]
        return np.array(kept, np.float32).reshape(-1, 2, self.config.width)

    def _batches(self, clips: Iterable[Clip]) -> Iterator[tuple[list[int], list[_Tokens]]]:
        """Gather clips of equal token shape up to `BATCH_TOKENS`; `rows` says which they are."""
        waiting: dict[tuple[int, ...], tuple[list[int], list[_Tokens]]] = {}
        for row, clip in enumerate(clips):
            normalised = normalise(clip, self.config.extent(clip.kind))
            tokens = tokenise(normalised, self.config.patch)
            shape = tokens[0].shape
            rows, batch = waiting.setdefault(shape, ([], []))
            rows.append(row)
            batch.append(tokens)
            if (len(batch) + 1) * shape[0] > BATCH_TOKENS:
                yield waiting.pop(shape)
        yield from waiting.values()

    def _outputs(self, batch: Sequence[_Tokens]) -> tuple[Tensor, Tensor]:
        """Run one batch: CLS and mean token, each (N, D), fp32 on the CPU."""
        device, dtype = self.choice.device, self.choice.dtype
        patches = torch.from_numpy(np.stack([patches for patches, _ in batch]))
        positions = torch.from_numpy(np.stack([positions for _, positions in batch]))
        with torch.inference_mode():
            cls, tokens = self._encoder(patches.to(device, dtype), positions.to(device))
            return cls.float().cpu(), tokens.float().mean(dim=1).cpu()

    def _finished(self, cls: Tensor, mean: Tensor) -> Tensor:
        """Pool, centre and whiten one batch to unit rows (N, D)."""
        vectors = pool(cls, mean, self.config.pooling)
        if self._centre is not None:
            vectors = vectors - self._centre.float()
        if self._whiten is not None:
            vectors = vectors @ self._whiten.float()
        lengths = vectors.norm(dim=1, keepdim=True)
        if not (lengths.isfinite() & (lengths > 0)).all():
            raise EncoderError(
                f"{self.version} gave a vector that is not finite or is zero: check the "
                "checkpoint, and report the image"
            )
        unit: Tensor = vectors / lengths
        return unit


def pool(cls: Tensor, mean: Tensor, pooling: Pooling) -> Tensor:
    """Pool CLS (N, D) and mean token (N, D) to (N, D), or (N, 2 D), both halves of length 1."""
    if pooling is Pooling.CLS:
        return cls
    if pooling is Pooling.MEAN:
        return mean
    return torch.cat([functional.normalize(cls), functional.normalize(mean)], dim=1)
