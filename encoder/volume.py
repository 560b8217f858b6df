"""From a group of frames to a clip in the common patient frame, in memory for a thousand slices.

Owns: turning and shearing planes, filling gaps along T, shrinking slices while they are read.
Does not own: decoding (`pixels`), where slices stand (`geometry`), intensities (`normalise`).
"""

from collections.abc import Iterator, Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from encoder.clip import Clip, Kind
from encoder.config import Extent
from encoder.errors import UnreadableImage
from encoder.frames import Part
from encoder.geometry import Geometry, View, regular
from encoder.headers import quiet
from encoder.origin import Origin
from encoder.pixels import parts, read, stack
from encoder.resample import MIN_WEIGHT, fit, resample
from encoder.slices import Group

CHUNK_BYTES = 8 * 2**20  # resampled at once: enough for the calls, few enough for the cache
MAX_VOLUME_BYTES = 2**30  # kept of one volume, once its slices are shrunk
MIN_SHEAR_PX = 0.1  # less would blur more than it corrects
MAX_SHEARED_AREA = 4  # times a slice's; more is no tilt but a damaged position


def read_clip(group: Group, extent: Extent | None = None, *, threads: int = 1) -> Clip:
    """Read a group as one clip (C, T, H, W) in the common orientation of `Geometry.view`.

    A volume is regular: gaps are interpolated, a gantry tilt is sheared back (new corners are
    False in `valid`). With an `extent` its planes are shrunk to it while they are read, so that
    memory does not grow with their size, and `normalise` finds only T left to do. A group without
    geometry is as `read` gives it. `threads` decode at a time and change no bit of the result.
    Raises UnreadableImage and OSError as `read` does.
    """
    geometry = group.geometry
    if geometry is None:
        return read(group, threads=threads)
    if group.kind is not Kind.VOLUME:
        return _turned(read(group, threads=threads), geometry.view())
    with quiet():
        planes = _planes(group, geometry, extent, threads)
    steps = regular(geometry.places_mm()[:, 0])
    return _regular(planes, steps.indices, steps.step_mm)


def _planes(group: Group, geometry: Geometry, extent: Extent | None, threads: int) -> Clip:
    """Read all slices, turned, sheared and shrunk."""
    view = geometry.view()
    shifts_mm = geometry.places_mm()[:, 1:]
    pixel_mm = group.spacing[:0:-1] if view.transposed else group.spacing[1:]
    shifts_px = (shifts_mm - shifts_mm.min(axis=0)) / np.array(pixel_mm)
    tilted = shifts_px.max() >= MIN_SHEAR_PX
    chunks: list[Clip] = []
    start = 0
    for chunk in _chunks(group, threads):
        part = _turned(chunk, view)
        stop = start + part.array.shape[1]
        if tilted:
            part = _sheared(part, shifts_px[start:stop], np.ceil(shifts_px.max(axis=0)))
        if extent is not None:
            part = _shrunk(part, extent)
        if (bytes_kept := part.array[:, 0].nbytes * len(group.frames)) > MAX_VOLUME_BYTES:
            raise UnreadableImage(
                part.sources[0],
                f"a volume of {bytes_kept / 2**30:.1f} GiB, the limit is "
                f"{MAX_VOLUME_BYTES / 2**30:.1f} GiB",
            )
        chunks.append(part)
        start = stop
    return _joined(chunks)


def _chunks(group: Group, threads: int) -> Iterator[Clip]:
    """Read some slices at a time, about `CHUNK_BYTES` of them."""
    waiting: list[Part] = []
    waiting_bytes = 0
    for part in parts(group, threads=threads):
        waiting.append(part)
        waiting_bytes += sum(picture.values.nbytes for picture in part.pictures)
        if waiting_bytes >= CHUNK_BYTES:
            yield stack(waiting, group, group.spacing)
            waiting, waiting_bytes = [], 0
    if waiting:
        yield stack(waiting, group, group.spacing)


def _turned(clip: Clip, view: View) -> Clip:
    """Turn stored planes to the common orientation; values stay as they are."""
    steps = (-1 if view.reversed_h else 1, -1 if view.reversed_w else 1)
    array, valid, (t, h, w) = clip.array, clip.valid, clip.spacing
    if view.transposed:
        array, h, w = array.swapaxes(-1, -2), w, h
        valid = None if valid is None else valid.swapaxes(-1, -2)
    array = np.ascontiguousarray(array[..., :: steps[0], :: steps[1]])
    if valid is not None:
        valid = np.ascontiguousarray(valid[..., :: steps[0], :: steps[1]])
    origin = clip.origin and replace(clip.origin, view=view)
    return replace(clip, array=array, valid=valid, spacing=(t, h, w), origin=origin)


