"""From a config and a folder of images to a run that goes: the parts of training put together.

Owns: where the first weights come from, one or several processes. Does not own: the loop.
"""

from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from torch import Tensor

from encoder import checkpoint as checkpoints
from encoder.model import build, initial_weights
from training.config import TrainConfig
from training.data import Images, chosen, prepare
from training.errors import BadRun
from training.manifest import Item, Split
from training.objectives import Objective, objective

CACHE_SIDE = 1.5  # of a still's side: a crop of half the area is not enlarged


def images_of(
    items: Sequence[Item],
    config: TrainConfig,
    cache: Path,
    *,
    allow: Sequence[str] = (),
    exclude: Sequence[str] = (),
    advance: Callable[[], None] = lambda: None,
) -> Images:
    """Return the cached images of the items that may be trained on; raises as `data` does."""
    mine = chosen([i for i in items if i.split is Split.TRAIN], allow=allow, exclude=exclude)
    return prepare(
        mine, cache, side=round(config.encoder.still.height * CACHE_SIDE), advance=advance
    )


def new_objective(config: TrainConfig, init: Path | None = None, device: str = "cpu") -> Objective:
    """Build what is trained, from the seed or from the encoder of another run.

    Raises BadCheckpoint where `init` holds none, BadRun where it has another shape.
    """
    weights: dict[str, Tensor] = initial_weights(config.encoder, config.seed)
    if init is not None:
        checkpoint = checkpoints.load(init)
        weights = {name: tensor.float() for name, tensor in checkpoint.network.items()}
    torch.manual_seed(config.seed)  # heads and decoders draw from torch
    try:
        return objective(build(config.encoder, weights), config).to(device)
    except RuntimeError as error:
        reason = "its encoder has another shape than this preset"
        raise BadRun(init or Path(), reason, "Give the --preset and --width it has.") from error
