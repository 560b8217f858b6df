"""A small manifest of pictures whose classes any encoder can tell apart."""

from pathlib import Path

import numpy as np
from PIL import Image

HEAD = "path,split,kind,modality,body_part,label,patient_id,source\n"
CLASSES = ("dark left", "dark right", "stripes")


def write_manifest(folder: Path, *, per_class: int = 6, source: str = "made") -> Path:
    """Write pictures of three classes, a third of them for eval, two of each patient."""
    random = np.random.default_rng(7)
    rows: list[str] = []
    folder.mkdir(parents=True, exist_ok=True)
    for name in CLASSES:
        for number in range(per_class):
            path = f"{name.replace(' ', '-')}-{number}.png"
            Image.fromarray(_picture(name, random)).save(folder / path)
            split = "eval" if number % 3 == 0 else "train"
            patient = f"{name}-{number // 2}"
            rows.append(f"{path},{split},still,OT,CHEST,{name},{patient},{source}\n")
    manifest = folder / "manifest.csv"
    manifest.write_text(HEAD + "".join(rows))
    return manifest


def _picture(
    name: str, random: np.random.Generator
) -> np.ndarray[tuple[int, int], np.dtype[np.uint8]]:
    pixels = random.integers(90, 160, (48, 48))
    if name == "stripes":
        pixels[::8] = 0
        pixels[4::8] = 255
    else:
        pixels[:, slice(0, 24) if name == "dark left" else slice(24, 48)] //= 8
    return pixels.astype(np.uint8)
