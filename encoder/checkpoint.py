"""An encoder on disk: a folder with `checkpoint.json` and `model.safetensors`.

Owns: the format, its checks, and `model_id`. Does not own: the network (`model`), how weights come
about (`training`). Pickle is never read: unpickling runs code.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path

import pydantic
import torch

from encoder import tensor_folder
from encoder.config import EncoderConfig
from encoder.model import weight_shapes
from encoder.normalise import RULES

FORMAT = 1
SHIPPED = Path(__file__).parent / "weights"

# Optional tensors beside those of the network: subtracted from pooled vectors, then multiplied.
CENTRE = "centre"
WHITEN = "whiten"


@dataclass(frozen=True, slots=True)
class Description:
    """What `checkpoint.json` says; unknown keys are refused."""

    __pydantic_config__ = pydantic.ConfigDict(extra="forbid")

    format: int
    name: str
    trained: bool
    seed: int
    config: EncoderConfig
    metrics: dict[str, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A description and every tensor it goes with, by name (float, on the CPU)."""

    description: Description
    tensors: Mapping[str, torch.Tensor]

    @property
    def network(self) -> dict[str, torch.Tensor]:
        """The tensors that `model.build` takes."""
        return {name: t for name, t in self.tensors.items() if name not in (CENTRE, WHITEN)}

    @property
    def dim(self) -> int:
        """Length of the vectors this encoder makes."""
        whiten = self.tensors.get(WHITEN)
        return self.description.config.pooled_width if whiten is None else whiten.shape[1]


def load(folder: Path | None = None) -> Checkpoint:
    """Read a checkpoint folder, the shipped one when None.

    Raises BadCheckpoint where it is missing, damaged, of another format, or a pickle.
    """
    folder = SHIPPED if folder is None else folder
    tensor_folder.refuse_pickle(folder)
    description = tensor_folder.read_description(folder, Description, format=FORMAT)
    checkpoint = Checkpoint(description, tensor_folder.read_tensors(folder))
    _check_tensors(folder, checkpoint)
    return checkpoint


def save(folder: Path, checkpoint: Checkpoint) -> None:
    """Write a checkpoint beside `folder` and rename it there, replacing one that exists.

    Raises BadCheckpoint, before writing, where the tensors do not fit the description.
    """
    _check_tensors(folder, checkpoint)
    tensor_folder.replace(folder, asdict(checkpoint.description), checkpoint.tensors)


def model_id(checkpoint: Checkpoint) -> str:
    """Hash configuration, rules of reading and tensors: the same id means the same vectors."""
    config = {**asdict(checkpoint.description.config), "rules": RULES}
    return tensor_folder.digest(config, checkpoint.tensors)


def version(checkpoint: Checkpoint) -> str:
    """Return name, id and whether it has been trained, for reports and status."""
    description = checkpoint.description
    trained = "trained" if description.trained else "untrained"
    return f"{description.name} {model_id(checkpoint)} ({trained})"


def _check_tensors(folder: Path, checkpoint: Checkpoint) -> None:
    """Refuse tensors that are missing, unknown, misshapen or not finite."""
    config = checkpoint.description.config
    expected = dict(weight_shapes(config))
    if CENTRE in checkpoint.tensors:
        expected[CENTRE] = torch.Size([config.pooled_width])
    if WHITEN in checkpoint.tensors:
        expected[WHITEN] = torch.Size([config.pooled_width, checkpoint.dim])
    tensor_folder.check_tensors(folder, checkpoint.tensors, expected)
