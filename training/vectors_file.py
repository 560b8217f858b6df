"""Vectors in a file that anyone can open: `numpy.load`, without pickle.

Owns: the format. Does not own: how vectors come about (`evaluate`).
"""

import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from training.errors import BadVectorsFile

FORMAT = 1


@dataclass(frozen=True, slots=True)
class VectorsFile:
    """What the file holds: `ids` (N,), `vectors` (N, D) in the same order, and who made them."""

    ids: tuple[str, ...]
    vectors: NDArray[np.float32]
    model_id: str


def save(path: Path, ids: Sequence[str], vectors: NDArray[np.float32], model_id: str) -> None:
    """Write ids, vectors and model_id as arrays of fixed width, beside and renamed."""
    beside = path.with_name(f"{path.name}.writing")
    with beside.open("wb") as file:
        np.savez(
            file,
            format=np.int64(FORMAT),
            ids=np.array(ids, dtype=np.str_),
            vectors=vectors.astype(np.float32),
            model_id=np.str_(model_id),
        )
    beside.replace(path)


def load(path: Path) -> VectorsFile:
    """Read what `save` wrote; raises BadVectorsFile for anything else."""
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as arrays:
            version, ids = int(arrays["format"]), arrays["ids"]
            vectors, model_id = arrays["vectors"], str(arrays["model_id"])
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile, TypeError) as error:
        raise BadVectorsFile(path, str(error)) from error
    if version != FORMAT or vectors.ndim != 2 or ids.shape != vectors.shape[:1]:
        raise BadVectorsFile(path, f"format {version}, ids {ids.shape}, vectors {vectors.shape}")
    return VectorsFile(tuple(map(str, ids)), vectors.astype(np.float32), model_id)
