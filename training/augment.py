"""What two views of one image may differ in besides the cut: mirror, tilt, light, blur, tint.

Owns: the strength and odds of each change. One set for every modality.
"""

import numpy as np
from PIL import Image, ImageFilter

from training.views import Pixels, Rng

FLIP = 0.5
TURN, MAX_TURN_DEGREES = 0.3, 15.0
BLUR, BLUR_PX = 0.2, (0.3, 1.2)
GAMMA, CONTRAST, BRIGHTNESS = 0.35, 0.3, 0.12  # widths of the draws around no change
TINT, GREY, ONE_CHANNEL = 0.15, 0.1, 0.1


def augment(frames: Pixels, rng: Rng) -> Pixels:
    """Change (T, H, W, C) as one: every frame of a loop or slab gets the same change."""
    if rng.random() < FLIP:
        frames = frames[:, :, ::-1]
    degrees = rng.uniform(-MAX_TURN_DEGREES, MAX_TURN_DEGREES) if rng.random() < TURN else 0.0
    blur_px = rng.uniform(*BLUR_PX) if rng.random() < BLUR else 0.0
    if degrees or blur_px:
        frames = np.stack([_turned_and_blurred(frame, degrees, blur_px) for frame in frames])
    return _lit(frames, rng)


def _turned_and_blurred(frame: Pixels, degrees: float, blur_px: float) -> Pixels:
    picture = Image.fromarray(
        np.ascontiguousarray(frame[..., 0] if frame.shape[-1] == 1 else frame)
    )
    if degrees:
        picture = picture.rotate(degrees, Image.Resampling.BILINEAR)
    if blur_px:
        picture = picture.filter(ImageFilter.GaussianBlur(blur_px))
    return np.asarray(picture).reshape(frame.shape)


def _lit(frames: Pixels, rng: Rng) -> Pixels:
    """Change gamma, contrast and brightness, of channels that differ each a little by itself.

    Sometimes their mean, or one of them, is shown in place of all: a picture without its colours,
    a CT through one window.
    """
    channels = frames.shape[-1]
    gamma = np.exp(rng.normal(0, GAMMA / 2))
    contrast = np.exp(rng.normal(0, CONTRAST / 2))
    brightness = rng.normal(0, BRIGHTNESS / 2)
    tints = np.exp(rng.normal(0, TINT / 2, channels)) if channels > 1 else np.ones(1)
    fate = rng.random() if channels > 1 else 1.0
    ramp = np.linspace(0, 1, 256) ** gamma
    lit = np.empty_like(frames)
    for channel, tint in enumerate(tints):
        table = ((ramp - 0.5) * contrast + 0.5 + brightness) * tint
        table = np.where(ramp > 0, table, 0)  # padding stays black
        lit[..., channel] = (table.clip(0, 1) * 255 + 0.5).astype(np.uint8)[frames[..., channel]]
    if fate < GREY:
        grey: Pixels = lit.mean(axis=-1, keepdims=True).astype(np.uint8)
        return grey
    if fate < GREY + ONE_CHANNEL:
        one = int(rng.integers(channels))
        return lit[..., one : one + 1]
    return lit
