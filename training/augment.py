"""What two views of one image may differ in besides the cut: mirror, tilt, light, blur, tint.

Owns: the strength and odds of each change. One set for every modality.
"""

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFilter

from training.views import Rng

FLIP = 0.5
TURN, MAX_TURN_DEGREES = 0.3, 15.0
BLUR, BLUR_PX = 0.2, (0.3, 1.2)
GAMMA, CONTRAST, BRIGHTNESS = 0.35, 0.3, 0.12  # widths of the draws around no change
TINT, GREY = 0.15, 0.2


def augment(frames: NDArray[np.uint8], rng: Rng) -> NDArray[np.uint8]:
    """Change (T, H, W, C) as one: every frame of a loop or slab gets the same change."""
    if rng.random() < FLIP:
        frames = frames[:, :, ::-1]
    degrees = rng.uniform(-MAX_TURN_DEGREES, MAX_TURN_DEGREES) if rng.random() < TURN else 0.0
    blur_px = rng.uniform(*BLUR_PX) if rng.random() < BLUR else 0.0
    if degrees or blur_px:
        frames = np.stack([_turned_and_blurred(frame, degrees, blur_px) for frame in frames])
    return _lit(frames, rng)


def _turned_and_blurred(
    frame: NDArray[np.uint8], degrees: float, blur_px: float
) -> NDArray[np.uint8]:
    picture = Image.fromarray(
        np.ascontiguousarray(frame[..., 0] if frame.shape[-1] == 1 else frame)
    )
    if degrees:
        picture = picture.rotate(degrees, Image.Resampling.BILINEAR)
    if blur_px:
        picture = picture.filter(ImageFilter.GaussianBlur(blur_px))
    return np.asarray(picture).reshape(frame.shape)


def _lit(frames: NDArray[np.uint8], rng: Rng) -> NDArray[np.uint8]:
    """Change gamma, contrast and brightness, of colour each channel a little by itself."""
    channels = frames.shape[-1]
    gamma = np.exp(rng.normal(0, GAMMA / 2))
    contrast = np.exp(rng.normal(0, CONTRAST / 2))
    brightness = rng.normal(0, BRIGHTNESS / 2)
    tints = np.exp(rng.normal(0, TINT / 2, channels)) if channels > 1 else np.ones(1)
    to_grey = channels > 1 and rng.random() < GREY
    ramp = np.linspace(0, 1, 256) ** gamma
    lit = np.empty_like(frames)
    for channel, tint in enumerate(tints):
        table = ((ramp - 0.5) * contrast + 0.5 + brightness) * tint
        table = np.where(ramp > 0, table, 0)  # padding stays black
        lit[..., channel] = (table.clip(0, 1) * 255 + 0.5).astype(np.uint8)[frames[..., channel]]
    if to_grey:
        lit[...] = lit.mean(axis=-1, keepdims=True).astype(np.uint8)
    return lit
