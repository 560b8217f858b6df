"""The last step of training: which outputs to pool, what to subtract and how to whiten.

Owns: the candidates, the choice among them on held-out train items, and the tensors it adds to a
checkpoint. Does not own: applying them (`encoder.embedder`), the metrics (`scores`). Items of the
eval split are never looked at.
Source: centring and shrunk PCA whitening lift retrieval of frozen features (arXiv:2410.07022).
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from encoder import checkpoint as checkpoints
from encoder.checkpoint import Checkpoint
from encoder.clip import Clip
from encoder.config import Pooling
from encoder.embedder import Embedder, pool
from training.errors import NothingToScore
from training.evaluate import embed_items
from training.manifest import Item, Split
from training.scores import METRICS, ask, metrics_of, unit_rows
from training.tasks import Task, names, rows_of

Matrix = NDArray[np.float32]

DIMS = (64, 128, 256)
SHRINKAGES = (0.01, 0.1, 0.5)
FOLDS = 4
_JUDGED_BY = METRICS.index("mAP@10")


@dataclass(frozen=True, slots=True)
class Candidate:
    """A pooling, whether its centre is subtracted, and how it is whitened, if it is.

    `dim` directions of largest variance are kept and brought to variance 1; `shrinkage` in 0..1
    draws the covariance towards a multiple of the identity first. `dim` 0: no whitening.
    """

    pooling: Pooling
    centred: bool
    dim: int = 0
    shrinkage: float = 0.0


@dataclass(frozen=True, slots=True)
class Tried:
    """A candidate and its macro mAP@10 on held-out train items."""

    candidate: Candidate
    map_at_10: float


@dataclass(frozen=True, slots=True)
class Finished:
    """The checkpoint with what was chosen, and everything that was tried, best first."""

    checkpoint: Checkpoint
    tried: tuple[Tried, ...]


def finish(
    checkpoint: Checkpoint,
    items: Sequence[Item],
    advance: Callable[[], None],
    *,
    device: str = "auto",
    seed: int = 0,
) -> Finished:
    """Choose pooling, centring and whitening on the train items and write them into a checkpoint.

    Every fourth of the patients asks in turn, the rest is fitted on and answers; the winner by mean
    macro mAP@10 (the simpler of equals) is fitted again on all train items.
    Raises NothingToScore where no source has labels of two classes, TooManyUnreadable.
    """
    train = [item for item in items if item.split is Split.TRAIN]
    embedded = embed_items(train, _Outputs(checkpoint, device), advance)
    width = checkpoint.description.config.width
    outputs = torch.from_numpy(embedded.vectors).reshape(-1, 2, width)
    folds = list(_folds(embedded.items, seed))
    if not any(tasks for _, tasks in folds):
        raise NothingToScore("no source of the train split has labels of two classes")
    tried = [
        Tried(candidate, _held_out(_pooled(outputs, candidate.pooling), candidate, folds))
        for candidate in _candidates(width)
    ]
    tried.sort(key=lambda one: -one.map_at_10)  # stable: the simpler of equals first
    return Finished(_fitted(checkpoint, outputs, tried[0]), tuple(tried))


def _pooled(outputs: Tensor, pooling: Pooling) -> Tensor:
    """Pool outputs (N, 2, D) as `Embedder` does."""
    return pool(outputs[:, 0], outputs[:, 1], pooling)


class _Outputs:
    """The outputs of the network before pooling, as a method of embedding (N, 2 D)."""

    def __init__(self, checkpoint: Checkpoint, device: str) -> None:
        self._embedder = Embedder(checkpoint, device=device)
        self.name, self.model_id = self._embedder.name, self._embedder.model_id
        self.extent = self._embedder.config.volume

    def embed(self, clips: Iterable[Clip]) -> Matrix:
        outputs = self._embedder.outputs(clips)
        return outputs.reshape(len(outputs), -1)

    def fitted(self, vectors: Matrix, train: NDArray[np.bool_]) -> Matrix:
        return vectors


def _candidates(width: int) -> Iterator[Candidate]:
    """Name every candidate, simple ones first."""
    yield from (Candidate(pooling, centred=False) for pooling in Pooling)
    yield from (Candidate(pooling, centred=True) for pooling in Pooling)
    for pooling in Pooling:
        longest = width * (2 if pooling is Pooling.BOTH else 1)
        for dim in sorted({min(dim, longest) for dim in DIMS}):
            yield from (Candidate(pooling, True, dim, shrinkage) for shrinkage in SHRINKAGES)


def _folds(items: Sequence[Item], seed: int) -> Iterator[tuple[NDArray[np.bool_], list[Task]]]:
    """Hold out a fourth of the patients in turn: what is fitted on (N,), and a task a source."""
    random = np.random.default_rng(seed)
    owners = np.array([item.patient_id or item.path for item in items])
    _, owner = np.unique(owners, return_inverse=True)
    fold = random.permutation(int(owner.max(initial=0)) + 1)[owner] % FOLDS
    for number in range(FOLDS):
        held_out = fold == number
        yield ~held_out, list(_tasks(items, held_out))


def _tasks(items: Sequence[Item], held_out: NDArray[np.bool_]) -> Iterator[Task]:
    """Ask with the held-out items of each source; the others of the source answer."""
    labels, patients, sources = (names(items, c) for c in ("label", "patient_id", "source"))
    for source in np.unique(sources):
        labelled = (sources == source) & (labels != "")
        asked = rows_of(np.flatnonzero(labelled & held_out))
        gallery = rows_of(np.flatnonzero(labelled & ~held_out))
        classes = set(labels[gallery])
        if len(classes) > 1 and classes & set(labels[asked]):
            yield Task(str(source), asked, gallery, labels, patients, "held-out train items ask")


def _held_out(
    pooled: Tensor, candidate: Candidate, folds: Sequence[tuple[NDArray[np.bool_], list[Task]]]
) -> float:
    """Fit on each fold's rest and return the mean over folds of the macro mAP@10."""
    reached: list[float] = []
    for fitted_on, tasks in folds:
        if not tasks:
            continue
        vectors = _apply(pooled, _tensors(pooled[torch.from_numpy(fitted_on)], candidate))
        unit = unit_rows(vectors.numpy())
        reached.append(float(np.mean([_map_at_10(unit, task) for task in tasks])))
    return float(np.mean(reached))


