"""Where the tiles of a slide lie, and what it costs to know."""

from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest
from pydicom import Dataset, dcmread, filereader
from slides import SIZE, change, edit, small, tiled_sparse

from encoder.series import assemble
from encoder.tiles import read_tiles
from encoder.volume import read_clip


def test_the_places_of_the_tiles_are_read_twice_and_not_for_every_tile(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Once to know that it is a slide, once for the places: each may take seconds."""
    path = small(tmp_path, levels=1)[0]

    def undefined(dataset: Dataset) -> None:
        tiled_sparse(dataset)
        dataset["PerFrameFunctionalGroupsSequence"].is_undefined_length = True

    edit(path, undefined)
    lengths: list[int] = []
    real = filereader.read_sequence

    def counting(file: Any, implicit: bool, little: bool, length: int, *others: Any) -> object:
        lengths.append(length)
        return real(file, implicit, little, length, *others)

    monkeypatch.setattr(filereader, "read_sequence", counting)
    (group, *_) = assemble([path]).groups
    read_clip(group)
    assert lengths.count(0xFFFFFFFF) == 2


def test_a_missing_spacing_follows_from_the_imaged_volume(tmp_path: Path) -> None:
    path = small(tmp_path, levels=1)[0]
    edit(path, change("SharedFunctionalGroupsSequence", []))
    assert read_tiles(path).spacing_mm == pytest.approx((1e-3, 1e-3))


def test_other_planes_and_optical_paths_are_left_alone(tmp_path: Path) -> None:
    path = small(tmp_path, levels=1)[0]
    count = int(dcmread(path).NumberOfFrames)
    edit(path, change("NumberOfFrames", 3 * count))
    tiles = read_tiles(path)
    assert tiles.index.tolist() == list(range(count))


def test_the_first_plane_of_sparse_tiles_is_read(tmp_path: Path) -> None:
    path = small(tmp_path, levels=1)[0]

    def double(dataset: Dataset) -> None:
        tiled_sparse(dataset)
        frames = list(dataset.PerFrameFunctionalGroupsSequence)
        dataset.PerFrameFunctionalGroupsSequence = frames + deepcopy(frames)
        dataset.NumberOfFrames = 2 * len(frames)
        dataset.PixelData = dataset.PixelData * 2

    edit(path, double)
    assert sorted(read_tiles(path).index.tolist()) == list(range(SIZE[0] * SIZE[1] // 64**2))
