"""What every checkpoint folder has in common: JSON that is checked, tensors without pickle.

Owns: reading and replacing such a folder, its hash, and what is refused in it. Does not own: what
a description says or which tensors belong to it (`checkpoint`, `text_checkpoint`).
"""

import hashlib
import json
import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Protocol, TypeVar

import pydantic
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from encoder.errors import BadCheckpoint

DESCRIPTION_FILE = "checkpoint.json"
TENSOR_FILE = "model.safetensors"
PICKLE_SUFFIXES = frozenset({".pt", ".pth", ".bin", ".ckpt", ".pkl"})
COPY_AGAIN = "Copy the whole folder again."


class Described(Protocol):
    """A description says which format it has."""

    @property
    def format(self) -> int:
        """Number of the format."""


_D = TypeVar("_D", bound=Described)


def refuse_pickle(folder: Path) -> None:
    """Raise BadCheckpoint where there are pickles and no description."""
    found = [folder] if folder.is_file() else sorted(folder.glob("*"))
    pickles = [path.name for path in found if path.suffix in PICKLE_SUFFIXES]
    if pickles and not (folder / DESCRIPTION_FILE).exists():
        raise BadCheckpoint(
            folder,
            f"{pickles[0]} is a pickle, and unpickling can run any code",
            f"Save its tensors with safetensors.torch.save_file as {TENSOR_FILE}, "
            f"beside a {DESCRIPTION_FILE}.",
        )


def read_description(folder: Path, kind: type[_D], *, format: int) -> _D:
    """Read and check `checkpoint.json`; BadCheckpoint where it is none of this kind and format."""
    path = folder / DESCRIPTION_FILE
    try:
        text = path.read_bytes()
    except OSError as error:
        reason = f"{path.name} cannot be read ({error.strerror})"
        raise BadCheckpoint(folder, reason, "Name the folder that holds it.") from error
    try:
        description = pydantic.TypeAdapter(kind).validate_json(text)
    except pydantic.ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        place = ".".join(map(str, first["loc"])) or "the file"
        reason = f"{path.name}: {place}: {first['msg']}"
        advice = "Use a checkpoint written by this version of Similis."
        raise BadCheckpoint(folder, reason, advice) from error
    if description.format != format:
        reason = f"{path.name} has format {description.format}, this version reads {format}"
        raise BadCheckpoint(folder, reason, "Use the version of Similis that wrote it.")
    return description


def read_tensors(folder: Path) -> dict[str, Tensor]:
    """Read `model.safetensors`; BadCheckpoint where it is missing or damaged."""
    path = folder / TENSOR_FILE
    if not path.exists():
        raise BadCheckpoint(folder, f"{path.name} is missing", COPY_AGAIN)
    try:
        return load_file(path)
    except (SafetensorError, OSError) as error:
        reason = f"{path.name} is damaged or cut short ({error})"
        raise BadCheckpoint(folder, reason, COPY_AGAIN) from error


def check_tensors(
    folder: Path, tensors: Mapping[str, Tensor], expected: Mapping[str, torch.Size]
) -> None:
    """Refuse tensors that are missing, unknown, misshapen or not finite."""
    found = {name: tensor.shape for name, tensor in tensors.items()}
    wrong = sorted(
        name for name in expected.keys() | found.keys() if expected.get(name) != found.get(name)
    )
    wrong = wrong or sorted(name for name, tensor in tensors.items() if not tensor.isfinite().all())
    if wrong:
        names = ", ".join(wrong[:3])
        reason = f"{len(wrong)} tensors do not fit its config or are not finite: {names}"
        raise BadCheckpoint(folder, reason, "Use the tensors that were saved with this config.")


def replace(
    folder: Path,
    description: Mapping[str, object],
    tensors: Mapping[str, Tensor],
    others: Mapping[str, str] | None = None,
) -> None:
    """Write a folder beside `folder` and rename it there, replacing one that exists.

    `others` are further files in UTF-8, by name.
    """
    beside = folder.with_name(f"{folder.name}.writing")
    former = folder.with_name(f"{folder.name}.former")
    for leftover in (beside, former):
        shutil.rmtree(leftover, ignore_errors=True)
    beside.mkdir(parents=True)
    save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, beside / TENSOR_FILE)
    text = json.dumps(description, indent=2, sort_keys=True) + "\n"
    for name, content in {DESCRIPTION_FILE: text, **(others or {})}.items():
        (beside / name).write_text(content, encoding="utf-8")
    for path in beside.iterdir():
        with path.open("rb") as file:
            os.fsync(file.fileno())
    if folder.exists():
        folder.rename(former)
    beside.rename(folder)
    shutil.rmtree(former, ignore_errors=True)


def digest(config: Mapping[str, object], tensors: Mapping[str, Tensor]) -> str:
    """Hash a config and tensors: the first 16 hex digits of SHA-256.

    Taken over the canonical JSON of the config, then over name, shape, dtype and little-endian
    bytes of each tensor in the order of names.
    """
    canonical = json.dumps(config, sort_keys=True, separators=(",", ":"))
    hashed = hashlib.sha256(canonical.encode())
    for name, tensor in sorted(tensors.items()):
        hashed.update(f"{name}{tuple(tensor.shape)}{tensor.dtype}".encode())
        raw = tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy()
        hashed.update(raw.tobytes())
    return hashed.hexdigest()[:16]
