from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch
from imagesets import SMALL, small_config, write_images

from encoder.clip import Clip, Kind, Unit
from encoder.config import Extent
from encoder.tokens import tokenise
from training.batches import Batch, Sampler, batches, make_batch, stretched_places
from training.config import Method, changed, default
from training.data import Images
from training.manifest import read_items
from training.start import images_of


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Images:
    folder: Path = tmp_path_factory.mktemp("images")
    items = read_items(write_images(folder))
    return images_of(items, small_config(Method.MAE), folder / "cache")


def tensors(batch: Batch) -> list[torch.Tensor]:
    shapes = [tokens for view in (*batch.globals, *batch.locals) for tokens in view]
    return [t for tokens in shapes for t in (tokens.patches, tokens.places, tokens.draws)]


def test_a_batch_follows_from_its_number_and_the_seed(images: Images) -> None:
    config = small_config(Method.SIMDINO)
    one, again = (make_batch(Sampler(images), config, 5) for _ in range(2))
    assert one.items == again.items
    assert all(torch.equal(a, b) for a, b in zip(tensors(one), tensors(again), strict=True))
    other = make_batch(Sampler(images), config, 6)
    assert not torch.equal(tensors(one)[0], tensors(other)[0])


def test_reading_ahead_gives_the_same_batches_from_any_start(images: Images) -> None:
    config = small_config(Method.MAE, steps=6)
    sampler = Sampler(images)
    streamed = list(batches(sampler, config, first=2))
    assert len(streamed) == 4
    for number, batch in enumerate(streamed, start=2):
        expected = make_batch(sampler, config, number)
        assert torch.equal(tensors(batch)[0], tensors(expected)[0])


def test_processes_divide_a_batch_among_them(images: Images) -> None:
    config = small_config(Method.SIMDINO)
    sampler = Sampler(images)
    whole = make_batch(sampler, config, 3)
    parts = [make_batch(sampler, config, 3, rank, 2) for rank in range(2)]
    assert Counter(whole.items) == Counter(parts[0].items) + Counter(parts[1].items)
    for shape, halves in enumerate(zip(*(p.globals[0] for p in parts), strict=True)):
        together = torch.stack([half.patches for half in halves], dim=1).flatten(0, 1)
        assert torch.equal(together, whole.globals[0][shape].patches)


def test_stills_cines_and_volumes_share_a_batch(images: Images) -> None:
    config = small_config(Method.SIMDINO)
    assert Sampler(images).plan(config) == ((Kind.STILL, 4), (Kind.CINE, 2), (Kind.VOLUME, 2))
    batch = make_batch(Sampler(images), config, 0)
    assert len(batch.globals) == 2
    assert len(batch.locals) == 2
    assert [tokens.patches.shape for tokens in batch.globals[0]] == [
        (4, 16, 3 * 64),
        (2, 2 * 9, 3 * 2 * 64),
        (2, 2 * 9, 3 * 2 * 64),
    ]


def test_modalities_are_drawn_evenly_however_many_items_they_have(images: Images) -> None:
    sampler = Sampler(images)
    rng = np.random.default_rng(0)
    drawn = Counter(
        images.entries[row].modality for _ in range(50) for row in sampler.draw(Kind.STILL, 40, rng)
    )
    assert drawn == {"CR": 500, "ES": 500, "US": 500, "CT": 500}


def test_what_there_is_none_of_is_replaced_by_stills(images: Images) -> None:
    sampler = Sampler(images)
    sampler._rows[Kind.CINE] = {}
    assert sampler.plan(small_config(Method.MAE)) == ((Kind.STILL, 6), (Kind.VOLUME, 2))


def test_a_whole_view_has_the_places_that_the_encoder_gives_it() -> None:
    extent = Extent(8, 32, 32)
    clip = Clip(np.zeros((3, 8, 32, 32), np.float32), (0, 1, 1), Kind.CINE, Unit.STORED, None, ())
    _, places = tokenise(clip, SMALL.patch)
    assert np.array_equal(stretched_places(extent, extent, SMALL.patch), places)


def test_a_small_view_spans_the_whole_grid() -> None:
    places = stretched_places(Extent(1, 16, 16), Extent(1, 32, 32), (1, 8, 8))
    assert places[:, 1].tolist() == [0.5, 0.5, 2.5, 2.5]  # of places 0 to 3


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (["unknown=1"], "'unknown' is none of"),
        (["lr=fast"], "is no number"),
        (["batch=0"], "must be positive"),
        (["batch=1.5"], "batch"),
        (["cine_share=0.9"], "shares"),
        (["hidden_still=1.0"], "between 0 and 1"),
        (["encoder=1"], "'encoder' is none of"),
    ],
)
def test_wrong_settings_are_named(settings: list[str], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        changed(default(Method.MAE), settings)


def test_settings_are_set_by_name() -> None:
    config = changed(default(Method.SIMDINO), ["lr=0.5", "betas=[0.5, 0.6]", "bf16=false"])
    assert (config.lr, config.betas, config.bf16) == (0.5, (0.5, 0.6), False)


@pytest.mark.parametrize("preset", ["tiny", "small", "base"])
def test_views_of_every_preset_divide_into_patches(preset: str) -> None:
    config = default(Method.SIMDINO, preset=preset)
    for kind in Kind:
        for local in (False, True):
            view = config.view(kind, local=local)
            t, h, w = (1, 16, 16) if kind is Kind.STILL else config.encoder.patch
            assert (view.frames % t, view.height % h, view.width % w) == (0, 0, 0)
