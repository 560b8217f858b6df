"""Which items a step sees, and their views as tokens: the same for a seed and a step, always.

Owns: even sampling over modalities, the mix of stills, cines and volumes, views → tokens, reading
ahead. Does not own: cuts (`views`), changes (`augment`), losses.
"""

from collections import defaultdict
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from encoder.clip import Kind
from encoder.config import Extent
from encoder.tokens import patches_of, places_of
from training.augment import augment
from training.config import GLOBAL_VIEWS, TrainConfig
from training.data import Images
from training.views import Cut, Rng, crop, source

# What an entry can be shown as; a volume or a loop also gives stills.
GIVES: dict[Kind, tuple[Kind, ...]] = {
    Kind.STILL: (Kind.STILL,),
    Kind.CINE: (Kind.CINE, Kind.STILL),
    Kind.VOLUME: (Kind.VOLUME, Kind.STILL),
}


@dataclass(frozen=True, slots=True)
class Tokens:
    """Views of one shape: patches (N, L, P) as bytes 0..255, places (N, L, 3).

    `draws` (N, L) are random numbers by which tokens may be hidden; they belong to the sample, so
    that a batch hides the same however it is divided among processes.
    """

    patches: Tensor
    places: Tensor
    draws: Tensor


@dataclass(frozen=True, slots=True)
class Batch:
    """Global and local views, each a tuple over views of a tuple over shapes.

    The order of samples is the same in every view. `items` are their paths.
    """

    globals: tuple[tuple[Tokens, ...], ...]
    locals: tuple[tuple[Tokens, ...], ...]
    items: tuple[str, ...]

    @property
    def samples(self) -> int:
        """Samples N over all shapes."""
        return len(self.items)


class Sampler:
    """Draws rows evenly over modalities, then over the sources of one, then over its items."""

    def __init__(self, images: Images) -> None:
        self.images = images
        self._rows: dict[Kind, dict[str, dict[str, list[int]]]] = {}
        for kind in Kind:
            by_modality: dict[str, dict[str, list[int]]] = defaultdict(lambda: defaultdict(list))
            for row, entry in enumerate(images.entries):
                if kind in GIVES[entry.kind]:
                    by_modality[entry.modality][entry.source].append(row)
            self._rows[kind] = by_modality

    def plan(self, config: TrainConfig) -> tuple[tuple[Kind, int], ...]:
        """Say how many of a batch are stills, cines and volumes, as far as there are any."""
        counts = {Kind.CINE: config.cine_share, Kind.VOLUME: config.volume_share}
        plan = {
            kind: round(config.batch * share) for kind, share in counts.items() if self._rows[kind]
        }
        stills = config.batch - sum(plan.values())
        return tuple((k, n) for k, n in ((Kind.STILL, stills), *plan.items()) if n)

    def draw(self, kind: Kind, count: int, rng: Rng) -> list[int]:
        """Draw rows that can be shown as `kind`, going round the modalities from a drawn start."""
        modalities = sorted(self._rows[kind])
        start = int(rng.integers(len(modalities)))
        drawn: list[int] = []
        for place in range(count):
            sources = self._rows[kind][modalities[(start + place) % len(modalities)]]
            rows = sources[sorted(sources)[int(rng.integers(len(sources)))]]
            drawn.append(rows[int(rng.integers(len(rows)))])
        return drawn


def batches(
    sampler: Sampler,
    config: TrainConfig,
    *,
    first: int,
    rank: int = 0,
    ranks: int = 1,
    ahead: int = 2,
) -> Iterator[Batch]:
    """Yield the micro-batches from number `first` on, made `ahead` of their use in a thread.

    Of several processes each makes every `ranks`-th sample of the same global batch.
    """
    last = config.steps * config.accumulate
    make = partial(make_batch, sampler, config, rank=rank, ranks=ranks)
    with ThreadPoolExecutor(1) as pool:
        waiting = [pool.submit(make, n) for n in range(first, min(first + ahead, last))]
        for number in range(first, last):
            if number + ahead < last:
                waiting.append(pool.submit(make, number + ahead))
            yield waiting.pop(0).result()


