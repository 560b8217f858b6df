"""What a binding of images and words is, as values that its folder keeps.

Owns: `BindConfig` and its defaults. Does not own: where data and runs lie (the command line).
"""

from dataclasses import dataclass
from enum import StrEnum


class Contrast(StrEnum):
    """How images and sentences are told apart; both with several right answers.

    SigLIP: arXiv:2303.15343. CLIP: arXiv:2103.00020, with the right answers sharing the target.
    """

    SIGLIP = "siglip"
    CLIP = "clip"


@dataclass(frozen=True, slots=True)
class BindConfig:
    """Everything that decides the outcome of a binding, save the data and the first tower.

    Raises ValueError for numbers that make no run.
    """

    seed: int = 0
    dim: int = 128
    bf16: bool = True  # matrix products of the text tower; weights and losses stay float32
    captions: int = 48  # drawn for all images of which the same is known
    most_captions: int = 100_000  # in all: each takes a row in memory
    terms: int = 1500  # names from coded dictionaries, over which text heads have to agree
    evenness: float = 0.5  # a group of n images is drawn n**evenness times: 1 as they are, 0 evenly
    # stage 0: the text tower learns the language; rank and alpha as M3Bind's code has them
    adapt_steps: int = 0  # of 150 tried none gained, see LOG.md; reports of your own may
    adapt_batch: int = 64  # pairs
    adapt_lr: float = 2e-4
    rank: int = 8
    alpha: float = 8.0
    held_out: float = 0.1  # of the pairs, to be scored before and after
    # stage 1: a head for images and one for sentences, of each modality
    bind_steps: int = 1000
    bind_batch: int = 256  # images, and a sentence of each
    bind_lr: float = 3e-3
    contrast: Contrast = Contrast.SIGLIP
    across: bool = True  # sentences of other modalities are wrong answers too
    centre: float = 0.3  # weight of the agreement of text heads
    # stage 2: one text encoder for all
    distil: bool = True  # else the mean of the text heads is taken
    unify_steps: int = 400
    unify_batch: int = 256
    unify_lr: float = 3e-3
    unify_rank: int = 0  # of what the tower may change by; 0: only the projection learns
    unify_contrast: float = 2.0  # weight of telling images apart, beside copying the heads
    gap: float = 0.5  # how much of the gap between images and sentences is taken off

    def __post_init__(self) -> None:
        counts = (self.dim, self.captions, self.most_captions, self.rank, self.adapt_batch)
        steps = (self.adapt_steps, self.bind_steps, self.unify_steps, self.terms, self.unify_rank)
        if min(*counts, self.bind_batch, self.unify_batch) < 1 or min(steps) < 0:
            raise ValueError("dim, captions, rank and batches must be positive, steps not negative")
        if not 0 <= self.held_out < 1:
            raise ValueError("held_out must be a part between 0 and 1")
        if min(self.evenness, self.centre, self.unify_contrast, self.gap) < 0:
            raise ValueError("evenness and weights must not be negative")
