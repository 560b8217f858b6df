from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from encoder.checkpoint import CENTRE, WHITEN, Checkpoint, Description, load
from encoder.clip import Clip, Kind, Unit
from encoder.config import EncoderConfig, Extent, Pooling
from encoder.device import choose
from encoder.embedder import BATCH_TOKENS, Embedder, pool
from encoder.errors import EncoderError
from encoder.model import build, initial_weights
from encoder.pixels import read
from encoder.series import assemble
from training.phantoms import cine, ct_series, still, uid_source

SMALL = EncoderConfig(
    width=48,
    depth=2,
    heads=4,
    still=Extent(1, 32, 32),
    volume=Extent(8, 32, 32),
    cine=Extent(4, 32, 32),
)
DESCRIPTION = Description(format=1, name="test", trained=False, seed=1, config=SMALL)
SMALL_CHECKPOINT = Checkpoint(DESCRIPTION, initial_weights(SMALL, 1))


def small(dtype: torch.dtype = torch.float32) -> Embedder:
    return Embedder(SMALL_CHECKPOINT, device="cpu", dtype=dtype)


def clip(kind: Kind, seed: int) -> Clip:
    frames = 1 if kind is Kind.STILL else 6
    array = np.random.default_rng(seed).random((1, frames, 40, 30), dtype=np.float32)
    return Clip(array, (1.0, 1.0, 1.0), kind, Unit.STORED, None, (f"1.2.{seed}",))


def phantoms(folder: Path) -> list[Clip]:
    new_uid = uid_source(1)
    paths = [
        *ct_series(folder, new_uid=new_uid, slices=8, size=64),
        cine(folder, new_uid=new_uid, frames=8, size=(48, 64)),
        still(folder, new_uid=new_uid, size=(64, 48)),
    ]
    return [read(group) for group in assemble(paths).groups]


def test_files_of_every_kind_become_unit_vectors_of_the_shipped_encoder(tmp_path: Path) -> None:
    embedder = Embedder(load(), device="cpu")
    vectors = embedder.embed(phantoms(tmp_path))
    assert vectors.shape == (3, embedder.dim)
    assert vectors.dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, rtol=1e-6)
    assert embedder.version == f"similis-tiny-distilled {embedder.model_id} (trained)"


def test_order_is_kept_when_kinds_are_mixed() -> None:
    embedder = small()
    clips = [clip(kind, seed) for seed in range(3) for kind in Kind]
    together = embedder.embed(clips)
    alone = np.concatenate([embedder.embed([each]) for each in clips])
    np.testing.assert_allclose(together, alone, atol=1e-6)


def test_more_clips_than_fit_one_batch_are_all_embedded() -> None:
    embedder = small()
    many = [clip(Kind.STILL, seed=index % 3) for index in range(BATCH_TOKENS // 4 + 5)]
    vectors = embedder.embed(many)
    np.testing.assert_allclose(vectors[3:], vectors[:-3], atol=1e-6)
    assert not np.allclose(vectors[0], vectors[1], atol=1e-4)


def test_no_clips_give_no_rows() -> None:
    assert small().embed([]).shape == (0, 96)


def test_the_same_clip_gives_the_same_bits() -> None:
    clips = [clip(Kind.VOLUME, 1)]
    np.testing.assert_array_equal(small().embed(clips), small().embed(clips))


@pytest.mark.skipif(
    not torch.ops.mkldnn._is_mkldnn_bf16_supported(), reason="this CPU has no bf16 arithmetic"
)
def test_bf16_stays_within_a_thousandth_of_fp32_in_cosine(tmp_path: Path) -> None:
    clips = phantoms(tmp_path)
    fp32, bf16 = (
        Embedder(load(), device="cpu", dtype=dtype).embed(clips)
        for dtype in (torch.float32, torch.bfloat16)
    )
    assert (fp32 * bf16).sum(axis=1).min() > 0.999


def test_a_clip_that_is_not_finite_is_an_error_not_a_vector() -> None:
    broken = clip(Kind.STILL, 1)
    broken.array[...] = np.nan
    with pytest.raises(EncoderError, match="not finite"):
        small().embed([broken])


def test_centre_and_whitening_are_applied_before_the_length() -> None:
    centre, whiten = torch.full((96,), 0.01), torch.randn(96, 5)
    tensors = {**SMALL_CHECKPOINT.tensors, CENTRE: centre, WHITEN: whiten}
    clips = [clip(Kind.STILL, 1), clip(Kind.STILL, 2)]
    # Both halves of a pooled vector have length 1, so the plain unit vector is it over root 2.
    pooled = small().embed(clips) * 2**0.5
    expected = (pooled - centre.numpy()) @ whiten.numpy()
    expected /= np.linalg.norm(expected, axis=1, keepdims=True)
    embedder = Embedder(replace(SMALL_CHECKPOINT, tensors=tensors), device="cpu")
    assert embedder.dim == 5
    np.testing.assert_allclose(embedder.embed(clips), expected, atol=0.02)


@pytest.mark.parametrize(("pooling", "width"), [("cls", 4), ("mean", 4), ("both", 8)])
def test_pooling_takes_what_its_name_says(pooling: str, width: int) -> None:
    cls, tokens = torch.tensor([[2.0, 0, 0, 0]]), torch.tensor([[[0, 1.0, 0, 0], [0, 3.0, 0, 0]]])
    pooled = pool(cls, tokens.mean(dim=1), Pooling(pooling))
    expected = {"cls": [2.0, 0, 0, 0], "mean": [0, 2.0, 0, 0], "both": [1.0, 0, 0, 0, 0, 1, 0, 0]}
    assert pooled.shape == (1, width)
    assert pooled[0].tolist() == expected[pooling]


def test_the_device_is_chosen_with_a_reason() -> None:
    encoder = build(SMALL, SMALL_CHECKPOINT.network)
    choice = choose(encoder, device="cpu")
    assert choice.device == "cpu"
    assert "faster" in choice.reason or choice.reason == "no fast bf16 here"


def test_a_given_dtype_is_not_questioned() -> None:
    assert small(torch.bfloat16).choice.dtype is torch.bfloat16


@pytest.mark.skipif(torch.cuda.is_available(), reason="the device is there")
def test_a_device_that_is_not_there_is_refused_with_advice() -> None:
    with pytest.raises(EncoderError, match="use auto or cpu"):
        Embedder(SMALL_CHECKPOINT, device="cuda")
