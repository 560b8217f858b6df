import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from encoder import space_checkpoint
from encoder.checkpoint import (
    CENTRE,
    SHIPPED,
    WHITEN,
    Checkpoint,
    Description,
    load,
    model_id,
    save,
)
from encoder.config import PRESETS, EncoderConfig, Extent
from encoder.errors import BadCheckpoint
from encoder.model import initial_weights
from encoder.tensor_folder import DESCRIPTION_FILE, TENSOR_FILE

SMALL = EncoderConfig(
    width=24,
    depth=1,
    heads=2,
    still=Extent(1, 32, 32),
    volume=Extent(4, 32, 32),
    cine=Extent(4, 32, 32),
)


def checkpoint(seed: int = 1) -> Checkpoint:
    description = Description(
        format=1, name="test", trained=True, seed=seed, config=SMALL, metrics={"map": 0.5}
    )
    return Checkpoint(description, initial_weights(SMALL, seed))


def saved(folder: Path) -> Path:
    save(folder / "encoder", checkpoint())
    return folder / "encoder"


def test_the_shipped_encoder_is_a_trained_tiny_one_and_says_what_trained_it() -> None:
    shipped = load()
    assert shipped.description.name == "similis-tiny-distilled"
    assert shipped.description.trained
    assert shipped.description.config == PRESETS["tiny"]
    assert sum(path.stat().st_size for path in SHIPPED.iterdir() if path.is_file()) < 25_000_000
    card = (SHIPPED / "MODEL_CARD.md").read_text(encoding="utf-8")
    assert f"`{model_id(shipped)}`" in card


def test_the_shipped_encoder_has_the_same_id_on_every_machine() -> None:
    assert model_id(load()) == "4abb65629b3957be"


def test_an_encoder_trained_by_self_supervision_alone_lies_beside_it() -> None:
    alone = load(SHIPPED / "self-supervised")
    assert alone.description.name == "similis-nano-joint"
    assert alone.description.trained
    card = (SHIPPED / "MODEL_CARD.md").read_text(encoding="utf-8")
    assert f"`{model_id(alone)}`" in card


def test_the_card_names_the_shipped_text_space() -> None:
    card = (SHIPPED / "MODEL_CARD.md").read_text(encoding="utf-8")
    assert f"| space id | `{space_checkpoint.space_id(space_checkpoint.load())}`" in card


def test_what_is_saved_loads_with_the_same_id(tmp_path: Path) -> None:
    loaded = load(saved(tmp_path))
    assert loaded.description == checkpoint().description
    assert model_id(loaded) == model_id(checkpoint())


def test_saving_again_replaces_the_folder_and_leaves_nothing_beside(tmp_path: Path) -> None:
    folder = saved(tmp_path)
    save(folder, checkpoint(seed=2))
    assert model_id(load(folder)) == model_id(checkpoint(seed=2))
    assert [path.name for path in tmp_path.iterdir()] == ["encoder"]


def test_the_id_changes_with_config_weights_names_and_dtype() -> None:
    base = checkpoint()
    name, tensor = next(iter(base.tensors.items()))
    others = [
        replace(base, description=replace(base.description, config=replace(SMALL, heads=4))),
        replace(base, tensors={**base.tensors, name: tensor + 1}),
        replace(base, tensors={**base.tensors, name: tensor.half()}),
        replace(base, tensors={**base.tensors, CENTRE: torch.zeros(48)}),
    ]
    assert len({model_id(each) for each in [base, *others]}) == 5


def test_the_id_ignores_metrics_and_the_order_of_tensors() -> None:
    base = checkpoint()
    described = replace(base.description, metrics={})
    reordered = dict(reversed(base.tensors.items()))
    assert model_id(Checkpoint(described, reordered)) == model_id(base)


def test_whitening_sets_the_length_of_the_vectors(tmp_path: Path) -> None:
    extra = {CENTRE: torch.zeros(48), WHITEN: torch.ones(48, 7)}
    base = checkpoint()
    save(tmp_path / "encoder", replace(base, tensors={**base.tensors, **extra}))
    loaded = load(tmp_path / "encoder")
    assert (base.dim, loaded.dim) == (48, 7)
    assert loaded.network.keys() == base.tensors.keys()


@pytest.mark.parametrize(
    ("key", "value", "words"),
    [
        ("format", 2, "has format 2, this version reads 1"),
        ("surprise", 1, "surprise"),
        ("name", None, "name"),
        ("config", {"width": 24}, "config"),
    ],
)
def test_a_description_of_another_make_is_refused(
    tmp_path: Path, key: str, value: object, words: str
) -> None:
    path = saved(tmp_path) / DESCRIPTION_FILE
    path.write_text(json.dumps({**json.loads(path.read_text()), key: value}))
    with pytest.raises(BadCheckpoint, match=words):
        load(path.parent)


def test_a_description_that_is_not_json_is_refused(tmp_path: Path) -> None:
    path = saved(tmp_path) / DESCRIPTION_FILE
    path.write_text("{")
    with pytest.raises(BadCheckpoint, match="Invalid JSON"):
        load(path.parent)


def test_a_missing_folder_is_refused_with_advice(tmp_path: Path) -> None:
    with pytest.raises(BadCheckpoint, match="Name the folder"):
        load(tmp_path / "nothing")


def test_tensors_cut_short_are_refused(tmp_path: Path) -> None:
    path = saved(tmp_path) / TENSOR_FILE
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(BadCheckpoint, match="cut short"):
        load(path.parent)


def test_a_trained_encoder_without_its_tensors_is_refused(tmp_path: Path) -> None:
    folder = saved(tmp_path)
    (folder / TENSOR_FILE).unlink()
    with pytest.raises(BadCheckpoint, match="missing"):
        load(folder)


@pytest.mark.parametrize("change", ["missing", "unknown", "misshapen", "not finite"])
def test_tensors_that_do_not_fit_are_refused_before_anything_is_written(
    tmp_path: Path, change: str
) -> None:
    tensors = dict(checkpoint().tensors)
    if change == "missing":
        del tensors["norm.bias"]
    else:
        name = "unheard of" if change == "unknown" else "norm.bias"
        tensors[name] = torch.full((23 if change == "misshapen" else 24,), torch.nan)
    with pytest.raises(BadCheckpoint, match=r"norm\.bias|unheard of"):
        save(tmp_path / "encoder", replace(checkpoint(), tensors=tensors))
    assert not list(tmp_path.iterdir())


def test_a_pickle_is_never_read(tmp_path: Path) -> None:
    path = tmp_path / "model.pt"
    torch.save({"weight": torch.zeros(1)}, path)
    for place in (path, tmp_path):
        with pytest.raises(BadCheckpoint, match="is a pickle"):
            load(place)
