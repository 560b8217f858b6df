"""From an encapsulated video stream to some of its frames.

Owns: MPEG-2, H.264 and HEVC streams (PS3.5 8.2.5 to 8.2.8), which frames of them are taken.
Does not own: still frames (`codecs`). The stream is hostile: it may name other files, claim any
size, and never end.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from io import BytesIO
from typing import Any

import av
import numpy as np
from numpy.typing import NDArray
from pydicom import Dataset
from pydicom.encaps import generate_fragments

from encoder.headers import MAX_FRAMES, evenly, frame_times

# What PS3.5 allows. Without the lists FFmpeg would try every demuxer it has, and some of those
# (concat, hls) open what the stream names.
_OPEN_OPTIONS = {
    "format_whitelist": "mpegvideo,mpeg,mpegts,h264,hevc,mov,mp4,m4a,3gp,3g2,mj2",
    "codec_whitelist": "mpeg1video,mpeg2video,h264,hevc",
    "protocol_whitelist": "",
}
_DECODED_PIXEL_BYTES = 12  # RGB as float32, as in a clip


@dataclass(frozen=True, slots=True)
class Video:
    """Frames (H, W, 3) as RGB 0..255, and the seconds between them, 0.0 where unknown.

    `numbers` tells which of the stream they are, from 0.
    """

    frames: tuple[NDArray[np.uint8], ...]
    step_s: float
    numbers: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class _Shot:
    number: int  # of the frame in the stream
    frame: Any  # av.VideoFrame


def read_video(dataset: Dataset, *, most: int, max_bytes: int) -> Video:
    """Decode a video with one thread and take at most `most` frames, evenly through its time.

    Number of Frames, Rows and Columns are not believed: the stream decides. Of a long stream the
    frames are picked from a regular subset of `most` to twice as many, so one pass is enough.
    Raises ValueError where the stream is damaged, longer than `MAX_FRAMES`, or would take more than
    `max_bytes`.
    """
    av.logging.set_level(None)
    _, *fragments = generate_fragments(dataset.PixelData)  # the first item is the offset table
    try:
        with av.open(BytesIO(b"".join(fragments)), options=_OPEN_OPTIONS) as container:
            shots, count = _thin(_decoded(container, max_bytes // most), most)
            times = _times(dataset, shots, count)
            picked = evenly(np.arange(float(len(shots))) if times is None else times, most)
            frames = tuple(shots[i].frame.to_ndarray(format="rgb24") for i in picked)
            numbers = tuple(shots[i].number for i in picked)
    except av.FFmpegError as error:
        raise ValueError("the video stream cannot be decoded") from error
    if times is None or len(frames) == 1:
        return Video(frames, 0.0, numbers)
    return Video(frames, float(np.ptp(times[picked]) / (len(frames) - 1)), numbers)


def _decoded(container: Any, frame_bytes: int) -> Iterator[_Shot]:
    """Decode the first video stream; its size must not change and must fit."""
    if not container.streams.video:
        raise ValueError("no MPEG-2, H.264 or HEVC video in the stream")
    stream = container.streams.video[0]
    context = stream.codec_context
    context.thread_count = 1
    size = context.width, context.height
    if size[0] * size[1] * _DECODED_PIXEL_BYTES > frame_bytes:
        raise ValueError(f"a video of {size[0]} by {size[1]} pixels is too large")
    for number, frame in enumerate(container.decode(stream)):
        if number == MAX_FRAMES:
            raise ValueError(f"the video has more than {MAX_FRAMES} frames")
        if (frame.width, frame.height) != size:
            raise ValueError("the video changes its size")
        yield _Shot(number, frame)


def _thin(shots: Iterator[_Shot], most: int) -> tuple[list[_Shot], int]:
    """Keep every n-th frame, n the smallest power of 2 that keeps fewer than twice `most`."""
    kept: list[_Shot] = []
    stride, count = 1, 0
    for shot in shots:
        count = shot.number + 1
        if shot.number % stride == 0:
            kept.append(shot)
        if len(kept) == 2 * most:
            kept, stride = kept[::2], stride * 2
    if not kept:
        raise ValueError("the video has no frames")
    return kept, count


def _times(dataset: Dataset, shots: list[_Shot], count: int) -> NDArray[np.float64] | None:
    """Give the time of each frame kept: by the header, else by the container, else None."""
    if (times := frame_times(dataset, count)) is not None:
        return times[[shot.number for shot in shots]]
    stamps = [shot.frame.time for shot in shots]
    if None in stamps or (np.diff(stamps) <= 0).any():
        return None
    return np.array(stamps, dtype=np.float64)
