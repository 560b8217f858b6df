"""Vision Transformers from a local folder in the form of Hugging Face, as a baseline.

Owns: which of them are taken and which output is the vector. Does not own: the networks, which
come with the optional package `transformers`. Nothing is fetched, no code of the folder is run.
"""

import hashlib
import json
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from torch import Tensor

from training.baselines import SIDE_PX, FrameEncoder
from training.errors import BaselineMissing

PACKAGE = "transformers"
WEIGHTS_FILE = "model.safetensors"
CONFIG_FILE = "config.json"
# Their first output token is CLS. A ViT knows the places of one picture size only.
MODEL_TYPES = frozenset({"vit", "dinov2", "dinov2_with_registers"})


def vit(folder: Path, *, device: str = "cpu") -> FrameEncoder:
    """Return the CLS output of a ViT or DINOv2 from config.json and model.safetensors.

    Raises BaselineMissing where the folder is none such or `transformers` is not installed.
    """
    config = _config(folder)
    network = _network(folder).to(device)
    digest = hashlib.sha256((folder / WEIGHTS_FILE).read_bytes()).hexdigest()[:16]
    trained_px = int(config.get("image_size", SIDE_PX))

    def cls(images: Tensor) -> Tensor:
        output: Tensor = network(images).last_hidden_state[:, 0]
        return output

    return FrameEncoder(
        folder.name,
        f"{config['model_type']}-{digest}",
        cls,
        side_px=trained_px if config["model_type"] == "vit" else min(trained_px, SIDE_PX),
        device=device,
    )


def _config(folder: Path) -> dict[str, Any]:
    try:
        config = json.loads((folder / CONFIG_FILE).read_text(encoding="utf-8"))
        with (folder / WEIGHTS_FILE).open("rb"):
            pass
    except (OSError, ValueError) as error:
        raise BaselineMissing(
            f"hf:{folder}", f"{CONFIG_FILE} and {WEIGHTS_FILE}", str(error)
        ) from error
    kind = config.get("model_type") if isinstance(config, dict) else None
    if kind not in MODEL_TYPES:
        known = ", ".join(sorted(MODEL_TYPES))
        raise BaselineMissing(f"hf:{folder}", f"a model_type of {known}", f"it says {kind!r}")
    known_config: dict[str, Any] = config
    return known_config


def _network(folder: Path) -> torch.nn.Module:
    try:
        from transformers import AutoModel
    except ImportError as error:
        raise BaselineMissing(f"hf:{folder}", PACKAGE, "it is not installed") from error
    try:
        network: torch.nn.Module = AutoModel.from_pretrained(
            folder, local_files_only=True, trust_remote_code=False, use_safetensors=True
        )
    except (OSError, ValueError, RuntimeError, SafetensorError) as error:
        raise BaselineMissing(f"hf:{folder}", "weights that fit its config", str(error)) from error
    return network.eval()
