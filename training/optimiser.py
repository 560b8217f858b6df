"""AdamW with its groups and schedules.

Owns: which parameters decay and learn how fast, warm-up and cosines. Does not own: the steps
(`loop`).
"""

import math

import torch
from torch import nn

from encoder.model import Encoder
from training.config import TrainConfig
from training.objectives import Objective


def cosine(start: float, end: float, done: float) -> float:
    """Go from `start` to `end` along half a cosine; `done` is 0..1."""
    return end + (start - end) * (1 + math.cos(math.pi * min(max(done, 0.0), 1.0))) / 2


def learning_rate(config: TrainConfig, step: int) -> float:
    """Rate of a step: up in a line over the warm-up, then down a cosine."""
    warmup = config.warmup * config.steps
    if step + 1 < warmup:
        return config.lr * (step + 1) / warmup
    return cosine(config.lr, config.final_lr, (step - warmup) / max(config.steps - warmup, 1))


def momentum(config: TrainConfig, step: int) -> float:
    """How much of the teacher stays at a step."""
    return cosine(config.momentum, config.final_momentum, step / config.steps)


def build_optimiser(objective: Objective, config: TrainConfig) -> torch.optim.AdamW:
    """Group parameters by depth and by whether they decay: matrices do, gains and biases do not.

    Each group carries `rate`, its part of the learning rate: `layer_decay` to the power of the
    layers above it in the encoder, 1 for heads and decoders (as BEiT and MAE fine-tune).
    """
    groups: dict[tuple[float, bool], list[nn.Parameter]] = {}
    for name, parameter in objective.named_parameters():
        if not parameter.requires_grad:
            continue
        rate = config.layer_decay ** _layers_above(objective.student, name)
        decays = parameter.ndim > 1 and not name.endswith("prefix")
        groups.setdefault((rate, decays), []).append(parameter)
    return torch.optim.AdamW(
        [
            {"params": parameters, "rate": rate, "decays": decays}
            for (rate, decays), parameters in sorted(groups.items(), key=lambda item: item[0])
        ],
        lr=config.lr,
        betas=config.betas,
        weight_decay=0.0,
        fused=True,
    )


def set_rates(optimiser: torch.optim.Optimizer, config: TrainConfig, step: int) -> float:
    """Set rate and decay of every group for a step; return the rate of the fastest."""
    lr = learning_rate(config, step)
    decay = cosine(config.weight_decay, config.final_weight_decay, step / config.steps)
    for group in optimiser.param_groups:
        group["lr"] = lr * group["rate"]
        group["weight_decay"] = decay if group["decays"] else 0.0
    return lr


def _layers_above(encoder: Encoder, name: str) -> int:
    depth = len(encoder.blocks)
    if not name.startswith("student."):
        return 0
    part = name.removeprefix("student.").split(".")
    if part[0] == "blocks":
        return depth - int(part[1])
    return 0 if part[0] == "norm" else depth + 1
