import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from training.errors import BadVectorsFile
from training.vectors_file import load, save

IDS = ["a/b.jpg", "größe.png", "c"]
VECTORS = np.random.default_rng(0).normal(size=(3, 4)).astype(np.float32)


def test_what_is_saved_is_loaded(tmp_path: Path) -> None:
    save(tmp_path / "v.npz", IDS, VECTORS, "f00d")

    found = load(tmp_path / "v.npz")

    assert (found.ids, found.model_id) == (tuple(IDS), "f00d")
    assert (found.vectors == VECTORS).all()
    assert [path.name for path in tmp_path.iterdir()] == ["v.npz"]


def test_numpy_alone_opens_it_without_pickle(tmp_path: Path) -> None:
    save(tmp_path / "v.npz", IDS, VECTORS, "f00d")
    code = (
        "import numpy, sys; z = numpy.load(sys.argv[1], allow_pickle=False);"
        "sys.stdout.write(f\"{z['ids'].dtype.kind} {z['vectors'].dtype} {z['model_id']}\")"
    )

    said = subprocess.run(
        [sys.executable, "-c", code, tmp_path / "v.npz"], capture_output=True, text=True, check=True
    )

    assert said.stdout == "U float32 f00d"


def test_no_rows_are_rows_too(tmp_path: Path) -> None:
    save(tmp_path / "v.npz", [], np.empty((0, 4), np.float32), "x")

    assert load(tmp_path / "v.npz").vectors.shape == (0, 4)


def test_another_file_is_refused_by_name(tmp_path: Path) -> None:
    path = tmp_path / "v.npz"
    for content in (b"", b"no zip", b"PK\x03\x04 cut short"):
        path.write_bytes(content)
        with pytest.raises(BadVectorsFile, match=r"v\.npz"):
            load(path)
    with pytest.raises(BadVectorsFile, match=r"gone\.npz"):
        load(tmp_path / "gone.npz")


@pytest.mark.parametrize(
    "arrays",
    [
        {"ids": np.array(["a"])},
        {"format": 1, "ids": np.array(["a"]), "vectors": VECTORS, "model_id": "x"},
        {"format": 9, "ids": np.array(IDS), "vectors": VECTORS, "model_id": "x"},
        {"format": 1, "ids": np.array([{}]), "vectors": VECTORS[:1], "model_id": "x"},
    ],
)
def test_arrays_that_do_not_fit_are_refused(tmp_path: Path, arrays: dict[str, object]) -> None:
    path = tmp_path / "v.npz"
    np.savez(path, **{name: np.asarray(value) for name, value in arrays.items()})

    with pytest.raises(BadVectorsFile):
        load(path)
