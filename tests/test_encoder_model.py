import dataclasses

import pytest
import torch
from torch.nn import functional

from encoder.clip import Kind
from encoder.config import PRESETS, EncoderConfig, Extent
from encoder.model import (
    EXPLICIT_BELOW_TOKENS,
    Encoder,
    attend,
    build,
    initial_weights,
    sincos,
    weight_shapes,
)

SMALL = EncoderConfig(
    width=24,
    depth=2,
    heads=2,
    still=Extent(1, 32, 32),
    volume=Extent(8, 32, 32),
    cine=Extent(8, 32, 32),
)


def encoder(seed: int = 0) -> Encoder:
    return build(SMALL, initial_weights(SMALL, seed)).eval()


def random(*shape: int) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(0))


def test_the_network_gives_a_cls_vector_and_one_vector_per_token() -> None:
    cls, tokens = encoder()(random(2, 5, 3072), random(2, 5, 3))
    assert cls.shape == (2, 24)
    assert tokens.shape == (2, 5, 24)


def test_the_summed_kernel_equals_repeating_the_frame() -> None:
    network = encoder()
    still = random(2, 5, 3 * 256)
    repeated = still.view(2, 5, 3, 1, 256).expand(-1, -1, -1, 4, -1).reshape(2, 5, 3072)
    torch.testing.assert_close(network.embedding(still), network.embedding(repeated))


@pytest.mark.parametrize("length", [EXPLICIT_BELOW_TOKENS - 1, 5])
def test_attention_written_out_equals_the_fused_kernel(length: int) -> None:
    query, key, value = random(3, 2, 4, length, 12)
    torch.testing.assert_close(
        attend(query, key, value), functional.scaled_dot_product_attention(query, key, value)
    )


def test_long_sequences_pass_through_the_fused_kernel() -> None:
    query, key, value = random(3, 1, 2, EXPLICIT_BELOW_TOKENS + 3, 12)
    expected = (query @ key.transpose(-2, -1) / 12**0.5).softmax(-1) @ value
    torch.testing.assert_close(attend(query, key, value), expected)


def test_tokens_are_a_set_once_they_carry_their_places() -> None:
    network, patches, positions = encoder(), random(1, 6, 3072), random(1, 6, 3)
    order = [3, 1, 5, 0, 2, 4]
    cls, tokens = network(patches, positions)
    cls_shuffled, tokens_shuffled = network(patches[:, order], positions[:, order])
    torch.testing.assert_close(cls, cls_shuffled)
    torch.testing.assert_close(tokens[:, order], tokens_shuffled)


def test_every_axis_of_a_place_matters() -> None:
    origin = torch.zeros(1, 1, 3)
    for axis in range(3):
        moved = origin.clone()
        moved[..., axis] = 1
        assert not torch.allclose(sincos(origin, 24), sincos(moved, 24))


def test_places_between_the_grid_points_lie_between() -> None:
    places = torch.tensor([[[0.0, 3.0, 2.0], [0.0, 3.5, 2.0], [0.0, 4.0, 2.0]]])
    low, middle, high = sincos(places, 384)[0]
    assert (middle - low).norm() < (high - low).norm()


def test_batch_members_do_not_see_each_other() -> None:
    network, patches, positions = encoder(), random(3, 4, 3072), random(3, 4, 3)
    together, _ = network(patches, positions)
    alone, _ = network(patches[1:2], positions[1:2])
    torch.testing.assert_close(together[1:2], alone)


def test_weights_depend_on_the_seed_alone() -> None:
    first, again, other = (initial_weights(SMALL, seed) for seed in (1, 1, 2))
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert not torch.equal(first["embedding.weight"], other["embedding.weight"])


def test_initial_weights_fill_the_whole_network() -> None:
    weights = initial_weights(SMALL, 1)
    assert {name: w.shape for name, w in weights.items()} == weight_shapes(SMALL)
    assert torch.equal(weights["blocks.0.scale1"], torch.full((24,), 0.1))
    assert torch.equal(weights["norm.weight"], torch.ones(24))
    assert not weights["blocks.1.qkv.bias"].any()


def test_weights_that_do_not_fit_are_refused() -> None:
    weights = initial_weights(SMALL, 1)
    del weights["norm.bias"]
    with pytest.raises(RuntimeError, match=r"norm\.bias"):
        build(SMALL, weights)


def test_gradients_reach_every_weight() -> None:
    network = build(SMALL, initial_weights(SMALL, 0))
    cls, tokens = network(random(2, 5, 768), random(2, 5, 3))
    (cls.square().sum() + tokens.square().sum()).backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in network.parameters())


@pytest.mark.parametrize("name", PRESETS)
def test_presets_are_valid_and_tiny_keeps_a_volume_within_512_tokens(name: str) -> None:
    config = PRESETS[name]
    t, h, w = config.patch
    extent = config.extent(Kind.VOLUME)
    tokens = extent.frames // t * (extent.height // h) * (extent.width // w)
    assert tokens <= {"tiny": 512, "small": 1568, "base": 1568}[name]


@pytest.mark.parametrize(
    "change",
    [
        {"width": 25},
        {"heads": 5},
        {"depth": 0},
        {"still": Extent(4, 32, 32)},
        {"volume": Extent(6, 32, 32)},
        {"cine": Extent(8, 40, 32)},
    ],
)
def test_numbers_that_fit_no_network_are_refused(change: dict[str, int]) -> None:
    with pytest.raises(ValueError, match=r"multiple|positive|one frame"):
        dataclasses.replace(SMALL, **change)
