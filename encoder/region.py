"""A region that a reader points at, as a clip of its own: a slice or frame, a box, or both.

Owns: choosing the frame, cutting it to the box before it is normalised. Does not own: reading
(`volume`), the way from stored pixels to a clip (`origin`).
"""

from dataclasses import dataclass, replace

import numpy as np
from pydicom import dcmread

from encoder.clip import Clip, Kind
from encoder.errors import UnreadableImage
from encoder.geometry import Geometry
from encoder.headers import frame_count, quiet
from encoder.origin import Box, Grid, nearest_frame
from encoder.slices import Frame, Group
from encoder.volume import read_clip


@dataclass(frozen=True, slots=True)
class Region:
    """A frame of an instance, counted from 1, None for all; a box in it, None for all of it."""

    frame: int | None
    box: Box | None


def read_region(group: Group, region: Region, *, threads: int = 1) -> Clip:
    """Read a region of what a group shows; a single frame becomes a still.

    Raises UnreadableImage where the frame or the box is not there, and as `read_clip` does.
    """
    if region.frame is None:
        clip = read_clip(group, threads=threads)
    else:
        clip = one_frame(
            read_clip(_only(group, region.frame), threads=threads), number=region.frame
        )
    return clip if region.box is None else _cut(clip, region.box)


def one_frame(clip: Clip, *, number: int) -> Clip:
    """Return as a still that frame of a clip which is nearest to one of its instance, from 1."""
    at = 0 if clip.origin is None else nearest_frame(clip.origin, number)
    return frame_at(clip, at)


def frame_at(clip: Clip, at: int) -> Clip:
    """Return a frame of a clip, by its place along T, as a still."""
    return replace(
        clip,
        array=clip.array[:, at : at + 1],
        spacing=(0.0, *clip.spacing[1:]),
        kind=Kind.STILL,
        valid=None if clip.valid is None else clip.valid[at : at + 1],
        origin=clip.origin and clip.origin.taken(np.array([at])),
    )


def holds(group: Group, number: int) -> bool:
    """Say whether a group of one instance reads its frame of this number, from 1."""
    return any(frame.index in (None, number - 1) for frame in group.frames)


def _only(group: Group, number: int) -> Group:
    """Return a group of one frame; raises UnreadableImage where it has none of that number."""
    first = group.frames[0]
    if first.index is None:
        with quiet():
            count = frame_count(dcmread(first.path, specific_tags=["NumberOfFrames"]))
        kept = [0] if number <= count else []
        frame = Frame(first.path, first.sop_instance_uid, number - 1 if count > 1 else None)
    else:
        kept = [at for at, each in enumerate(group.frames) if each.index == number - 1]
        count = 1 + max(each.index or 0 for each in group.frames)
        frame = group.frames[kept[0]] if kept else first
    if not kept or number < 1:
        reason = f"it has no frame or slice {number}: they are 1 to {count}"
        raise UnreadableImage(first.sop_instance_uid, reason)
    geometry = group.geometry
    if geometry is not None:
        geometry = Geometry(geometry.row, geometry.column, (geometry.origins_mm[kept[0]],))
    spacing = (0.0, *group.spacing[1:])
    return replace(group, kind=Kind.STILL, frames=(frame,), geometry=geometry, spacing=spacing)


def _cut(clip: Clip, box: Box) -> Clip:
    """Cut a clip to a box of the stored images."""
    origin, uid = clip.origin, clip.sources[0]
    if origin is None:
        raise UnreadableImage(uid, "it is drawn from a waveform: no box of it can be compared")
    rows, columns = origin.size
    if box.area == 0 or box.inside(Box(0, rows, 0, columns)) != box:
        reason = f"the box is empty or reaches beyond its {columns} by {rows} pixels"
        raise UnreadableImage(uid, reason)
    if box.inside(origin.cut).area == 0:
        raise UnreadableImage(uid, "the box lies outside the part of the image that is compared")
    _, frames, height, width = clip.array.shape
    grid = Grid((height, width), (clip.spacing[1], clip.spacing[2]))
    shown = origin.shown(box, frames // 2, grid)
    there = (..., slice(shown.top, shown.bottom), slice(shown.left, shown.right))
    unmoved = tuple(replace(frame, shift_mm=(0.0, 0.0)) for frame in origin.frames)
    return replace(
        clip,
        array=clip.array[there],
        valid=None if clip.valid is None else clip.valid[there],
        origin=replace(origin, frames=unmoved, cut=origin.stored(shown, frames // 2, grid)),
    )
