import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from towers import CONFIG, VOCABULARY, small_network, small_tower

from encoder.errors import BadCheckpoint
from encoder.tensor_folder import DESCRIPTION_FILE, TENSOR_FILE
from encoder.text_checkpoint import (
    VOCABULARY_FILE,
    Storage,
    load,
    save,
    stored,
    text_model_id,
)


def saved(folder: Path) -> Path:
    save(folder / "text", small_tower())
    return folder / "text"


@pytest.mark.parametrize("storage", Storage)
def test_what_is_saved_loads_with_the_same_id_and_weights(tmp_path: Path, storage: Storage) -> None:
    tower = small_tower(storage=storage)
    save(tmp_path / "text", tower)
    loaded = load(tmp_path / "text")
    assert loaded.description == tower.description
    assert loaded.vocabulary == VOCABULARY
    assert text_model_id(loaded) == text_model_id(tower)
    for name, tensor in tower.network.items():
        assert torch.equal(loaded.network[name], tensor), name
    assert [path.name for path in tmp_path.iterdir()] == ["text"]


def test_8_bits_are_off_by_half_a_step_at_most_and_take_half_the_room_of_half_precision() -> None:
    network = small_network()
    restored = small_tower(storage=Storage.INT8).network
    for name, tensor in network.items():
        if tensor.ndim == 2:
            step = tensor.abs().amax(dim=1, keepdim=True) / 127
            assert ((restored[name] - tensor).abs() <= step * 0.5001).all(), name
        else:
            np.testing.assert_allclose(restored[name], tensor, rtol=1e-3, atol=1e-3)
    sizes = {
        storage: sum(t.nbytes for t in stored(network, storage).values() if t.ndim == 2)
        for storage in Storage
    }
    assert sizes[Storage.INT8] * 2 == sizes[Storage.HALF]


def test_a_matrix_of_zeros_survives_8_bits() -> None:
    tensors = stored({"a": torch.zeros(3, 4)}, Storage.INT8)
    assert tensors["a"].count_nonzero() == 0
    assert tensors["a.scale"].isfinite().all()


def test_the_id_changes_with_config_words_weights_and_storage() -> None:
    base = small_tower()
    narrower = replace(base.description, config=replace(CONFIG, heads=4))
    others = [
        replace(base, description=narrower),
        replace(base, vocabulary=(*VOCABULARY[:-1], "thorax")),
        small_tower(seed=2),
        small_tower(storage=Storage.INT8),
    ]
    assert len({text_model_id(each) for each in [base, *others]}) == 5
    renamed = replace(base, description=replace(base.description, name="other", metrics={"x": 1}))
    assert text_model_id(renamed) == text_model_id(base)


@pytest.mark.parametrize(
    ("key", "value", "words"),
    [
        ("format", 2, "has format 2"),
        ("surprise", 1, "surprise"),
        ("config", {"width": 24}, "config"),
        ("config", {"vocabulary": 9, "width": 5, "depth": 1, "heads": 2, "hidden": 4, "tokens": 4},
         "multiple of heads"),
    ],
)  # fmt: skip
def test_a_description_of_another_make_is_refused(
    tmp_path: Path, key: str, value: object, words: str
) -> None:
    path = saved(tmp_path) / DESCRIPTION_FILE
    path.write_text(json.dumps({**json.loads(path.read_text()), key: value}))
    with pytest.raises(BadCheckpoint, match=words):
        load(path.parent)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (None, "cannot be read"),
        (b"\xff\xfe", "not UTF-8"),
        (b"chest\n", "has 1 pieces"),
        ("\n".join(["chest"] * len(VOCABULARY)).encode(), "twice"),
    ],
)
def test_a_vocabulary_that_does_not_fit_is_refused(
    tmp_path: Path, content: bytes | None, words: str
) -> None:
    path = saved(tmp_path) / VOCABULARY_FILE
    path.unlink()
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(BadCheckpoint, match=words):
        load(path.parent)


def test_tensors_cut_short_or_missing_are_refused(tmp_path: Path) -> None:
    path = saved(tmp_path) / TENSOR_FILE
    path.write_bytes(path.read_bytes()[:-10])
    with pytest.raises(BadCheckpoint, match="cut short"):
        load(path.parent)
    path.unlink()
    with pytest.raises(BadCheckpoint, match="missing"):
        load(path.parent)


@pytest.mark.parametrize("scale", [None, torch.ones(3), torch.full((24,), torch.nan)])
def test_8_bits_without_their_scales_are_refused_before_anything_is_written(
    tmp_path: Path, scale: torch.Tensor | None
) -> None:
    tower = small_tower(storage=Storage.INT8)
    tensors = dict(tower.tensors)
    del tensors["blocks.0.projection.weight.scale"]
    if scale is not None:
        tensors["blocks.0.projection.weight.scale"] = scale
    with pytest.raises(BadCheckpoint, match=r"projection\.weight\.scale"):
        save(tmp_path / "text", replace(tower, tensors=tensors))
    assert not list(tmp_path.iterdir())


def test_a_pickle_is_never_read(tmp_path: Path) -> None:
    torch.save({"weight": torch.zeros(1)}, tmp_path / "model.bin")
    with pytest.raises(BadCheckpoint, match="is a pickle"):
        load(tmp_path)
