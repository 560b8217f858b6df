"""The shape of the encoder, as values that a checkpoint keeps.

Owns: `Extent`, `Pooling`, `EncoderConfig` and the three presets.
Does not own: weights (`checkpoint`) or the network built from these numbers (`model`).
"""

from dataclasses import dataclass
from enum import StrEnum

from encoder.clip import Kind


@dataclass(frozen=True, slots=True)
class Extent:
    """The fixed size of a normalised clip: frames T, height H, width W in pixels."""

    frames: int
    height: int
    width: int


class Pooling(StrEnum):
    """Which outputs of the network become the vector; `BOTH` puts the two side by side."""

    CLS = "cls"
    MEAN = "mean"
    BOTH = "both"


@dataclass(frozen=True, slots=True)
class EncoderConfig:
    """A plain Vision Transformer over space-time patches.

    `patch` is (t, p, p) pixels; extents must be multiples of it, save that a still has T = 1.
    `layer_scale` is the initial gain of every residual branch (0.1 as in SimDINOv2).
    Raises ValueError for numbers that fit no network.
    """

    width: int
    depth: int
    heads: int
    still: Extent
    volume: Extent
    cine: Extent
    patch: tuple[int, int, int] = (4, 16, 16)
    registers: int = 4
    layer_scale: float = 0.1
    pooling: Pooling = Pooling.BOTH

    def __post_init__(self) -> None:
        if min(self.width, self.depth, self.heads, *self.patch) < 1 or self.registers < 0:
            raise ValueError("width, depth, heads and patch must be positive")
        if self.width % self.heads or self.width % 6:
            raise ValueError(f"width {self.width} must be a multiple of heads and of 6")
        if self.still.frames != 1:
            raise ValueError("a still has one frame")
        for kind in Kind:
            extent, (t, h, w) = self.extent(kind), self.patch
            depth = 1 if kind is Kind.STILL else t
            if min(extent.frames, extent.height, extent.width) < 1 or (
                extent.frames % depth or extent.height % h or extent.width % w
            ):
                raise ValueError(f"the {kind} extent is no multiple of the patch {self.patch}")

    def extent(self, kind: Kind) -> Extent:
        """Size to which a clip of this kind is brought before it is cut into tokens."""
        return {Kind.STILL: self.still, Kind.VOLUME: self.volume, Kind.CINE: self.cine}[kind]

    @property
    def pooled_width(self) -> int:
        """Length of the pooled vector before any whitening."""
        return self.width * (2 if self.pooling is Pooling.BOTH else 1)


PRESETS = {
    # 64, 512 and 256 tokens: small enough for two CPU cores.
    "tiny": EncoderConfig(
        width=384,
        depth=6,
        heads=6,
        still=Extent(1, 128, 128),
        volume=Extent(32, 128, 128),
        cine=Extent(16, 128, 128),
    ),
    # 196, 1568 and 784 tokens.
    "small": EncoderConfig(
        width=384,
        depth=12,
        heads=6,
        still=Extent(1, 224, 224),
        volume=Extent(32, 224, 224),
        cine=Extent(16, 224, 224),
    ),
    "base": EncoderConfig(
        width=768,
        depth=12,
        heads=12,
        still=Extent(1, 224, 224),
        volume=Extent(32, 224, 224),
        cine=Extent(16, 224, 224),
    ),
}
