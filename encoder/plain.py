"""From plain picture and film files, as research data comes in, to one `Clip`.

Owns: JPEG, PNG and MP4 outside DICOM. Does not own: DICOM (`series`, `volume`), the size and range
that the network sees (`normalise`). Plain files say nothing of millimetres.
"""

from collections.abc import Iterator
from itertools import islice
from pathlib import Path

import av
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from encoder.clip import Clip, Kind, Unit
from encoder.errors import UnreadableImage

PICTURE_SUFFIXES = frozenset({".jpg", ".jpeg", ".png"})
FILM_SUFFIXES = frozenset({".mp4"})
MAX_FRAMES = 4096
MAX_FILM_BYTES = 2**29  # of RGB; four times as much as float32
_GREY_MODES = frozenset({"1", "L", "I", "I;16", "F"})
_OPEN_OPTIONS = {
    "format_whitelist": "mov,mp4",
    "codec_whitelist": "h264,hevc,mpeg4",
    "protocol_whitelist": "file",
}


def read_picture(path: Path) -> Clip:
    """Read a JPEG or PNG as a still, grey as `STORED`, anything else as RGB.

    Raises UnreadableImage where it is damaged or of another format; OSError where it is missing.
    """
    with path.open("rb") as file:
        try:
            with Image.open(file, formats=("JPEG", "PNG")) as picture:
                mode = picture.mode if picture.mode in _GREY_MODES else "RGB"
                pixels = np.asarray(picture if mode != "RGB" else picture.convert("RGB"))
        except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
            raise UnreadableImage(path.name, f"no JPEG or PNG ({error})") from error
    return _clip(pixels[None], path, kind=Kind.STILL, step_s=0.0)


def read_film(path: Path, *, frame_time_ms: float = 0.0) -> Clip:
    """Read an MP4 as a cine of at most `MAX_FRAMES`; grey where its three channels agree.

    The stream says how far frames are apart where `frame_time_ms` is 0.
    Raises UnreadableImage where it is damaged; OSError where it is missing.
    """
    with path.open("rb") as file:
        try:
            with av.open(file, mode="r", options=_OPEN_OPTIONS) as container:
                stream = container.streams.video[0]
                stream.codec_context.thread_count = 1
                rate = float(stream.average_rate or 0)
                pixels = _frames(container.decode(stream))
        except (av.FFmpegError, IndexError, ValueError) as error:
            raise UnreadableImage(path.name, f"no MP4 that can be decoded ({error})") from error
    step_s = frame_time_ms / 1000 or (1 / rate if rate else 0.0)
    return _clip(pixels, path, kind=Kind.CINE, step_s=step_s)


def _frames(decoded: Iterator[av.VideoFrame]) -> NDArray[np.uint8]:
    """Gather frames as RGB (T, H, W, 3); ValueError where there is none or they take too much."""
    frames: list[NDArray[np.uint8]] = []
    for frame in islice(decoded, MAX_FRAMES):
        picture = frame.to_ndarray(format="rgb24").astype(np.uint8, copy=False)
        if (len(frames) + 1) * picture.nbytes > MAX_FILM_BYTES:
            raise ValueError(f"its frames take more than {MAX_FILM_BYTES >> 20} MiB")
        frames.append(picture)
    return np.stack(frames)


def _clip(pixels: NDArray[np.generic], path: Path, *, kind: Kind, step_s: float) -> Clip:
    """Order (T, H, W) or (T, H, W, 3) as (C, T, H, W), one channel where colour is none."""
    if pixels.ndim == 4 and (pixels == pixels[..., :1]).all():
        pixels = pixels[..., 0]
    channels_first = pixels[None] if pixels.ndim == 3 else np.moveaxis(pixels, -1, 0)
    return Clip(
        array=np.ascontiguousarray(channels_first, dtype=np.float32),
        spacing=(step_s, 1.0, 1.0),
        kind=kind,
        unit=Unit.STORED if len(channels_first) == 1 else Unit.COLOUR,
        valid=None,
        sources=(path.name,),
    )