def _sheared(clip: Clip, shifts_px: NDArray[np.float64], margin_px: NDArray[np.float64]) -> Clip:
    """Move every slice within its plane to where it stands, on a canvas larger by the margin.

    The affine resampling that undoes a tilt, slice by slice: bilinear in H and W, none along T.
    """
    channels, count, height, width = clip.array.shape
    canvas = (height + int(margin_px[0]), width + int(margin_px[1]))
    if canvas[0] * canvas[1] > MAX_SHEARED_AREA * height * width:
        raise UnreadableImage(clip.sources[0], "the slices lie too far beside each other")
    array = np.zeros((channels, count, *canvas), dtype=np.float32)
    weight = np.zeros((count, *canvas), dtype=np.float32)
    real = np.ones((count, height, width), np.bool_) if clip.valid is None else clip.valid
    for number, shift_px in enumerate(shifts_px):
        values = np.where(real[number], clip.array[:, number], np.float32(0))
        for y, y_share in _shares(shift_px[0]):
            for x, x_share in _shares(shift_px[1]):
                there = (..., slice(y, y + height), slice(x, x + width))
                share = np.float32(y_share * x_share)
                array[:, number][there] += share * values
                weight[number][there] += share * real[number]
    array /= np.maximum(weight, np.float32(1e-6))
    origin = clip.origin and _shifted(clip.origin, (shifts_px - margin_px / 2) * clip.spacing[1:])
    return replace(clip, array=array, valid=weight >= MIN_WEIGHT, origin=origin)


def _shifted(origin: Origin, shifts_mm: NDArray[np.float64]) -> Origin:
    """Note how far each slice was moved from the middle of its canvas, (T, 2)."""
    pairs = zip(origin.frames, shifts_mm.tolist(), strict=True)
    return replace(origin, frames=tuple(replace(f, shift_mm=(h, w)) for f, (h, w) in pairs))


def _shares(shift_px: float) -> Iterator[tuple[int, float]]:
    """Give the whole shifts that a linear interpolation mixes, each with its share."""
    whole = int(np.floor(shift_px))
    share = float(shift_px) - whole
    yield whole, 1 - share
    if share > 0:
        yield whole + 1, share


def _shrunk(clip: Clip, extent: Extent) -> Clip:
    """Fit the planes into the extent, as `normalise` would."""
    grid = fit(clip, extent, frames=clip.array.shape[1])
    array, inside = resample(clip.array, clip.valid, grid)
    valid = None if inside.all() else inside
    return replace(clip, array=array, valid=valid, spacing=(clip.spacing[0], *grid.new[1:]))


def _joined(parts: Sequence[Clip]) -> Clip:
    """Put chunks one after the other along T."""
    first = parts[0]
    sources = tuple(dict.fromkeys(source for part in parts for source in part.sources))
    decoders = sorted({name for part in parts for name in part.decoder.split()})
    if len({(part.array[:, 0].shape, part.unit) for part in parts}) > 1:
        raise UnreadableImage(sources[0], "the frames of its group differ in size or meaning")
    valid = None
    if any(part.valid is not None for part in parts):
        whole = (np.ones(part.array.shape[1:], np.bool_) for part in parts)
        valid = np.concatenate(
            [w if part.valid is None else part.valid for w, part in zip(whole, parts, strict=True)]
        )
    array = np.concatenate([part.array for part in parts], axis=1)
    frames = [frame for part in parts if part.origin for frame in part.origin.frames]
    return replace(
        first,
        array=array,
        valid=valid,
        sources=sources,
        decoder=" ".join(decoders),
        origin=first.origin and replace(first.origin, frames=tuple(frames)),
    )


def _regular(clip: Clip, indices: NDArray[np.float64], step_mm: float) -> Clip:
    """Take slices at fractional `indices` along T, linear between neighbours."""
    spacing = (step_mm, *clip.spacing[1:])
    if np.array_equal(indices, np.arange(clip.array.shape[1])):
        return replace(clip, spacing=spacing)
    origin = clip.origin and clip.origin.taken(indices.round().astype(int))
    below = np.floor(indices).astype(int)
    above = np.ceil(indices).astype(int)
    share = (indices - below).astype(np.float32)
    real = np.ones(clip.array.shape[1:], np.bool_) if clip.valid is None else clip.valid
    array = np.empty((len(clip.array), len(indices), *clip.array.shape[2:]), dtype=np.float32)
    valid = np.empty(array.shape[1:], dtype=np.bool_)
    for number, (low, high, s) in enumerate(zip(below, above, share, strict=True)):
        weights = (real[low] * (1 - s), real[high] * s)
        weight = weights[0] + weights[1]
        mixed = clip.array[:, low] * weights[0] + clip.array[:, high] * weights[1]
        array[:, number] = mixed / np.maximum(weight, np.float32(1e-6))
        valid[number] = weight >= MIN_WEIGHT
    valid_or_none = None if valid.all() else valid
    return replace(clip, array=array, valid=valid_or_none, spacing=spacing, origin=origin)
