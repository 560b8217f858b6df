"""Slides of known tissue, and changes to how their tiles are stored."""

from collections.abc import Callable
from pathlib import Path

from pydicom import Dataset, dcmread

from training.phantoms import slide, uid_source

SIZE = (512, 768)


def small(folder: Path, **changes: object) -> list[Path]:
    options: dict[str, object] = {"size": SIZE, "tile": 64, "levels": 2, "spacing_um": 1.0}
    return slide(folder, new_uid=uid_source(4), **{**options, **changes})  # type: ignore[arg-type]


def edit(path: Path, change: Callable[[Dataset], object]) -> None:
    dataset = dcmread(path)
    change(dataset)
    dataset.save_as(path)


def tiled_sparse(dataset: Dataset, *, keep: Callable[[int], bool] = lambda number: True) -> None:
    """Say the place of each frame, in reverse order, as TILED_SPARSE."""
    across = -(-dataset.TotalPixelMatrixColumns // dataset.Columns)
    tiles = dataset.pixel_array
    order = [number for number in reversed(range(len(tiles))) if keep(number)]
    frames = []
    for number in order:
        place, frame = Dataset(), Dataset()
        place.RowPositionInTotalImagePixelMatrix = number // across * dataset.Rows + 1
        place.ColumnPositionInTotalImagePixelMatrix = number % across * dataset.Columns + 1
        frame.PlanePositionSlideSequence = [place]
        frames.append(frame)
    dataset.PerFrameFunctionalGroupsSequence = frames
    dataset.DimensionOrganizationType = "TILED_SPARSE"
    dataset.NumberOfFrames = len(order)
    dataset.PixelData = tiles[order].tobytes()


def change(keyword: str, value: object) -> Callable[[Dataset], None]:
    return lambda dataset: setattr(dataset, keyword, value)
