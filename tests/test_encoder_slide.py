"""Slides whose tissue is known: where it is found, how much is decoded, what is never shown."""

from collections.abc import Callable, Sequence
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image
from pydicom import Dataset, dcmread, uid
from pydicom.encaps import encapsulate, encapsulate_extended
from slides import SIZE, change, edit, small, tiled_sparse

from encoder import tissue
from encoder.clip import Clip, Kind, Unit
from encoder.series import Assembly, assemble
from encoder.slide import LABEL, MAX_FIELDS, NO_TISSUE, NOT_CHOSEN
from encoder.volume import read_clip
from training.phantoms import SLIDE_TISSUE, slide, uid_source


def clips(paths: Sequence[Path]) -> list[Clip]:
    assembly = assemble(paths)
    assert not assembly.unreadable
    return [read_clip(group) for group in assembly.groups]


def images(assembly: Assembly) -> set[tuple[str, int | None]]:
    """Name the frames that are read."""
    return {(f.path.name, f.index) for group in assembly.groups for f in group.frames}


def compressed(dataset: Dataset, syntax: uid.UID, *, extended: bool = False, table: bool) -> None:
    frames = []
    for tile in dataset.pixel_array:
        with BytesIO() as code:
            name = "JPEG" if syntax == uid.JPEGBaseline8Bit else "JPEG2000"
            options = {"quality": 95} if name == "JPEG" else {"no_jp2": True}
            Image.fromarray(tile).save(code, name, **options)  # type: ignore[arg-type]
            frames.append(code.getvalue() + b"\0" * (len(code.getvalue()) % 2))
    if extended:
        dataset.PixelData, offsets, lengths = encapsulate_extended(frames)
        dataset.ExtendedOffsetTable, dataset.ExtendedOffsetTableLengths = offsets, lengths
    else:
        dataset.PixelData = encapsulate(frames, has_bot=table)
    dataset["PixelData"].VR, dataset["PixelData"].is_undefined_length = "OB", True
    is_jpeg = syntax == uid.JPEGBaseline8Bit
    dataset.PhotometricInterpretation = "YBR_FULL_422" if is_jpeg else "YBR_ICT"
    dataset.file_meta.TransferSyntaxUID = syntax


def truth(path: Path, group_index: int | None, tile: int) -> NDArray[np.uint8]:
    frame: NDArray[np.uint8] = dcmread(path).pixel_array[group_index]
    assert frame.shape[0] == tile
    return frame


def test_a_slide_gives_stills_of_tissue_at_half_a_micrometre(tmp_path: Path) -> None:
    paths = slide(tmp_path, new_uid=uid_source(4), size=(2048, 3072))
    groups = assemble(paths).groups
    assert {group.frames[0].path for group in groups} == {paths[1]}, "of 0.25, 0.5 and 1.0 µm"
    for group in groups:
        clip = read_clip(group)
        assert (clip.kind, clip.unit) == (Kind.STILL, Unit.COLOUR)
        assert clip.array.shape == (3, 1, 256, 256)
        assert clip.spacing == pytest.approx((0.0, 0.5e-3, 0.5e-3))
        expected = truth(paths[1], group.frames[0].index, 256)
        np.testing.assert_array_equal(np.moveaxis(clip.array[:, 0], 0, -1), expected)


