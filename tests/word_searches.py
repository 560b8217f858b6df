"""Text spaces for the encoders of tests, kept in folders, and nodes that have them."""

from pathlib import Path

from encoders import small_encoder
from text_spaces import small_space

from encoder import checkpoint, space_checkpoint
from encoder.space_checkpoint import SpaceCheckpoint


def encoder_with_space(
    folder: Path, *, seed: int = 1, floor: float = -1.0, space_seed: int = 1
) -> dict[str, dict[str, str]]:
    """Write a small encoder and a text space of it; return the sections that name them."""
    encoder = small_encoder(folder / f"encoder-{seed}", seed)
    space = space_of(encoder, floor=floor, seed=space_seed)
    name = folder / f"space-{seed}-{space_seed}"
    space_checkpoint.save(name, space)
    return {"encoder": {"checkpoint": str(encoder)}, "text": {"folder": str(name)}}


def space_of(encoder: Path, *, floor: float = -1.0, seed: int = 1) -> SpaceCheckpoint:
    """Draw a text space for the vectors of an encoder."""
    loaded = checkpoint.load(encoder)
    return small_space(
        image_model_id=checkpoint.model_id(loaded), image_dim=loaded.dim, floor=floor, seed=seed
    )
