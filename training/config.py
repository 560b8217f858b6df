"""What a training run is, as values that its folder keeps.

Owns: `TrainConfig` and the defaults of each method. Does not own: the encoder's shape
(`encoder.config`), where data and runs lie (the command line).
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from enum import StrEnum
from typing import TYPE_CHECKING, TypeVar

import pydantic

from encoder.clip import Kind
from encoder.config import PRESETS, EncoderConfig, Extent

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

_C = TypeVar("_C", bound="DataclassInstance")


class Method(StrEnum):
    """How the encoder learns; `JOINT` is SimDINO whose student also restores what it is not shown.

    MAE: arXiv:2111.06377 and, over space and time, arXiv:2205.09113. SimDINO: arXiv:2502.10385.
    `DISTILL` is no self-supervision: a network that learned from the labels of ImageNet teaches.
    """

    MAE = "mae"
    SIMDINO = "simdino"
    JOINT = "joint"
    DISTILL = "distill"


# Whole views of a sample; where there are two, they and the local ones are compared.
GLOBAL_VIEWS = {Method.MAE: 1, Method.DISTILL: 1, Method.SIMDINO: 2, Method.JOINT: 2}


class Spread(StrEnum):
    """What every process holds: the whole model, or a shard of each parameter."""

    DDP = "ddp"
    FSDP = "fsdp"


@dataclass(frozen=True, slots=True)
class TrainConfig:
    """Everything that decides the outcome of a run, save the data.

    Rates are per step. `*_scale` are the parts of a frame's area that a crop may cover.
    Raises ValueError for numbers that make no run.
    """

    method: Method
    encoder: EncoderConfig
    steps: int
    batch: int = 96
    accumulate: int = 1  # micro-batches of `batch` in one step
    cine_share: float = 0.125  # of a batch; what has no cines gives stills instead
    volume_share: float = 0.125
    seed: int = 0
    bf16: bool = True  # matrix products by autocast; parameters and losses stay float32
    # AdamW
    lr: float = 5e-4
    final_lr: float = 1e-6
    warmup: float = 0.05  # of all steps
    weight_decay: float = 0.04
    final_weight_decay: float = 0.4  # as SimDINO
    layer_decay: float = 1.0  # below 1 where trained layers are carried over
    betas: tuple[float, float] = (0.9, 0.95)
    clip_norm: float = 3.0
    # crops
    global_scale: tuple[float, float] = (0.35, 1.0)
    local_scale: tuple[float, float] = (0.1, 0.4)
    local_crops: int = 4
    # MAE: what is hidden of a still, and of what has a third axis (arXiv:2205.09113)
    hidden_still: float = 0.75
    hidden_clip: float = 0.9
    decoder_width: int = 192
    decoder_depth: int = 2
    mae_weight: float = 1.0  # beside SimDINO, in `JOINT`
    hidden_joint: float = 0.5
    # SimDINO
    head_hidden: int = 1024
    head_width: int = 128
    eps: float = 0.05
    alignment: float = 6.0  # the published balance for one process, see `simdino`
    momentum: float = 0.99
    final_momentum: float = 1.0
    # distillation
    teacher_side_px: int = 160

    def __post_init__(self) -> None:
        positive = (self.steps, self.batch, self.accumulate, self.decoder_width, self.head_width)
        if min(positive) < 1 or self.local_crops < 0:
            raise ValueError("steps, batch, accumulate and widths must be positive")
        shares = (self.cine_share, self.volume_share)
        if min(shares) < 0 or sum(shares) > 1:
            raise ValueError("the shares of cines and volumes must be positive and at most 1")
        hidden = (self.hidden_still, self.hidden_clip, self.hidden_joint)
        if not all(0 < part < 1 for part in hidden):
            raise ValueError("what is hidden must be a part between 0 and 1")
        if self.decoder_width % 6:
            raise ValueError(f"decoder width {self.decoder_width} must be a multiple of 6")

    @property
    def locals(self) -> int:
        """Local views of a sample."""
        return self.local_crops if GLOBAL_VIEWS[self.method] > 1 else 0

    def view(self, kind: Kind, *, local: bool) -> Extent:
        """Size of a crop; a local one is half as long along each axis.

        What moves or has depth has half the frames at three quarters of the size: whole clips would
        cost eight times a still. Places are stretched, so the encoder meets the full grid.
        """
        extent, (t, h, w) = self.encoder.extent(kind), self.encoder.patch
        if kind is Kind.STILL:
            full = extent
        else:
            height, width = (
                size * 3 // 4 // p * p for size, p in ((extent.height, h), (extent.width, w))
            )
            full = Extent(max(t, extent.frames // 2 // t * t), height, width)
        if not local:
            return full
        frames = 1 if kind is Kind.STILL else max(t, full.frames // 2 // t * t)
        return Extent(
            frames, *(max(p, size // 2 // p * p) for size, p in ((full.height, h), (full.width, w)))
        )


def default(
    method: Method,
    *,
    preset: str = "tiny",
    width: int | None = None,
    steps: int = 20_000,
    seed: int = 0,
) -> TrainConfig:
    """Return the settings of a method that trained well; of another width with 64 values a head."""
    encoder = PRESETS[preset]
    if width is not None:
        encoder = replace(encoder, width=width, heads=max(1, width // 64))
    config = TrainConfig(method=method, encoder=encoder, steps=steps, seed=seed)
    if method is Method.MAE:
        return replace(
            config,
            lr=1e-3,
            weight_decay=0.05,
            final_weight_decay=0.05,
            global_scale=(0.5, 1.0),
            clip_norm=1.0,
        )
    return config


def changed(config: _C, settings: Sequence[str]) -> _C:
    """Set fields by `name=value`, values in JSON; ValueError naming the one that is wrong."""
    settable = [each.name for each in fields(config) if each.name not in _OPTIONS]
    values = {}
    for setting in settings:
        name, _, text = setting.partition("=")
        if name not in settable:
            raise ValueError(f"{name!r} is none of {', '.join(settable)}")
        try:
            values[name] = json.loads(text)
        except json.JSONDecodeError as error:
            raise ValueError(f"{setting!r}: the value is no number, list, true or false") from error
    try:
        adapter = pydantic.TypeAdapter(type(config))
        return adapter.validate_python({**vars_of(config), **values})
    except pydantic.ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        raise ValueError(f"{'.'.join(map(str, first['loc']))}: {first['msg']}") from error


def vars_of(config: "DataclassInstance") -> dict[str, object]:
    """Return the fields by name, nested ones as they are."""
    return {each.name: getattr(config, each.name) for each in fields(config)}


_OPTIONS = frozenset({"method", "encoder", "steps", "seed"})  # given in another way
