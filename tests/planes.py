"""Slices of a plane function of patient space: every voxel's true value follows from its place.

Linear interpolation keeps a plane exactly, and its gradient differs along every axis.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from pydicom import dcmread

from encoder.clip import Clip, Kind
from encoder.geometry import Vector
from encoder.series import Assembly, assemble
from encoder.volume import read_clip
from training.phantoms import ct_series, uid_source

SIZE = (12, 16)  # rows and columns
PIXEL_MM = (0.75, 0.5)
GRADIENT = np.array([7.0, -11.0, 13.0])  # HU per mm along x, y, z
X_MM, Y_MM, Z_MM = -3.0, -5.0, 20.0  # of the first pixel of the first slice
FRAME_OF_REFERENCE = "2.25.7"
CLEAN_MM = [2.0 * number for number in range(8)]


@dataclass(frozen=True)
class Plane:
    """Where one slice is cut, and what its header says besides."""

    origin_mm: Vector
    row: Vector = (1.0, 0.0, 0.0)
    column: Vector = (0.0, 1.0, 0.0)
    size: tuple[int, int] = SIZE
    pixel_mm: tuple[float, float] = PIXEL_MM
    offset: float = 0.0  # added to the true value, to know the stack by
    intercept: float = -2048.0
    stated_orientation: tuple[float, ...] | None = None
    header: tuple[tuple[str, object], ...] = ()

    def values(self) -> NDArray[np.float64]:
        return truth(self.origin_mm, self.row, self.column, self.size, self.pixel_mm) + self.offset


def truth(
    origin_mm: Sequence[float],
    row: Sequence[float],
    column: Sequence[float],
    size: tuple[int, int],
    pixel_mm: tuple[float, float] = PIXEL_MM,
) -> NDArray[np.float64]:
    """Values (H, W) of the plane function on a slice."""
    down = np.arange(size[0])[:, None, None] * pixel_mm[0] * np.array(column)
    along = np.arange(size[1])[None, :, None] * pixel_mm[1] * np.array(row)
    values: NDArray[np.float64] = (np.array(origin_mm) + down + along) @ GRADIENT
    return values


def axial(z_mm: Sequence[float], **changes: Any) -> list[Plane]:
    return [Plane((X_MM, Y_MM, Z_MM + z), **changes) for z in z_mm]


def write(folder: Path, planes: Sequence[Plane]) -> list[Path]:
    """Write each plane as one CT image, InstanceNumber in the order given; 1/8 HU precision."""
    paths = ct_series(folder, new_uid=uid_source(5), slices=len(planes), size=4)
    for path, plane in zip(paths, planes, strict=True):
        dataset = dcmread(path)
        stored = np.rint((plane.values() - plane.intercept) * 8).astype(np.uint16)
        dataset.Rows, dataset.Columns = plane.size
        dataset.PixelData = stored.tobytes()
        dataset.BitsStored, dataset.HighBit = 16, 15
        dataset.RescaleSlope, dataset.RescaleIntercept = 0.125, plane.intercept
        dataset.PixelSpacing = list(plane.pixel_mm)
        dataset.FrameOfReferenceUID = FRAME_OF_REFERENCE
        stated = plane.stated_orientation or (*plane.row, *plane.column)
        dataset.ImageOrientationPatient = [f"{value:.8f}" for value in stated]
        dataset.ImagePositionPatient = [f"{value:.6f}" for value in plane.origin_mm]
        for keyword, value in plane.header:
            setattr(dataset, keyword, value)
        dataset.save_as(path)
    return paths


def assembled(folder: Path, planes: Sequence[Plane]) -> Assembly:
    assembly = assemble(write(folder, planes))
    assert not assembly.unreadable
    return assembly


def clips(folder: Path, planes: Sequence[Plane]) -> list[Clip]:
    return [read_clip(group) for group in assembled(folder, planes).groups]


def check_axial(
    clip: Clip, z_mm: Sequence[float], *, offset: float = 0.0, tolerance_hu: float = 0.07
) -> None:
    """Every voxel of an untilted axial volume holds the true value of its place."""
    assert clip.kind is Kind.VOLUME
    assert clip.valid is None
    expected = np.stack([plane.values() for plane in axial(z_mm, offset=offset)])
    assert clip.array.shape[1:] == expected.shape
    np.testing.assert_allclose(clip.array[0], expected, atol=tolerance_hu)
    assert clip.spacing == pytest.approx((np.diff(z_mm).mean(), *PIXEL_MM), abs=1e-3)
