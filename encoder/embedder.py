"""From clips to unit vectors.

Owns: batching, pooling, post-processing, and the promise that what leaves is finite and of length
one. Does not own: reading (`pixels`), the choice of device (`device`), storage (the caller).
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

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
from encoder.parts import MAX_PARTS, Layout, Parts, layout_of, part_means
from encoder.tokens import patch_of, tokenise

# Tokens through the network at once: enough to keep the cores busy, some 100 MB at width 384.
BATCH_TOKENS = 4096


@dataclass(frozen=True, slots=True)
class _Tokens:
    """Patches (L, P) and their places (L, 3) of one normalised clip, and how they lie in it."""

    patches: NDArray[np.float32]
    positions: NDArray[np.float32]
    layout: Layout


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
        for rows, batch in self._batches(clips):
            cls, tokens = self._outputs(batch)
            vectors.update(zip(rows, self._finished(cls, tokens.mean(dim=1)).numpy(), strict=True))
        return self._in_order(vectors)

    def embed_with_parts(
        self, clips: Iterable[Clip], *, most: int = MAX_PARTS
    ) -> tuple[NDArray[np.float32], tuple[Parts, ...]]:
        """Do as `embed`, and give at most `most` parts of every clip from the same pass."""
        vectors: dict[int, NDArray[np.float32]] = {}
        parts: dict[int, Parts] = {}
        for rows, batch in self._batches(clips):
            cls, tokens = self._outputs(batch)
            vectors.update(zip(rows, self._finished(cls, tokens.mean(dim=1)).numpy(), strict=True))
            for row, clip, outputs in zip(rows, batch, tokens.cpu().numpy(), strict=True):
                parts[row] = self._parts(clip, outputs, most)
        return self._in_order(vectors), tuple(parts[row] for row in sorted(parts))

    def outputs(self, clips: Iterable[Clip]) -> NDArray[np.float32]:
        """Return what `embed` pools, before it does: CLS and mean token, (N, 2, D)."""
        pairs: dict[int, Tensor] = {}
        for rows, batch in self._batches(clips):
            cls, tokens = self._outputs(batch)
            pair = torch.stack([cls, tokens.mean(dim=1)], dim=1).cpu()
            pairs.update(zip(rows, pair, strict=True))
        kept = [pairs[row].numpy() for row in sorted(pairs)]
        return np.array(kept, np.float32).reshape(-1, 2, self.config.width)

    def _batches(self, clips: Iterable[Clip]) -> Iterator[tuple[list[int], list[_Tokens]]]:
        """Gather clips of equal token shape up to `BATCH_TOKENS`; `rows` says which they are."""
        waiting: dict[tuple[int, ...], tuple[list[int], list[_Tokens]]] = {}
        for row, clip in enumerate(clips):
            normalised = normalise(clip, self.config.extent(clip.kind))
            layout = layout_of(normalised, patch_of(clip.kind, self.config.patch))
            tokens = _Tokens(*tokenise(normalised, self.config.patch), layout)
            shape = tokens.patches.shape
            rows, batch = waiting.setdefault(shape, ([], []))
            rows.append(row)
            batch.append(tokens)
            if (len(batch) + 1) * shape[0] > BATCH_TOKENS:
                yield waiting.pop(shape)
        yield from waiting.values()

    def _outputs(self, batch: Sequence[_Tokens]) -> tuple[Tensor, Tensor]:
        """Run one batch: CLS (N, D) and tokens (N, L, D), fp32, where they were computed."""
        device, dtype = self.choice.device, self.choice.dtype
        patches = torch.from_numpy(np.stack([each.patches for each in batch]))
        positions = torch.from_numpy(np.stack([each.positions for each in batch]))
        with torch.inference_mode():
            cls, tokens = self._encoder(patches.to(device, dtype), positions.to(device))
            return cls.float(), tokens.float()

    def _finished(self, cls: Tensor, mean: Tensor) -> Tensor:
        """Pool, centre and whiten one batch to unit rows (N, D)."""
        vectors = pool(cls, mean, self.config.pooling).cpu()
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

    def _parts(self, clip: _Tokens, tokens: NDArray[np.float32], most: int) -> Parts:
        """Pool the tokens (L, D) of one clip part by part.

        What was fitted to the mean token of whole clips is done to the means of parts: measured,
        that ranks best of what needs nothing more in a checkpoint (training/LOG.md).
        """
        shown: NDArray[np.bool_] = (clip.patches != 0).any(axis=1)
        means, places = part_means(tokens, shown, clip.layout, most=most)
        vectors, width = torch.from_numpy(means), self.config.width
        if self.config.pooling is Pooling.BOTH:
            vectors = functional.normalize(vectors)
        if self.config.pooling is not Pooling.CLS:
            if self._centre is not None:
                vectors = vectors - self._centre[-width:].float()
            if self._whiten is not None:
                vectors = vectors @ self._whiten[-width:].float()
        return Parts(functional.normalize(vectors).numpy(), places)

    def _in_order(self, vectors: dict[int, NDArray[np.float32]]) -> NDArray[np.float32]:
        return np.array([vectors[row] for row in sorted(vectors)], np.float32).reshape(-1, self.dim)


def pool(cls: Tensor, mean: Tensor, pooling: Pooling) -> Tensor:
    """Pool CLS (N, D) and mean token (N, D) to (N, D), or (N, 2 D), both halves of length 1."""
    if pooling is Pooling.CLS:
        return cls
    if pooling is Pooling.MEAN:
        return mean
    return torch.cat([functional.normalize(cls), functional.normalize(mean)], dim=1)
