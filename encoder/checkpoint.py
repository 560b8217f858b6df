"""An encoder on disk: a folder with `checkpoint.json` and `model.safetensors`.

Owns: the format, its checks, and `model_id`. Does not own: the network (`model`), how weights come
about (`training`). Pickle is never read: unpickling runs code.
"""

import hashlib
import json
import os
import shutil
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path

import pydantic
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from encoder.config import EncoderConfig
from encoder.errors import BadCheckpoint
from encoder.model import weight_shapes
from encoder.normalise import RULES

FORMAT = 1
SHIPPED = Path(__file__).parent / "weights"
DESCRIPTION_FILE = "checkpoint.json"
TENSOR_FILE = "model.safetensors"
PICKLE_SUFFIXES = frozenset({".pt", ".pth", ".bin", ".ckpt", ".pkl"})

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
    _refuse_pickle(folder)
    description = _read_description(folder / DESCRIPTION_FILE)
    checkpoint = Checkpoint(description, _read_tensors(folder / TENSOR_FILE))
    _check_tensors(folder, checkpoint)
    return checkpoint


def save(folder: Path, checkpoint: Checkpoint) -> None:
    """Write a checkpoint beside `folder` and rename it there, replacing one that exists.

    Raises BadCheckpoint, before writing, where the tensors do not fit the description.
    """
    _check_tensors(folder, checkpoint)
    beside = folder.with_name(f"{folder.name}.writing")
    former = folder.with_name(f"{folder.name}.former")
    for leftover in (beside, former):
        shutil.rmtree(leftover, ignore_errors=True)
    beside.mkdir(parents=True)
    contiguous = {name: tensor.contiguous() for name, tensor in checkpoint.tensors.items()}
    save_file(contiguous, beside / TENSOR_FILE)
    text = json.dumps(asdict(checkpoint.description), indent=2, sort_keys=True)
    (beside / DESCRIPTION_FILE).write_text(text + "\n", encoding="utf-8")
    for path in beside.iterdir():
        with path.open("rb") as file:
            os.fsync(file.fileno())
    if folder.exists():
        folder.rename(former)
    beside.rename(folder)
    shutil.rmtree(former, ignore_errors=True)


def model_id(checkpoint: Checkpoint) -> str:
    """Hash configuration, rules of reading and tensors: the same id means the same vectors.

    The first 16 hex digits of SHA-256 over the canonical JSON of the config with `RULES`, then over
    name, shape, dtype and little-endian bytes of each tensor in the order of names.
    """
    config = {**asdict(checkpoint.description.config), "rules": RULES}
    digest = hashlib.sha256(json.dumps(config, sort_keys=True, separators=(",", ":")).encode())
    for name, tensor in sorted(checkpoint.tensors.items()):
        digest.update(f"{name}{tuple(tensor.shape)}{tensor.dtype}".encode())
        raw = tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy()
        digest.update(raw.tobytes())
    return digest.hexdigest()[:16]


def version(checkpoint: Checkpoint) -> str:
    """Return name, id and whether it has been trained, for reports and status."""
    description = checkpoint.description
    trained = "trained" if description.trained else "untrained"
    return f"{description.name} {model_id(checkpoint)} ({trained})"


def _refuse_pickle(folder: Path) -> None:
    found = [folder] if folder.is_file() else sorted(folder.glob("*"))
    pickles = [path.name for path in found if path.suffix in PICKLE_SUFFIXES]
    if pickles and not (folder / DESCRIPTION_FILE).exists():
        raise BadCheckpoint(
            folder,
            f"{pickles[0]} is a pickle, and unpickling can run any code",
            f"Save its tensors with safetensors.torch.save_file as {TENSOR_FILE}, "
            f"beside a {DESCRIPTION_FILE}.",
        )


def _read_description(path: Path) -> Description:
    try:
        text = path.read_bytes()
    except OSError as error:
        reason = f"{path.name} cannot be read ({error.strerror})"
        raise BadCheckpoint(path.parent, reason, "Name the folder that holds it.") from error
    try:
        description = pydantic.TypeAdapter(Description).validate_json(text)
    except pydantic.ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        place = ".".join(map(str, first["loc"])) or "the file"
        reason = f"{path.name}: {place}: {first['msg']}"
        advice = "Use a checkpoint written by this version of Similis."
        raise BadCheckpoint(path.parent, reason, advice) from error
    if description.format != FORMAT:
        reason = f"{path.name} has format {description.format}, this version reads {FORMAT}"
        raise BadCheckpoint(path.parent, reason, "Use the version of Similis that wrote it.")
    return description


def _read_tensors(path: Path) -> dict[str, torch.Tensor]:
    if not path.exists():
        raise BadCheckpoint(path.parent, f"{path.name} is missing", "Copy the whole folder again.")
    try:
        return load_file(path)
    except (SafetensorError, OSError) as error:
        reason = f"{path.name} is damaged or cut short ({error})"
        raise BadCheckpoint(path.parent, reason, "Copy the whole folder again.") from error


def _check_tensors(folder: Path, checkpoint: Checkpoint) -> None:
    """Refuse tensors that are missing, unknown, misshapen or not finite."""
    config = checkpoint.description.config
    expected = dict(weight_shapes(config))
    if CENTRE in checkpoint.tensors:
        expected[CENTRE] = torch.Size([config.pooled_width])
    if WHITEN in checkpoint.tensors:
        expected[WHITEN] = torch.Size([config.pooled_width, checkpoint.dim])
    found = {name: tensor.shape for name, tensor in checkpoint.tensors.items()}
    wrong = sorted(
        name for name in expected.keys() | found.keys() if expected.get(name) != found.get(name)
    )
    wrong = wrong or sorted(
        name for name, t in checkpoint.tensors.items() if not t.isfinite().all()
    )
    if wrong:
        names = ", ".join(wrong[:3])
        reason = f"{len(wrong)} tensors do not fit its config or are not finite: {names}"
        raise BadCheckpoint(folder, reason, "Use the tensors that were saved with this config.")