def test_the_fields_lie_on_the_tissue(tmp_path: Path) -> None:
    paths = small(tmp_path)
    (cy, cx), (ay, ax) = SLIDE_TISSUE
    assembly = assemble(paths)
    assert len(assembly.groups) == MAX_FIELDS
    for group in assembly.groups:
        index = group.frames[0].index or 0
        row, column = divmod(index, SIZE[1] // 64)
        y, x = (row + 0.5) * 64 / SIZE[0] * 2 - 1, (column + 0.5) * 64 / SIZE[1] * 2 - 1
        assert ((y - cy) / ay) ** 2 + ((x - cx) / ax) ** 2 < 1
        assert read_clip(group).array[1].mean() < 200, "glass is 242"


def test_the_same_slide_gives_the_same_fields_in_any_order(tmp_path: Path) -> None:
    paths = small(tmp_path)
    assert assemble(paths) == assemble(paths[::-1])


def test_what_is_not_read_of_a_slide_is_named_with_the_reason(tmp_path: Path) -> None:
    paths = small(tmp_path)
    reasons = {each.sop_instance_uid: each.reason for each in assemble(paths).skipped}
    assert reasons == {paths[1].stem: NOT_CHOSEN, paths[2].stem: LABEL}


@pytest.mark.parametrize("flavour", ["LABEL", "OVERVIEW"])
def test_pictures_of_the_label_are_never_read(tmp_path: Path, flavour: str) -> None:
    path = small(tmp_path)[0]
    edit(path, lambda ds: setattr(ds, "ImageType", ["ORIGINAL", "PRIMARY", flavour, "NONE"]))
    assembly = assemble([path])
    assert not assembly.groups
    assert [each.reason for each in assembly.skipped] == [LABEL]


def test_a_volume_that_shows_the_label_is_not_read(tmp_path: Path) -> None:
    path = small(tmp_path)[0]
    edit(path, lambda ds: setattr(ds, "SpecimenLabelInImage", "YES"))
    assert [each.reason for each in assemble([path]).skipped] == [LABEL]


def test_a_thumbnail_is_read_only_where_there_is_nothing_else(tmp_path: Path) -> None:
    fine, coarse, _ = small(tmp_path)
    edit(fine, lambda ds: setattr(ds, "ImageType", ["DERIVED", "PRIMARY", "THUMBNAIL", "NONE"]))
    assert {name for name, _ in images(assemble([fine, coarse]))} == {coarse.name}
    assert {name for name, _ in images(assemble([fine]))} == {fine.name}


def test_a_slide_of_glass_has_no_tissue(tmp_path: Path) -> None:
    path = small(tmp_path)[0]

    def clean(dataset: Dataset) -> None:
        glass = np.random.default_rng(1).integers(238, 248, dataset.pixel_array.shape)
        dataset.PixelData = glass.astype(np.uint8).tobytes()

    edit(path, clean)
    assembly = assemble([path])
    assert not assembly.groups
    assert [each.reason for each in assembly.skipped] == [NO_TISSUE]


def test_sparse_tiles_stand_where_they_say(tmp_path: Path) -> None:
    full = small(tmp_path / "full")
    sparse = small(tmp_path / "sparse")
    for path in sparse[:2]:
        edit(path, tiled_sparse)
    for one, other in zip(clips(full), reversed(clips(sparse)), strict=True):
        np.testing.assert_array_equal(one.array, other.array)


def test_of_sparse_tiles_that_are_missing_none_is_read(tmp_path: Path) -> None:
    paths = small(tmp_path, levels=1)
    edit(paths[0], lambda ds: tiled_sparse(ds, keep=lambda number: number % 2 == 0))
    for clip in clips(paths):
        assert clip.array[1].mean() < 200


def test_a_concatenation_is_one_image(tmp_path: Path) -> None:
    whole = small(tmp_path / "whole", levels=1)
    parts = [small(tmp_path / str(number), levels=1)[0] for number in range(2)]
    for number, path in enumerate(parts):

        def cut(dataset: Dataset, number: int = number) -> None:
            tiles = dataset.pixel_array
            half = len(tiles) // 2
            dataset.PixelData = tiles[half * number :][:half].tobytes()
            dataset.NumberOfFrames = half
            dataset.ConcatenationUID = "2.25.99"
            dataset.ConcatenationFrameOffsetNumber = half * number
            dataset.SOPInstanceUID = f"2.25.{number + 1}"
            dataset.file_meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID

        edit(path, cut)
    read = clips(parts)
    for one, other in zip(clips(whole), read, strict=True):
        np.testing.assert_array_equal(one.array, other.array)
    assert {clip.sources for clip in read} == {("2.25.1",), ("2.25.2",)}


def test_tiles_that_the_edge_cuts_are_passed_over(tmp_path: Path) -> None:
    tile, size = 64, (200, 200)  # 3 whole tiles and 8 pixels along each axis, filled with black
    path = small(tmp_path, levels=1, size=size, tile=tile)[0]

    def stain(dataset: Dataset) -> None:
        tiles = dataset.pixel_array
        tiles[tiles.any(axis=-1)] = (200, 90, 160)
        dataset.PixelData = tiles.tobytes()

    edit(path, stain)
    found = clips([path])
    assert len(found) == 9
    for clip in found:
        assert clip.array.shape == (3, 1, tile, tile)
        assert clip.array.min() > 0, "no filling is read"


def test_a_field_is_the_middle_of_a_larger_tile(tmp_path: Path) -> None:
    paths = small(tmp_path, levels=1, spacing_um=0.5, tile=384, size=(768, 1152))
    (group, *_) = assemble(paths).groups
    assert group.box is not None
    assert (group.box.top, group.box.bottom, group.box.left, group.box.right) == (64, 320, 64, 320)
    whole = truth(paths[0], group.frames[0].index, 384)
    seen = np.moveaxis(read_clip(group).array[:, 0], 0, -1)
    np.testing.assert_array_equal(seen, whole[64:320, 64:320])


@pytest.mark.parametrize("syntax", [uid.JPEGBaseline8Bit, uid.JPEG2000])
@pytest.mark.parametrize(("extended", "table"), [(False, True), (False, False), (True, False)])
def test_one_compressed_tile_is_read_without_the_others(
    tmp_path: Path, syntax: uid.UID, extended: bool, table: bool
) -> None:
    plain = small(tmp_path / "plain")
    paths = small(tmp_path / "compressed")
    for path in paths[:2]:
        edit(path, lambda ds: compressed(ds, syntax, extended=extended, table=table))
    for one, other in zip(clips(plain), clips(paths), strict=True):
        assert np.abs(one.array.mean((1, 2, 3)) - other.array.mean((1, 2, 3))).max() < 3


def test_a_slide_of_ten_gigapixels_costs_little_to_refuse(tmp_path: Path) -> None:
    path = small(tmp_path, levels=1)[0]

    def boast(dataset: Dataset) -> None:
        dataset.TotalPixelMatrixRows = dataset.TotalPixelMatrixColumns = 100_000
        dataset.NumberOfFrames = (-(-100_000 // 64)) ** 2

    edit(path, boast)
    (unreadable,) = assemble([path]).unreadable
    assert unreadable.reason == "unreadable header (ValueError)", "2.4 million tiles"


def test_of_a_slide_without_a_pyramid_few_tiles_are_decoded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """100,000 x 100,000 pixels in 391 x 391 tiles of 256, all of which are one and the same."""
    path = small(tmp_path, levels=1, tile=256, size=(256, 256), spacing_um=0.5)[0]
    with BytesIO() as code:
        Image.new("RGB", (256, 256), (200, 90, 160)).save(code, "JPEG")
        frame = code.getvalue() + b"\0" * (len(code.getvalue()) % 2)
    count = 391**2

    def grow(dataset: Dataset) -> None:
        dataset.TotalPixelMatrixRows = dataset.TotalPixelMatrixColumns = 100_000
        dataset.NumberOfFrames = count
        dataset.PixelData = encapsulate([frame])
        dataset["PixelData"].VR, dataset["PixelData"].is_undefined_length = "OB", True
        dataset.ExtendedOffsetTable = np.zeros(count, "<u8").tobytes()
        dataset.ExtendedOffsetTableLengths = np.full(count, len(frame), "<u8").tobytes()
        dataset.PhotometricInterpretation = "YBR_FULL_422"
        dataset.file_meta.TransferSyntaxUID = uid.JPEGBaseline8Bit

    edit(path, grow)
    decoded: list[int] = []
    real = tissue.read_tile

    def counting(*arguments: object) -> object:
        decoded.append(1)
        return real(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(tissue, "read_tile", counting)
    read = clips([path])
    assert len(decoded) == tissue.MAX_TILES
    assert len(read) == MAX_FIELDS
    assert {clip.array.shape for clip in read} == {(3, 1, 256, 256)}


@pytest.mark.parametrize(
    "spoil",
    [
        change("TotalPixelMatrixRows", 0),
        change("TotalPixelMatrixColumns", None),
        change("NumberOfFrames", -1),
        change("NumberOfFrames", 2**31 - 1),
        change("Rows", 65535),
        change("PixelData", b"\0\0"),
        change("SharedFunctionalGroupsSequence", []),
        lambda ds: ds.pop("PixelData"),
        lambda ds: setattr(ds.file_meta, "TransferSyntaxUID", uid.DeflatedExplicitVRLittleEndian),
    ],
)
def test_a_damaged_slide_is_unreadable_and_not_fatal(
    tmp_path: Path, spoil: Callable[[Dataset], object]
) -> None:
    path = small(tmp_path, levels=1)[0]

    def both(dataset: Dataset) -> None:
        spoil(dataset)
        if not dataset.SharedFunctionalGroupsSequence:
            del dataset.ImagedVolumeWidth

    edit(path, both)
    assembly = assemble([path])
    assert not assembly.groups
    (unreadable,) = assembly.unreadable
    assert unreadable.sop_instance_uid == path.stem
    assert unreadable.reason
