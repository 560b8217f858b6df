"""What is cut out of a cached image: stills, slabs and loops, many of them from few volumes.

Owns: which picture, slab or loop of an entry a sample is (`source`), and its crops (`crop`).
Does not own: what is done to their brightness (`augment`), how entries are drawn (`batches`).
No modality is asked: what a source can give follows from its kind alone.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from encoder.clip import Kind
from encoder.config import Extent

Pixels = NDArray[np.uint8]
Rng = np.random.Generator

THIN_SLAB = 5  # slices of a maximum intensity projection
# Ways to look at a volume as a still: a slice, a thin MIP, two other planes, a radiograph.
STILL_WAYS = ("slice", "thin", "coronal", "sagittal", "radiograph")
STILL_ODDS = (0.5, 0.1, 0.15, 0.15, 0.1)
ATTENUATION = 3.0  # of the thickest path of a simulated radiograph, in natural logarithms
MAX_STRIDE = 4  # frames skipped between two of a loop


@dataclass(frozen=True, slots=True)
class Source:
    """The frames (T, H, W, C) that all crops of one sample are cut from."""

    pixels: Pixels
    kind: Kind


def source(pixels: Pixels, kind: Kind, wanted: Kind, depth_px: float, rng: Rng) -> Source:
    """Choose what a sample shows: the entry itself, or one picture of a volume or a cine."""
    if wanted is kind:
        return Source(pixels, kind)
    if kind is Kind.CINE:
        row = int(rng.integers(len(pixels)))
        return Source(pixels[row : row + 1], wanted)
    way = str(rng.choice(STILL_WAYS, p=STILL_ODDS))
    return Source(_still_of_volume(pixels, way, depth_px, rng), wanted)


def _still_of_volume(pixels: Pixels, way: str, depth_px: float, rng: Rng) -> Pixels:
    t, h, w, _ = pixels.shape
    if way in ("slice", "thin"):
        thick = 1 if way == "slice" else min(THIN_SLAB, t)
        first = int(rng.integers(t - thick + 1))
        slab: Pixels = pixels[first : first + thick].max(axis=0, keepdims=True)
        return slab
    if way == "radiograph":
        projected = _radiograph(pixels, axis=int(rng.integers(1, 3)))
    elif way == "coronal":
        projected = pixels[:, int(rng.integers(h // 4, h - h // 4))]
    else:
        projected = pixels[:, :, int(rng.integers(w // 4, w - w // 4))]
    upright = projected[::-1]  # T runs towards the head
    return _stretched(upright, depth_px)[None]


def _radiograph(pixels: Pixels, axis: int) -> Pixels:
    """Simulate a radiograph: attenuation summed along rays, air let through (Beer and Lambert).

    The mean of the windows of a CT stands for its density; the result is grey.
    """
    path = pixels.sum(axis=axis, dtype=np.uint32).mean(axis=-1, keepdims=True, dtype=np.float32)
    path *= ATTENUATION / max(float(path.max()), 1.0)
    brightness = (1 - np.exp(-path)) / (1 - np.exp(-ATTENUATION))
    projected: Pixels = (brightness * 255 + 0.5).astype(np.uint8)
    return projected


def _stretched(plane: Pixels, factor: float) -> Pixels:
    """Repeat rows of (H, W, C) until they are as far apart as its columns."""
    rows = max(1, round(len(plane) * factor))
    stretched: Pixels = plane[((np.arange(rows) + 0.5) / rows * len(plane)).astype(int)]
    return stretched


@dataclass(frozen=True, slots=True)
class Cut:
    """How to cut: the size wanted, which part of the area, and along T which part of it."""

    extent: Extent
    scale: tuple[float, float]


def crop(source: Source, cut: Cut, rng: Rng) -> Pixels:
    """Cut one view (T, H, W, C) of `cut.extent` out of a source: in time or depth, then in space.

    Space and depth are drawn separately (as 3DINO); the aspect may change by a third.
    """
    frames = _frames(source, cut, rng)
    h, w = frames.shape[1:3]
    area = rng.uniform(*cut.scale) * h * w
    ratio = float(np.exp(rng.uniform(np.log(3 / 4), np.log(4 / 3))))
    height, width = min(h, np.sqrt(area / ratio)), min(w, np.sqrt(area * ratio))
    top, left = rng.uniform(0, h - height), rng.uniform(0, w - width)
    box = (left, top, min(left + width, w), min(top + height, h))
    size = (cut.extent.width, cut.extent.height)
    return np.stack([_resized(frame, size, box) for frame in frames])


def _resized(
    frame: Pixels, size: tuple[int, int], box: tuple[float, float, float, float]
) -> Pixels:
    picture = Image.fromarray(frame[..., 0] if frame.shape[-1] == 1 else frame)
    small = np.asarray(picture.resize(size, Image.Resampling.BILINEAR, box=box))
    return small.reshape(size[1], size[0], -1)


def _frames(source: Source, cut: Cut, rng: Rng) -> Pixels:
    """Take the frames of a crop: strided in time, averaged in depth as `normalise` does."""
    count, pixels = cut.extent.frames, source.pixels
    if source.kind is Kind.STILL:
        return pixels
    available = len(pixels)
    if source.kind is Kind.CINE:
        stride = int(rng.integers(1, MAX_STRIDE + 1))
        span = min(available, (count - 1) * stride + 1)
        first = int(rng.integers(available - span + 1))
        loop: Pixels = pixels[np.linspace(first, first + span - 1, count).round().astype(int)]
        return loop
    part = float(np.sqrt(rng.uniform(*cut.scale)))
    span = max(min(available, count), round(part * available))
    first = int(rng.integers(available - span + 1))
    edges = np.linspace(first, first + span, count + 1)
    starts = np.minimum(edges[:-1].astype(int), available - 1)
    stops = np.maximum(np.ceil(edges[1:] - 1e-6).astype(int), starts + 1)
    return np.stack([_mean(pixels[a:b]) for a, b in zip(starts, stops, strict=True)])


def _mean(slices: Pixels) -> Pixels:
    """Average (T, H, W, C) over T in whole numbers: seven times as fast as in floating point."""
    count = len(slices)
    mean: Pixels = ((slices.sum(axis=0, dtype=np.uint32) + count // 2) // count).astype(np.uint8)
    return mean
