"""Parts are means over neighbouring tokens, and each knows where in the files it lies."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydicom import dcmread
from test_encoder_embedder import SMALL, clip, small
from test_encoder_origin import SIZE, SQUARE, paint

from encoder.checkpoint import load
from encoder.clip import Kind
from encoder.embedder import Embedder
from encoder.origin import Box, FrameOrigin, Origin
from encoder.parts import MAX_PARTS, Layout, part_means
from encoder.region import Region, read_region
from encoder.series import assemble
from encoder.volume import read_clip
from training.phantoms import cine, still, uid_source

grids = st.tuples(st.integers(1, 40), st.integers(1, 9), st.integers(1, 9))


def layout(tokens: tuple[int, int, int], *, side: int = 2) -> Layout:
    frames = tuple(FrameOrigin("1.2", number + 1) for number in range(tokens[0]))
    height, width = tokens[1] * side, tokens[2] * side
    origin = Origin(frames, (height, width), Box(0, height, 0, width))
    return Layout(tokens, (1, side, side), (1.0, 1.0), origin)


@given(tokens=grids, most=st.integers(1, MAX_PARTS), seed=st.integers(0, 99))
def test_a_part_is_the_mean_of_the_shown_tokens_that_lie_in_it(
    tokens: tuple[int, int, int], most: int, seed: int
) -> None:
    random = np.random.default_rng(seed)
    values = random.standard_normal((*tokens, 3)).astype(np.float32)
    shown = random.random(tokens) < 0.6
    means, places = part_means(values.reshape(-1, 3), shown.ravel(), layout(tokens), most=most)
    assert 1 <= len(means) == len(places) <= most
    if not shown.any():
        shown[:] = True
    covered = np.zeros(tokens, dtype=int)
    step = tokens[0] / min(tokens[0], most)
    for mean, place in zip(means, places, strict=True):
        assert place is not None
        box = place.box
        in_plane = (slice(box.top // 2, box.bottom // 2), slice(box.left // 2, box.right // 2))
        start = max(0, place.frame - 1 - int(np.ceil(step)))
        candidates = [
            (slice(first, last), *in_plane)
            for first in range(start, place.frame)
            for last in range(place.frame, min(tokens[0], place.frame + int(step) + 1) + 1)
            if (first + last) // 2 == place.frame - 1
        ]
        fits = [
            there
            for there in candidates
            if shown[there].any()
            and np.allclose(values[there][shown[there]].mean(axis=0), mean, atol=1e-5)
        ]
        assert fits
        covered[fits[0]] += 1
    assert covered[shown].min() >= 1
    if most >= tokens[0]:
        assert covered.max() == 1, "parts do not overlap"


@pytest.mark.parametrize(
    ("tokens", "parts"), [((1, 8, 8), 16), ((8, 8, 8), 32), ((4, 8, 8), 16), ((1, 14, 14), 16)]
)
def test_the_shipped_shapes_have_as_many_parts_as_fit(
    tokens: tuple[int, int, int], parts: int
) -> None:
    count = int(np.prod(tokens))
    means, places = part_means(
        np.ones((count, 2), np.float32), np.ones(count, bool), layout(tokens)
    )
    assert len(means) == parts
    assert len(set(places)) == parts


@pytest.mark.parametrize("kind", list(Kind))
def test_parts_come_from_the_pass_that_gives_the_vector(kind: Kind) -> None:
    embedder = small()
    clips = [clip(kind, seed) for seed in range(3)]
    vectors, parts = embedder.embed_with_parts(clips)
    np.testing.assert_array_equal(vectors, embedder.embed(clips))
    for each in parts:
        assert each.vectors.shape[1] == SMALL.width
        np.testing.assert_allclose(np.linalg.norm(each.vectors, axis=1), 1, rtol=1e-5)
        assert each.places == (None,) * len(each.vectors), "made up, it lies in no file"


def test_of_a_black_clip_everything_counts() -> None:
    black = clip(Kind.STILL, 1)
    black.array[...] = 0
    _, (parts,) = small().embed_with_parts([black])
    assert len(parts.vectors) == 4


def test_the_best_part_of_a_region_query_lies_on_the_region(tmp_path: Path) -> None:
    """A bright square on dark: asked for with its surroundings, the parts that hold it answer."""
    new_uid = uid_source(1)
    picture = still(tmp_path / "still", new_uid=new_uid, size=(SIZE, SIZE))
    loop = cine(tmp_path / "loop", new_uid=new_uid, frames=16, size=(SIZE, SIZE))
    frames = {picture: {1}, loop: set(range(9, 13))}
    paint(picture)
    paint(loop, frame=slice(8, 12))
    embedder = Embedder(load(), device="cpu")
    for path, frame in ((picture, 1), (loop, 10)):
        (group,) = assemble([path]).groups
        _, (parts,) = embedder.embed_with_parts([read_clip(group)])
        region = read_region(group, Region(frame, Box(8, 40, 48, 88)))
        _, (query,) = embedder.embed_with_parts([region], most=1)
        assert len(query.vectors) == 1
        place = parts.places[int((parts.vectors @ query.vectors[0]).argmax())]
        assert place is not None
        assert place.sop_instance_uid == dcmread(path).SOPInstanceUID
        assert place.box.inside(SQUARE).area > 0, (path, place)
        assert place.frame in frames[path], (path, place)
