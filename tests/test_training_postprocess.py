from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from evaluations import write_manifest

from encoder.checkpoint import CENTRE, WHITEN, Checkpoint, Description, load, model_id, save
from encoder.config import EncoderConfig, Extent, Pooling
from encoder.embedder import Embedder
from encoder.model import initial_weights
from training.errors import NothingToScore
from training.manifest import Item, Split, read_items
from training.postprocess import Candidate, _tensors, finish
from training.reading import read_largest

SMALL = EncoderConfig(
    width=24,
    depth=1,
    heads=2,
    still=Extent(1, 32, 32),
    volume=Extent(8, 32, 32),
    cine=Extent(4, 32, 32),
)
CHECKPOINT = Checkpoint(
    Description(format=1, name="test", trained=False, seed=1, config=SMALL, metrics={"loss": 0.5}),
    initial_weights(SMALL, 1),
)


def made(folder: Path) -> tuple[Item, ...]:
    return read_items(write_manifest(folder, per_class=12))


def test_what_is_chosen_is_the_best_of_what_was_tried(tmp_path: Path) -> None:
    finished = finish(CHECKPOINT, made(tmp_path), lambda: None, device="cpu")

    best, *others = finished.tried
    assert len({one.candidate for one in finished.tried}) == len(finished.tried) > 10
    assert {one.candidate.pooling for one in finished.tried} == set(Pooling)
    assert best.map_at_10 == max(one.map_at_10 for one in others)
    description = finished.checkpoint.description
    assert description.config.pooling is best.candidate.pooling
    assert description.metrics == {"loss": 0.5, "held_out_map_at_10": best.map_at_10}
    assert (CENTRE in finished.checkpoint.tensors) is best.candidate.centred
    assert (WHITEN in finished.checkpoint.tensors) is bool(best.candidate.dim)
    assert 0.5 < best.map_at_10 <= 1.0


def test_the_finished_checkpoint_is_saved_loaded_and_embeds(tmp_path: Path) -> None:
    items = made(tmp_path / "data")
    finished = finish(CHECKPOINT, items, lambda: None, device="cpu")

    save(tmp_path / "finished", finished.checkpoint)
    loaded = load(tmp_path / "finished")

    assert model_id(loaded) == model_id(finished.checkpoint) != model_id(CHECKPOINT)
    vectors = Embedder(loaded, device="cpu").embed([read_largest(items[0])])
    assert vectors.shape == (1, loaded.dim)


def test_the_eval_split_has_no_influence(tmp_path: Path) -> None:
    items = made(tmp_path)
    train_only = [item for item in items if item.split is Split.TRAIN]

    with_eval = finish(CHECKPOINT, items, lambda: None, device="cpu")
    without = finish(CHECKPOINT, train_only, lambda: None, device="cpu")

    assert with_eval.tried == without.tried
    assert model_id(with_eval.checkpoint) == model_id(without.checkpoint)


def test_former_tensors_of_this_step_are_replaced(tmp_path: Path) -> None:
    items = made(tmp_path)
    whitened = replace(
        CHECKPOINT,
        tensors={**CHECKPOINT.tensors, CENTRE: torch.ones(48), WHITEN: torch.eye(48)[:, :5]},
    )

    again = finish(whitened, items, lambda: None, device="cpu")

    once = finish(CHECKPOINT, items, lambda: None, device="cpu")
    assert model_id(again.checkpoint) == model_id(once.checkpoint)


def test_without_labels_there_is_nothing_to_choose_by(tmp_path: Path) -> None:
    unlabelled = [replace(item, label="") for item in made(tmp_path)]

    with pytest.raises(NothingToScore, match="labels of two classes"):
        finish(CHECKPOINT, unlabelled, lambda: None, device="cpu")


@pytest.mark.parametrize(("shrinkage", "expected"), [(0.0, 1.0), (0.5, None)])
def test_whitening_brings_the_main_directions_to_variance_one(
    shrinkage: float, expected: float | None
) -> None:
    random = np.random.default_rng(0)
    scales = np.array([9.0, 4.0, 2.0, 0.5])
    vectors = torch.from_numpy(random.normal(size=(500, 4)) * scales + 3).float()

    tensors = _tensors(vectors, Candidate(Pooling.MEAN, True, 2, shrinkage))
    whitened = ((vectors - tensors[CENTRE]) @ tensors[WHITEN]).numpy()

    covariance = np.cov(whitened, rowvar=False, ddof=0)
    assert covariance[0, 1] == pytest.approx(0, abs=1e-3)
    if expected is not None:
        assert np.diag(covariance) == pytest.approx([expected] * 2, rel=1e-3)
    else:
        # Directions are ascending; the larger is held back less by the shrinkage.
        variances = np.linalg.eigvalsh(np.cov(vectors.numpy(), rowvar=False, ddof=0))
        mean = variances.mean()
        shrunk = variances[2:] / (0.5 * variances[2:] + 0.5 * mean)
        assert np.diag(covariance) == pytest.approx(shrunk, rel=1e-3)
