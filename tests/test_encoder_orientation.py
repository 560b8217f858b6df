"""However a series is stored, its clip stands the same way."""

from itertools import product
from pathlib import Path

import numpy as np
import pytest
from planes import CLEAN_MM, PIXEL_MM, SIZE, X_MM, Y_MM, Z_MM, Plane, axial, clips, write
from pydicom import dcmread

from encoder.geometry import Vector
from encoder.series import assemble
from encoder.volume import read_clip


def stored(plane: Plane, *, transposed: bool, rows: bool, columns: bool) -> Plane:
    """The same cut with its matrix written another way."""
    origin, row, column = (np.array(v) for v in (plane.origin_mm, plane.row, plane.column))
    (height, width), (row_mm, column_mm) = plane.size, plane.pixel_mm
    if columns:
        origin, row = origin + (width - 1) * column_mm * row, -row
    if rows:
        origin, column = origin + (height - 1) * row_mm * column, -column
    if transposed:
        row, column = column, row
        height, width, row_mm, column_mm = width, height, column_mm, row_mm
    return Plane(tuple(origin), tuple(row), tuple(column), (height, width), (row_mm, column_mm))


VIEWS: dict[str, tuple[Vector, Vector]] = {
    "axial": ((1.0, 0.0, 0.0), (0.0, 1.0, 0.0)),
    "coronal": ((1.0, 0.0, 0.0), (0.0, 0.0, -1.0)),
    "sagittal": ((0.0, 1.0, 0.0), (0.0, 0.0, -1.0)),
    "oblique": ((0.8, 0.6, 0.0), (0.0, 0.0, -1.0)),
}


@pytest.mark.parametrize("view", VIEWS)
def test_a_volume_is_the_same_however_it_is_stored(tmp_path: Path, view: str) -> None:
    row, column = VIEWS[view]
    normal = np.cross(row, column)
    planes = [
        Plane(tuple(np.array([X_MM, Y_MM, Z_MM]) + 2.0 * number * normal), row, column)
        for number in range(5)
    ]
    expected = np.stack([plane.values() for plane in planes])
    ways = list(product([False, True], repeat=4))
    for number, (backwards, transposed, rows, columns) in enumerate(ways):
        written = [
            stored(plane, transposed=transposed, rows=rows, columns=columns)
            for plane in (planes[::-1] if backwards else planes)
        ]
        (clip,) = clips(tmp_path / str(number), written)
        np.testing.assert_allclose(clip.array[0], expected, atol=0.07)
        assert clip.spacing == pytest.approx((2.0, *PIXEL_MM))
        (lone,) = clips(tmp_path / f"{number} alone", written[:1])
        np.testing.assert_allclose(lone.array[0, 0], expected[-1 if backwards else 0], atol=0.07)


def test_padding_turns_with_its_pixels(tmp_path: Path) -> None:
    planes = [stored(plane, transposed=True, rows=True, columns=False) for plane in axial(CLEAN_MM)]
    paths = write(tmp_path, planes)
    for path in paths:
        dataset = dcmread(path)
        pixels = dataset.pixel_array.copy()
        pixels[0, 3] = 0
        dataset.PixelData = pixels.tobytes()
        dataset.add_new("PixelPaddingValue", "US", 0)
        dataset.save_as(path)
    (clip,) = map(read_clip, assemble(paths).groups)
    assert clip.valid is not None
    # Stored column 3 counts from the last row, stored row 0 is the first column.
    assert np.argwhere(~clip.valid[0]).tolist() == [[SIZE[0] - 4, 0]]
