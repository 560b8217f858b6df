from pathlib import Path

import av
import numpy as np
import pytest
from PIL import Image
from pydicom import dcmread, uid

from encoder.clip import Kind, Unit
from encoder.config import Extent
from encoder.errors import UnreadableImage
from training.manifest import Item, Split, items_below, read_items
from training.phantoms import cine, ct_series, still, uid_source
from training.reading import read_item, read_largest


def test_a_picture_is_read_as_it_is(tmp_path: Path) -> None:
    Image.new("RGB", (6, 4), (200, 0, 0)).save(tmp_path / "a.PNG")

    (item,) = items_below([tmp_path])

    assert read_largest(item).array.shape == (3, 1, 4, 6)


def test_one_item_of_a_series_holds_all_its_slices_in_hounsfield_units(tmp_path: Path) -> None:
    ct_series(tmp_path / "ct", new_uid=uid_source(1), slices=5, size=16)

    (item,) = read_items(tmp_path / "ct")
    (clip,) = read_item(item)

    assert (clip.kind, clip.unit, clip.array.shape) == (
        Kind.VOLUME,
        Unit.HOUNSFIELD,
        (1, 5, 16, 16),
    )


def test_a_row_stands_for_the_largest_clip_of_its_files(tmp_path: Path) -> None:
    new_uid = uid_source(1)
    files = (
        still(tmp_path, new_uid=new_uid, size=(16, 16)),
        cine(tmp_path, new_uid=new_uid, frames=4, size=(16, 16)),
    )
    item = Item("both", files, Split.TRAIN, Kind.CINE, modality="US")

    assert sorted(clip.array.shape[1] for clip in read_item(item)) == [1, 4]
    assert read_largest(item).array.shape[1] == 4


def test_planes_are_shrunk_while_they_are_read_where_an_extent_is_given(tmp_path: Path) -> None:
    ct_series(tmp_path, new_uid=uid_source(1), slices=4, size=64)
    (item,) = read_items(tmp_path)

    assert read_largest(item, Extent(4, 32, 32)).array.shape == (1, 4, 32, 32)


def test_a_damaged_dicom_file_is_named(tmp_path: Path) -> None:
    (tmp_path / "torn.dcm").write_bytes(bytes(128) + b"DICM\x02\x00\x00\x00UL\x04")
    (item,) = read_items(tmp_path)

    with pytest.raises(UnreadableImage, match=r"torn\.dcm.*unreadable header"):
        read_largest(item)


def test_a_dicom_object_without_an_image_says_so(tmp_path: Path) -> None:
    path = still(tmp_path, new_uid=uid_source(1), size=(16, 16))
    dataset = dcmread(path)
    dataset.SOPClassUID = dataset.file_meta.MediaStorageSOPClassUID = uid.BasicTextSRStorage
    dataset.save_as(path)
    (item,) = read_items(tmp_path)

    with pytest.raises(UnreadableImage, match="a structured report"):
        read_largest(item)


def test_the_manifest_says_how_far_the_frames_of_a_film_are_apart(tmp_path: Path) -> None:
    with av.open(str(tmp_path / "a.mp4"), "w") as container:
        stream = container.add_stream("mpeg4", rate=25)
        stream.height, stream.width, stream.pix_fmt = 32, 32, "yuv420p"
        for _ in range(3):
            frame = av.VideoFrame.from_ndarray(np.zeros((32, 32, 3), np.uint8), format="rgb24")
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    item = Item("a.mp4", (tmp_path / "a.mp4",), Split.TRAIN, Kind.CINE, "US", frame_time_ms=50.0)

    assert read_largest(item).spacing[0] == pytest.approx(0.05)