def make_batch(
    sampler: Sampler, config: TrainConfig, number: int, rank: int = 0, ranks: int = 1
) -> Batch:
    """Make micro-batch `number`: every random choice follows from seed, number and sample."""
    rng = np.random.default_rng((config.seed, number))
    global_views: list[list[Tokens]] = [[] for _ in range(GLOBAL_VIEWS[config.method])]
    local_views: list[list[Tokens]] = [[] for _ in range(config.locals)]
    items: list[str] = []
    for kind, count in sampler.plan(config):
        rows = sampler.draw(kind, count, rng)
        seeds = rng.integers(2**63, size=count)
        mine = slice(rank, None, ranks)
        rngs = [np.random.default_rng(int(seed)) for seed in seeds[mine]]
        samples = [
            _views(sampler.images, row, kind, config, rng)
            for row, rng in zip(rows[mine], rngs, strict=True)
        ]
        for views, local, first in (
            (global_views, False, 0),
            (local_views, True, len(global_views)),
        ):
            for number_of_view, tokens in enumerate(views):
                shown = [sample[first + number_of_view] for sample in samples]
                tokens.append(_tokens(shown, kind, config, rngs, local=local))
        items += [sampler.images.entries[row].path for row in rows[mine]]
    return Batch(
        tuple(tuple(view) for view in global_views),
        tuple(tuple(view) for view in local_views),
        tuple(items),
    )


def _views(
    images: Images, row: int, wanted: Kind, config: TrainConfig, rng: Rng
) -> list[NDArray[np.uint8]]:
    """Cut all views of one sample, globals first."""
    entry = images.entries[row]
    shown = source(images.array(row), entry.kind, wanted, entry.depth_px, rng)
    wide = Cut(config.view(wanted, local=False), config.global_scale)
    narrow = Cut(config.view(wanted, local=True), config.local_scale)
    cuts = [wide] * GLOBAL_VIEWS[config.method] + [narrow] * config.locals
    return [augment(crop(shown, cut, rng), rng) for cut in cuts]


def _tokens(
    views: Sequence[NDArray[np.uint8]],
    kind: Kind,
    config: TrainConfig,
    rngs: Sequence[Rng],
    *,
    local: bool,
) -> Tokens:
    """Cut views of one shape into patches, their places stretched over the encoder's whole grid."""
    array = np.stack([_three_channels(view) for view in views])
    patch = (1, *config.encoder.patch[1:]) if kind is Kind.STILL else config.encoder.patch
    patches = torch.from_numpy(patches_of(array, patch))
    view = config.view(kind, local=local)
    places = torch.from_numpy(stretched_places(view, config.encoder.extent(kind), patch))
    draws = np.stack([rng.random(patches.shape[1], dtype=np.float32) for rng in rngs])
    return Tokens(patches, places.expand(len(patches), -1, -1), torch.from_numpy(draws))


def _three_channels(view: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """(T, H, W, 1 or 3) to (3, T, H, W)."""
    return np.broadcast_to(np.moveaxis(view, -1, 0), (3, *view.shape[:3]))


def stretched_places(
    view: Extent, full: Extent, patch: tuple[int, int, int]
) -> NDArray[np.float32]:
    """Places (L, 3) of a view's patches on the grid of the full extent, centre on centre.

    As DINO interpolates its position embedding: a small view spans the same range as a whole one.
    """
    sizes = tuple(zip((view.frames, view.height, view.width), patch, strict=True))
    wholes = tuple(zip((full.frames, full.height, full.width), patch, strict=True))
    t, h, w = (size // p for size, p in sizes)
    factors = np.array([whole // p for whole, p in wholes]) / (t, h, w)
    stretched: NDArray[np.float32] = ((places_of((t, h, w)) + 0.5) * factors - 0.5).astype(
        np.float32
    )
    return stretched
