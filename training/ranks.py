"""One process or several: the same run under `torchrun`.

Owns: `Ranks`, how a module is spread over processes (DDP or FSDP2), tensors put together again.
Does not own: the loop. The environment that `torchrun` sets decides; nothing else is configured.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import DTensor, distribute_tensor
from torch.nn.parallel import DistributedDataParallel

from encoder.model import Block
from training.config import Spread


@dataclass(frozen=True, slots=True)
class Ranks:
    """This process among `count`, counted from 0, and its device."""

    rank: int = 0
    count: int = 1
    device: str = "cpu"
    spread: Spread = Spread.DDP

    @property
    def writes(self) -> bool:
        """Only one process writes files."""
        return self.rank == 0


@contextmanager
def ranks_of_environment(device: str, spread: Spread) -> Iterator[Ranks]:
    """Join the other processes that `torchrun` started, if any, and leave them at the end."""
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    count = int(os.environ.get("WORLD_SIZE", "1"))
    if count == 1:
        yield Ranks(device=device)
        return
    if device == "cuda":
        device = f"cuda:{os.environ['LOCAL_RANK']}"
        torch.cuda.set_device(device)
    dist.init_process_group("nccl" if device.startswith("cuda") else "gloo")
    try:
        yield Ranks(dist.get_rank(), count, device, spread)
    finally:
        dist.destroy_process_group()


def spread_over(module: nn.Module, ranks: Ranks) -> nn.Module:
    """Return what to call in place of `module`, so that gradients are those of all processes."""
    if ranks.count == 1:
        return module
    if ranks.spread is Spread.DDP:
        return DistributedDataParallel(module)
    for part in list(module.modules()):
        if isinstance(part, Block):
            fully_shard(part)
    fully_shard(module)
    return module


def agreed(wish: bool, ranks: Ranks) -> bool:
    """Say whether any process wishes it, so that all do the same."""
    if ranks.count == 1:
        return wish
    votes = torch.tensor(int(wish), device=ranks.device)
    dist.all_reduce(votes)
    return bool(votes)


def averaged(values: dict[str, float], ranks: Ranks) -> dict[str, float]:
    """Average figures over the processes; all must have the same keys."""
    if ranks.count == 1:
        return values
    total = torch.tensor(list(values.values()), device=ranks.device)
    dist.all_reduce(total)
    return dict(zip(values, (total / ranks.count).tolist(), strict=True))


def whole(tensor: Tensor) -> Tensor:
    """Put a sharded tensor together, on the CPU; every process must ask at the same time."""
    full = tensor.full_tensor() if isinstance(tensor, DTensor) else tensor
    return full.detach().cpu()


def like(tensor: Tensor, other: Tensor) -> Tensor:
    """Place a whole tensor as `other` is: on its device, sharded as it is."""
    if isinstance(other, DTensor):
        return distribute_tensor(tensor.to(other.device), other.device_mesh, other.placements)
    return tensor.to(other.device)
