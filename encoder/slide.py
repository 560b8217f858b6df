"""From a pyramid of tiled images to some fields of tissue, each a still by itself.

Owns: which images of a slide are read, at which magnification, which of its tiles are taken.
Does not own: files and frames (`tiles`), where tissue is (`tissue`). A slide is never decoded as a
whole: what is read of it has the same bounds whether it has a million pixels or 10^10.
"""

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from pydicom import uid

from encoder.clip import Kind
from encoder.headers import READ_ERRORS, raise_if_missing
from encoder.origin import Box
from encoder.slices import Frame, Group
from encoder.tiles import Tiles, read_tiles
from encoder.tissue import find_tissue

SLIDE_CLASS: str = uid.VLWholeSlideMicroscopyImageStorage

# 256 pixels of 0.5 µm ("20 x"), the tile on which encoders for pathology are trained and compared:
# UNI (Chen et al., doi:10.1038/s41591-024-02857-3), Prov-GigaPath (doi:10.1038/s41586-024-07441-w).
TARGET_MM = 0.5e-3
FIELD_MM = 256 * TARGET_MM
MAX_FIELDS = 16  # of one slide

LABEL = "the label of a slide, or a picture that shows it"
NOT_CHOSEN = "a part of a slide, of which other parts are read"
NO_TISSUE = "a slide without tissue"

Level = list[Tiles]  # the instances of one image: several where it is a concatenation


@dataclass(frozen=True, slots=True)
class Fields:
    """The fields of the slides of a series, and instances that give none, each with its reason."""

    groups: tuple[Group, ...]
    skipped: tuple[tuple[str, str], ...]
    unreadable: tuple[tuple[str, str], ...]


def find_fields(instances: Iterable[tuple[Path, str]]) -> Fields:
    """Choose at most `MAX_FIELDS` fields of tissue in each slide, given files with their UIDs.

    Labels, and overviews that show them, are never decoded; the smallest level is, to find tissue.
    Raises OSError where a file cannot be opened.
    """
    slides: dict[str, list[Tiles]] = {}
    groups: list[Group] = []
    skipped: list[tuple[str, str]] = []
    unreadable: list[tuple[str, str]] = []
    for path, sop_instance_uid in instances:
        try:
            tiles = read_tiles(path)
        except READ_ERRORS as error:
            raise_if_missing(error)
            unreadable.append((sop_instance_uid, f"unreadable header ({type(error).__name__})"))
            continue
        if tiles.shows_label or tiles.flavour in ("LABEL", "OVERVIEW"):
            skipped.append((sop_instance_uid, LABEL))
        else:
            slides.setdefault(tiles.pyramid, []).append(tiles)
    for slide in slides.values():
        try:
            fields = list(_fields(slide))
        except READ_ERRORS as error:
            raise_if_missing(error)
            reason = f"its smallest level cannot be decoded ({type(error).__name__})"
            unreadable.extend((tiles.sop_instance_uid, reason) for tiles in slide)
            continue
        groups.extend(fields)
        read = {field.frames[0].sop_instance_uid for field in fields}
        left = (each.sop_instance_uid for each in slide if each.sop_instance_uid not in read)
        skipped.extend((each, NOT_CHOSEN if fields else NO_TISSUE) for each in left)
    return Fields(tuple(groups), tuple(skipped), tuple(unreadable))


def _fields(slide: Sequence[Tiles]) -> Iterator[Group]:
    """Take fields of the best level, spread evenly over the tiles that hold tissue.

    A tile holds tissue where it has at least half as much as the fullest one: so a thin biopsy is
    found as well as a resection. Every field lies in the middle of one tile, and all are as large
    as the largest: what the edge of the slide cuts is passed over.
    """
    levels = _levels(slide)
    level = min(_magnified(levels), key=_distance)
    tissue = find_tissue(min(levels, key=lambda each: each[0].size))
    size, spacing_mm = np.array(level[0].size), level[0].spacing_mm
    owner = np.repeat(np.arange(len(level)), [len(tiles.index) for tiles in level])
    index = np.concatenate([tiles.index for tiles in level])
    corner = np.concatenate([np.stack([tiles.top, tiles.left], axis=1) for tiles in level])
    real = np.minimum(level[0].tile, size - corner)
    wanted = np.rint(FIELD_MM / np.array(spacing_mm)).astype(int)
    extent = np.minimum(np.maximum(wanted, 1), real.max(axis=0, initial=0))
    inner = (real - extent) // 2
    share = tissue.share((corner + inner) / size, extent / size)
    share[(inner < 0).any(axis=1)] = 0
    full = np.flatnonzero((share > 0) & (share >= share.max(initial=0) / 2))
    full = full[np.lexsort((corner[full, 1], corner[full, 0]))]
    spread = np.linspace(0, len(full) - 1, min(len(full), MAX_FIELDS)).round().astype(int)
    for number in full[spread]:
        tiles = level[owner[number]]
        (top, left), (rows, columns) = inner[number].tolist(), extent.tolist()
        yield Group(
            kind=Kind.STILL,
            frames=(Frame(tiles.file.path, tiles.sop_instance_uid, int(index[number])),),
            spacing=(0.0, *spacing_mm),
            box=Box(top, top + rows, left, left + columns),
            tile_file=tiles.file,
        )


def _levels(slide: Sequence[Tiles]) -> list[Level]:
    """Put the parts of a concatenation together (PS3.3 C.7.6.16.2.2.4)."""
    levels: dict[tuple[object, ...], Level] = {}
    for tiles in slide:
        key = (tiles.level, tiles.size, tiles.tile, tiles.spacing_mm)
        levels.setdefault(key, []).append(tiles)
    return list(levels.values())


def _magnified(levels: Sequence[Level]) -> Sequence[Level]:
    """Leave thumbnails out, unless there is nothing else."""
    return [level for level in levels if level[0].flavour != "THUMBNAIL"] or levels


def _distance(level: Level) -> tuple[int, float]:
    """Count half octaves from the target; of two as near, the coarser shows more in one tile."""
    rows_mm, columns_mm = level[0].spacing_mm
    spacing_mm = math.sqrt(rows_mm * columns_mm)
    return round(2 * abs(math.log2(spacing_mm / TARGET_MM))), -spacing_mm
