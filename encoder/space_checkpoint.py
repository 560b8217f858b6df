"""A text space on disk: `checkpoint.json`, `model.safetensors` and `vocabulary.txt` in a folder.

Owns: the format, its checks, and `space_id`. Does not own: what is computed with it (`text_space`),
the tensors of the text tower (`text_checkpoint`), how weights come about (`training`).

    text.*              the text tower, as `text_checkpoint` stores it
    projection.*        from the tower's width to the space: weight (D, width), bias (D,)
    heads.*             from vectors of the image encoder: weight (M + 1, D, C), bias (M + 1, D);
                        a row for each modality in order, the last for all others
    gaps                (M + 1, D), taken off what a head gives
    knots               (2, K), cosines of text and image, and those of two images they are like
"""

import hashlib
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path

import pydantic
import torch
from torch import Tensor

from encoder import checkpoint as encoders
from encoder import tensor_folder, text_checkpoint
from encoder.abbreviations import table
from encoder.errors import BadCheckpoint
from encoder.text_checkpoint import TextCheckpoint, TextDescription, text_model_id

FORMAT = 2  # 1 had a floor only
SHIPPED = encoders.SHIPPED / "text"
RULES = 1  # grows when the same tensors would give other vectors
_TEXT = "text."


@dataclass(frozen=True, slots=True)
class SpaceDescription:
    """What `checkpoint.json` says; unknown keys are refused.

    `image_model_id` and `image_dim` are of the encoder whose vectors the heads take. `words` are by
    modality what its captions taught (`encoder.lexicon`). A best cosine below `near` says that no
    image is what a sentence of such words says; below `floor` the same of one without any.
    `temperature` turns cosines with labels into shares.
    """

    __pydantic_config__ = pydantic.ConfigDict(extra="forbid")

    format: int
    name: str
    text: TextDescription
    image_model_id: str
    image_dim: int
    dim: int
    modalities: tuple[str, ...]
    floor: float
    near: float
    temperature: float
    words: dict[str, tuple[str, ...]]
    seed: int
    metrics: dict[str, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class SpaceCheckpoint:
    """A description, the text tower, and the tensors beside it by name."""

    description: SpaceDescription
    text: TextCheckpoint
    tensors: Mapping[str, Tensor]


def load(folder: Path | None = None, *, image_model_id: str | None = None) -> SpaceCheckpoint:
    """Read the folder of a text space, the shipped one when None.

    Raises BadCheckpoint where it is missing, damaged, of another format, a pickle, or, where
    `image_model_id` is given, made for another image encoder.
    """
    if folder is None and not SHIPPED.exists():
        reason = "no text space ships with this version"
        raise BadCheckpoint(SHIPPED, reason, "Name the folder that `similis train bind` wrote.")
    folder = SHIPPED if folder is None else folder
    tensor_folder.refuse_pickle(folder)
    description = tensor_folder.read_description(folder, SpaceDescription, format=FORMAT)
    if image_model_id not in (None, description.image_model_id):
        reason = f"its heads take vectors of {description.image_model_id}, not {image_model_id}"
        raise BadCheckpoint(folder, reason, "Bind a space to this encoder: `similis train bind`.")
    every = tensor_folder.read_tensors(folder)
    tower = {name.removeprefix(_TEXT): t for name, t in every.items() if name.startswith(_TEXT)}
    others = {name: tensor for name, tensor in every.items() if not name.startswith(_TEXT)}
    words = text_checkpoint.read_vocabulary(folder)
    checkpoint = SpaceCheckpoint(
        description, TextCheckpoint(description.text, tower, words), others
    )
    _check(folder, checkpoint)
    return checkpoint


def save(folder: Path, checkpoint: SpaceCheckpoint) -> None:
    """Write a text space beside `folder` and rename it there, replacing one that exists.

    Raises BadCheckpoint, before writing, where the parts do not fit one another.
    """
    _check(folder, checkpoint)
    tower = {f"{_TEXT}{name}": tensor for name, tensor in checkpoint.text.tensors.items()}
    tensor_folder.replace(
        folder,
        asdict(checkpoint.description),
        {**tower, **checkpoint.tensors},
        text_checkpoint.vocabulary_file(checkpoint.text),
    )


def space_id(checkpoint: SpaceCheckpoint) -> str:
    """Hash all that decides a vector or a score: the same id means the same of both."""
    description = checkpoint.description
    words = "\n".join(" ".join((*key, "=", *meaning)) for key, meaning in sorted(table().items()))
    decides = {
        "rules": RULES,
        "text_model_id": text_model_id(checkpoint.text),
        "abbreviations_sha256": hashlib.sha256(words.encode()).hexdigest(),
        "image_model_id": description.image_model_id,
        "modalities": description.modalities,
        "floor": description.floor,
        "near": description.near,
        "temperature": description.temperature,
        "words": description.words,
    }
    return tensor_folder.digest(decides, checkpoint.tensors)


def _check(folder: Path, checkpoint: SpaceCheckpoint) -> None:
    """Refuse parts that do not fit one another."""
    description, modalities = checkpoint.description, checkpoint.description.modalities
    text_checkpoint.check(folder, checkpoint.text)
    tensor_folder.check_tensors(folder, checkpoint.tensors, _shapes(checkpoint))
    reason = ""
    if "" in modalities or len(set(modalities)) < len(modalities):
        reason = "a modality has no name, or is there twice"
    elif not _rises(checkpoint.tensors["knots"]):
        reason = "the knots do not rise from -1 to 1"
    elif not -1 <= description.near <= description.floor <= 1:
        reason = f"near {description.near} and the floor {description.floor} are no such cosines"
    elif not 0 < description.temperature < float("inf"):
        reason = f"the temperature {description.temperature} is not above 0"
    elif unbound := set(description.words) - set(modalities):
        reason = f"it has words of {', '.join(sorted(unbound))}, which it has no head of"
    if reason:
        raise BadCheckpoint(folder, reason, "Use a folder that `similis train bind` wrote.")


def _shapes(checkpoint: SpaceCheckpoint) -> dict[str, torch.Size]:
    """Name every tensor beside the text tower with its shape."""
    description, knots = checkpoint.description, checkpoint.tensors.get("knots")
    rows, dim = len(description.modalities) + 1, description.dim
    columns = knots.shape[1] if knots is not None and knots.ndim == 2 else 2
    return {
        "projection.weight": torch.Size([dim, description.text.config.width]),
        "projection.bias": torch.Size([dim]),
        "heads.weight": torch.Size([rows, dim, description.image_dim]),
        "heads.bias": torch.Size([rows, dim]),
        "gaps": torch.Size([rows, dim]),
        "knots": torch.Size([2, columns]),
    }


def _rises(knots: Tensor) -> bool:
    """Say whether both rows go from -1 to 1, the first never level, the second never down."""
    if knots.shape[1] < 2:
        return False
    ends = knots[:, [0, -1]].tolist() == [[-1.0, 1.0], [-1.0, 1.0]]
    steps = knots.diff(dim=1)
    return ends and bool((steps[0] > 0).all() and (steps[1] >= 0).all())