def _map_at_10(unit: Matrix, task: Task) -> float:
    answers = ask(unit, task)
    return float(metrics_of(answers.hits, answers.relevant)[:, _JUDGED_BY].mean())


def _tensors(pooled: Tensor, candidate: Candidate) -> dict[str, Tensor]:
    """Fit what the candidate needs on pooled vectors (N, D)."""
    if not candidate.centred:
        return {}
    wide = pooled.double()
    centre = wide.mean(dim=0)
    tensors = {checkpoints.CENTRE: centre.float()}
    if candidate.dim:
        tensors[checkpoints.WHITEN] = _whitening(wide - centre, candidate).float()
    return tensors


def _whitening(centred: Tensor, candidate: Candidate) -> Tensor:
    """Return the matrix (D, dim) that brings the main directions to variance 1."""
    width = centred.shape[1]
    covariance = centred.T @ centred / len(centred)
    mean_variance = covariance.trace() / width
    shrunk = (1 - candidate.shrinkage) * covariance
    shrunk += candidate.shrinkage * mean_variance * torch.eye(width, dtype=shrunk.dtype)
    variances, directions = torch.linalg.eigh(shrunk)  # ascending
    kept = slice(width - candidate.dim, None)
    matrix: Tensor = directions[:, kept] / variances[kept].sqrt()
    return matrix


def _apply(pooled: Tensor, tensors: dict[str, Tensor]) -> Tensor:
    """Do to pooled vectors what `Embedder` does."""
    if (centre := tensors.get(checkpoints.CENTRE)) is not None:
        pooled = pooled - centre
    if (whiten := tensors.get(checkpoints.WHITEN)) is not None:
        pooled = pooled @ whiten
    return pooled


def _fitted(checkpoint: Checkpoint, outputs: Tensor, best: Tried) -> Checkpoint:
    """Fit the winner on all train items and put it into the checkpoint."""
    pooling = best.candidate.pooling
    description = replace(
        checkpoint.description,
        config=replace(checkpoint.description.config, pooling=pooling),
        metrics={**checkpoint.description.metrics, "held_out_map_at_10": best.map_at_10},
    )
    tensors = _tensors(_pooled(outputs, pooling), best.candidate)
    return Checkpoint(description, {**checkpoint.network, **tensors})
