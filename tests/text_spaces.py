"""A small text space with random weights, for the vectors of any encoder."""

from collections.abc import Mapping
from types import MappingProxyType

import torch
from towers import CONFIG, small_tower

from encoder.space_checkpoint import FORMAT, SpaceCheckpoint, SpaceDescription

MODALITIES = ("CR", "CT", "ECG", "OP", "US")
DIM = 12


def small_space(
    *,
    image_model_id: str = "0123456789abcdef",
    image_dim: int = 16,
    seed: int = 1,
    floor: float = -1.0,
    near: float = -1.0,
    words: Mapping[str, tuple[str, ...]] = MappingProxyType({}),
    modalities: tuple[str, ...] = MODALITIES,
) -> SpaceCheckpoint:
    """Draw a space; with the default limits no case is far from a sentence."""
    stream = torch.Generator().manual_seed(seed)
    rows = len(modalities) + 1
    text = small_tower(seed)
    description = SpaceDescription(
        format=FORMAT,
        name="small-space",
        text=text.description,
        image_model_id=image_model_id,
        image_dim=image_dim,
        dim=DIM,
        modalities=modalities,
        floor=floor,
        near=near,
        temperature=0.07,
        words=dict(words),
        seed=seed,
    )
    shapes = {
        "projection.weight": (DIM, CONFIG.width),
        "projection.bias": (DIM,),
        "heads.weight": (rows, DIM, image_dim),
        "heads.bias": (rows, DIM),
        "gaps": (rows, DIM),
    }
    tensors = {name: torch.randn(shape, generator=stream) * 0.3 for name, shape in shapes.items()}
    knots = torch.tensor([[-1.0, 0.0, 0.2, 0.5, 1.0], [-1.0, 0.1, 0.4, 0.9, 1.0]])
    return SpaceCheckpoint(description, text, {**tensors, "knots": knots})
