import json
import os
import shutil
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest
from imagesets import STILLS, small_config, write_images

from encoder.clip import Kind
from training.config import Method
from training.data import Images, chosen, prepare
from training.errors import ModalityExcluded, TooManyUnreadable, TrainingError
from training.manifest import Item, read_items
from training.start import images_of


@pytest.fixture(scope="module")
def items(tmp_path_factory: pytest.TempPathFactory) -> tuple[Item, ...]:
    return read_items(write_images(tmp_path_factory.mktemp("images")))


def test_every_kind_is_cached_at_the_size_asked_for(
    items: tuple[Item, ...], tmp_path: Path
) -> None:
    images = prepare(items, tmp_path, side=48)
    assert Counter((entry.modality, str(entry.kind)) for entry in images.entries) == {
        ("CR", "still"): STILLS,
        ("ES", "still"): STILLS,
        ("US", "cine"): 2,
        ("CT", "volume"): 2,
    }
    for row, entry in enumerate(images.entries):
        frames = 1 if entry.kind is Kind.STILL else 12
        channels = 3 if entry.modality in ("ES", "CT") else 1  # a CT in three windows
        assert images.array(row).shape == (frames, 48, 48, channels)


def test_depth_of_a_volume_is_known_in_pixels(items: tuple[Item, ...], tmp_path: Path) -> None:
    images = prepare(items, tmp_path, side=48)
    depths = {entry.depth_px for entry in images.entries if entry.kind is Kind.VOLUME}
    assert [*depths] == [pytest.approx(2.5 / 0.7, rel=1e-3)]


def test_what_was_cached_is_not_read_again(items: tuple[Item, ...], tmp_path: Path) -> None:
    read: list[int] = []
    first = prepare(items, tmp_path, side=32, advance=lambda: read.append(1))
    again = prepare(items, tmp_path, side=32, advance=lambda: read.append(1))
    assert len(read) == len(items)
    assert again.fingerprint == first.fingerprint
    assert prepare(items, tmp_path, side=40).fingerprint != first.fingerprint
    assert prepare(items[1:], tmp_path, side=32).fingerprint != first.fingerprint


def test_files_written_anew_with_the_same_pixels_are_the_same_images(
    items: tuple[Item, ...], tmp_path: Path
) -> None:
    still = next(item for item in items if item.kind is Kind.STILL)
    copy = tmp_path / still.files[0].name
    shutil.copyfile(still.files[0], copy)
    first = prepare([replace(still, files=(copy,))], tmp_path, side=32)
    os.utime(copy, (0, 0))
    again = prepare([replace(still, files=(copy,))], tmp_path, side=32)
    assert again.folder != first.folder
    assert again.fingerprint == first.fingerprint


def test_a_cache_cut_short_while_it_was_written_is_made_anew(
    items: tuple[Item, ...], tmp_path: Path
) -> None:
    folder = prepare(items, tmp_path, side=32).folder
    (folder / "index.json").unlink()
    (folder / "pixels.bin").write_bytes(b"half")
    assert len(prepare(items, tmp_path, side=32)) == len(items)


def damaged(item: Item, folder: Path) -> Item:
    path = folder / "damaged.png"
    path.write_bytes(b"no picture")
    return replace(item, path="damaged.png", files=(path,))


def test_a_few_unreadable_items_are_left_out_and_named(
    items: tuple[Item, ...], tmp_path: Path
) -> None:
    stills = tuple(item for item in items if item.kind is Kind.STILL)
    images = prepare((*stills, damaged(stills[0], tmp_path)), tmp_path, side=32)
    assert len(images) == len(stills)
    assert len(images.unreadable) == 1
    assert images.unreadable[0].startswith("damaged.png: ")


def test_more_than_a_twentieth_unreadable_stops(items: tuple[Item, ...], tmp_path: Path) -> None:
    bad = damaged(items[0], tmp_path)
    with pytest.raises(TooManyUnreadable, match=r"2 of 12 items .*damaged\.png"):
        prepare((*items[:10], bad, bad), tmp_path, side=32)


def test_magnetic_resonance_is_refused_unless_it_is_asked_for(items: tuple[Item, ...]) -> None:
    with_mr = (*items, replace(items[0], modality="MR"))
    with pytest.raises(ModalityExcluded, match="--allow MR") as caught:
        chosen(with_mr)
    assert caught.value.items == 1
    assert len(chosen(with_mr, allow=["MR"])) == len(with_mr)
    assert chosen(with_mr, exclude=["MR"]) == items


def test_sources_are_left_out_by_name_and_something_must_be_left(
    items: tuple[Item, ...],
) -> None:
    assert {item.source for item in chosen(items, exclude=["CR", "US"])} == {"ES", "CT"}
    with pytest.raises(TrainingError, match="no item is left"):
        chosen(items, exclude=["CR", "US", "ES", "CT"])


def test_only_the_train_split_is_trained_on(items: tuple[Item, ...], tmp_path: Path) -> None:
    images: Images = images_of(items, small_config(Method.MAE), tmp_path)
    expected = [item.path for item in items if item.split == "train"]
    assert [entry.path for entry in images.entries] == expected
    index = json.loads((images.folder / "index.json").read_text())
    assert index["entries"][0]["path"] == expected[0]
