"""A text tower on disk: `checkpoint.json`, `model.safetensors` and `vocabulary.txt` in a folder.

Owns: the format, its checks, storing in half precision or 8 bits, and `text_model_id`. Does not
own: the network (`text`), the cutting of words (`wordpiece`), how weights come about (`training`).
"""

import hashlib
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from enum import StrEnum
from pathlib import Path

import pydantic
import torch
from torch import Tensor

from encoder import tensor_folder
from encoder.errors import BadCheckpoint
from encoder.tensor_folder import COPY_AGAIN
from encoder.text import TextConfig, weight_shapes
from encoder.wordpiece import Tokeniser

FORMAT = 1
VOCABULARY_FILE = "vocabulary.txt"
RULES = 1  # grows when the same text would be read into other numbers or pooled otherwise
_SCALE = ".scale"  # beside a matrix in 8 bits: what each row is multiplied with


class Storage(StrEnum):
    """How weights lie on disk: all in half precision, or matrices in 8 bits, a scale a row."""

    HALF = "half"
    INT8 = "int8"


@dataclass(frozen=True, slots=True)
class TextDescription:
    """What `checkpoint.json` says; unknown keys are refused. `origin` names the first weights."""

    __pydantic_config__ = pydantic.ConfigDict(extra="forbid")

    format: int
    name: str
    origin: str
    licence: str
    config: TextConfig
    metrics: dict[str, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class TextCheckpoint:
    """A description, the tensors as they lie on disk, and the pieces in the order of numbers."""

    description: TextDescription
    tensors: Mapping[str, Tensor]
    vocabulary: tuple[str, ...]

    @property
    def network(self) -> dict[str, Tensor]:
        """The tensors that `text.build` takes, in float32."""
        return {
            name: _restored(tensor, self.tensors.get(name + _SCALE))
            for name, tensor in self.tensors.items()
            if not name.endswith(_SCALE)
        }


def stored(network: Mapping[str, Tensor], storage: Storage) -> dict[str, Tensor]:
    """Return the tensors of a network as they go to disk.

    In 8 bits a row of a matrix is rounded to 127 steps of its largest value either way.
    """
    tensors: dict[str, Tensor] = {}
    for name, tensor in network.items():
        if storage is Storage.INT8 and tensor.ndim == 2:
            scale = (tensor.float().abs().amax(dim=1) / 127).clamp(min=1e-12)
            tensors[name] = (tensor.float() / scale[:, None]).round().to(torch.int8)
            tensors[name + _SCALE] = scale
        else:
            tensors[name] = tensor.half()
    return tensors


def load(folder: Path) -> TextCheckpoint:
    """Read the folder of a text tower.

    Raises BadCheckpoint where it is missing, damaged, of another format, or a pickle.
    """
    tensor_folder.refuse_pickle(folder)
    description = tensor_folder.read_description(folder, TextDescription, format=FORMAT)
    tensors = tensor_folder.read_tensors(folder)
    checkpoint = TextCheckpoint(description, tensors, read_vocabulary(folder))
    check(folder, checkpoint)
    return checkpoint


def save(folder: Path, checkpoint: TextCheckpoint) -> None:
    """Write a checkpoint beside `folder` and rename it there, replacing one that exists.

    Raises BadCheckpoint, before writing, where the parts do not fit one another.
    """
    check(folder, checkpoint)
    description = asdict(checkpoint.description)
    tensor_folder.replace(folder, description, checkpoint.tensors, vocabulary_file(checkpoint))


def text_model_id(checkpoint: TextCheckpoint) -> str:
    """Hash configuration, rules, vocabulary and tensors: the same id means the same vectors."""
    words = hashlib.sha256("\n".join(checkpoint.vocabulary).encode()).hexdigest()
    config = asdict(checkpoint.description.config)
    return tensor_folder.digest(
        {**config, "rules": RULES, "vocabulary_sha256": words}, checkpoint.tensors
    )


def _restored(tensor: Tensor, scale: Tensor | None) -> Tensor:
    return tensor.float() if scale is None else tensor.float() * scale[:, None]


def vocabulary_file(checkpoint: TextCheckpoint) -> dict[str, str]:
    """Return name and content of the file of pieces, a piece a line."""
    return {VOCABULARY_FILE: "".join(f"{piece}\n" for piece in checkpoint.vocabulary)}


def read_vocabulary(folder: Path) -> tuple[str, ...]:
    """Read the pieces of a folder; BadCheckpoint where they cannot be read."""
    path = folder / VOCABULARY_FILE
    try:
        return tuple(path.read_text(encoding="utf-8").removesuffix("\n").split("\n"))
    except OSError as error:
        reason = f"{path.name} cannot be read ({error.strerror})"
        raise BadCheckpoint(folder, reason, COPY_AGAIN) from error
    except UnicodeDecodeError as error:
        raise BadCheckpoint(folder, f"{path.name} is not UTF-8", COPY_AGAIN) from error


def check(folder: Path, checkpoint: TextCheckpoint) -> None:
    """Refuse, by BadCheckpoint, parts that do not fit one another."""
    config, vocabulary = checkpoint.description.config, checkpoint.vocabulary
    expected = weight_shapes(config)
    for name, shape in list(expected.items()):
        tensor = checkpoint.tensors.get(name)
        if tensor is not None and tensor.dtype is torch.int8:
            expected[name + _SCALE] = shape[:1]
    tensor_folder.check_tensors(folder, checkpoint.tensors, expected)
    reason = ""
    if len(vocabulary) != config.vocabulary:
        reason = f"{VOCABULARY_FILE} has {len(vocabulary)} pieces, not {config.vocabulary}"
    else:
        try:
            Tokeniser(vocabulary, tokens=config.tokens)
        except ValueError as error:
            reason = f"{VOCABULARY_FILE}: {error}"
    if reason:
        raise BadCheckpoint(folder, reason, COPY_AGAIN)
