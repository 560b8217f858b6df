"""A small folder of stills, loops and volumes with a manifest, and an encoder to fit it."""

import csv
from dataclasses import replace
from pathlib import Path

import numpy as np
from PIL import Image

from encoder.config import EncoderConfig, Extent
from training import phantoms
from training.config import Method, TrainConfig, default
from training.manifest import OPTIONAL, REQUIRED

STILLS = 12  # of each of two modalities

SMALL = EncoderConfig(
    width=24,
    depth=2,
    heads=2,
    patch=(2, 8, 8),
    still=Extent(1, 32, 32),
    volume=Extent(8, 32, 32),
    cine=Extent(8, 32, 32),
)


def small_config(method: Method, *, steps: int = 20, **changes: object) -> TrainConfig:
    """Settings that train in a second."""
    config = default(method, steps=steps)
    config = replace(config, encoder=SMALL, batch=8, local_crops=2, decoder_width=12)
    config = replace(config, cine_share=0.25, volume_share=0.25, head_hidden=32, head_width=16)
    return replace(config, decoder_depth=1, **changes)


def write_images(folder: Path) -> Path:
    """Write grey and colour stills, two loops and two CT volumes; return the manifest."""
    rng = np.random.default_rng(0)
    rows: list[dict[str, str]] = []

    def add(path: str, kind: str, modality: str, number: int) -> None:
        common = {"split": "eval" if number % 3 == 2 else "train", "label": f"class {number % 2}"}
        known = {"body_part": "CHEST", "patient_id": f"{modality}{number}", "source": modality}
        rows.append({"path": path, "kind": kind, "modality": modality, **common, **known})

    for number in range(STILLS):
        shade = (rng.random((40, 48, 3)) * 60 + 120 * (number % 2)).astype(np.uint8)
        Image.fromarray(shade[..., 0]).save(folder / f"cr{number}.png")
        add(f"cr{number}.png", "still", "CR", number)
        Image.fromarray(shade).save(folder / f"es{number}.jpg")
        add(f"es{number}.jpg", "still", "ES", number)
    new_uid = phantoms.uid_source(1)
    for number in range(2):
        loop = folder / f"us{number}"
        loop.mkdir()
        phantoms.cine(loop, new_uid=new_uid, frames=12, size=(48, 64), seed=number)
        add(f"us{number}", "cine", "US", number)
        stack = folder / f"ct{number}"
        stack.mkdir()
        phantoms.ct_series(stack, new_uid=new_uid, slices=12, size=48, seed=number)
        add(f"ct{number}", "volume", "CT", number)
    with (folder / "manifest.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, (*REQUIRED, *OPTIONAL), restval="")
        writer.writeheader()
        writer.writerows(rows)
    return folder / "manifest.csv"
