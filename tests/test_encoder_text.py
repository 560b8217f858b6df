import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from towers import CONFIG, WORDS, small_tower

from encoder.errors import BadText, EncoderError
from encoder.text import TextConfig, build
from encoder.text_embedder import BATCH_TOKENS, TextEmbedder

EMBEDDER = TextEmbedder(small_tower(), device="cpu")
SENTENCES = st.lists(st.sampled_from(WORDS[:-1]), min_size=1, max_size=20).map(" ".join)


@given(st.lists(SENTENCES, min_size=1, max_size=6))
def test_rows_are_of_length_one_and_know_nothing_of_their_neighbours(texts: list[str]) -> None:
    vectors = EMBEDDER.embed(texts)
    assert vectors.shape == (len(texts), 24)
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-5)
    alone = np.concatenate([EMBEDDER.embed([text]) for text in texts])
    np.testing.assert_allclose(vectors, alone, atol=1e-5)


def test_more_than_one_batch_keeps_the_order() -> None:
    texts = ["chest", "right lower lobe", "child " * 20]
    many = EMBEDDER.embed(texts * (BATCH_TOKENS // 16))
    np.testing.assert_allclose(many, np.tile(EMBEDDER.embed(texts), (len(many) // 3, 1)), atol=1e-5)


def test_nothing_gives_no_rows() -> None:
    assert EMBEDDER.embed([]).shape == (0, 24)


def test_the_order_of_words_counts() -> None:
    there, back = EMBEDDER.embed(["right lower lobe", "lobe lower right"])
    assert np.abs(there - back).max() > 1e-3


def test_what_is_beyond_the_most_tokens_changes_nothing() -> None:
    short, long = EMBEDDER.embed(["chest " * 14, "chest " * 14 + "opacity"])
    np.testing.assert_array_equal(short, long)
    assert EMBEDDER.read("chest " * 14 + "opacity").left_out == 1


def test_one_bad_text_refuses_the_call() -> None:
    with pytest.raises(BadText, match="no word"):
        EMBEDDER.embed(["chest", ""])


def test_weights_that_lead_out_of_the_numbers_are_told() -> None:
    tower = small_tower()
    tensors = {**tower.tensors, "norm.weight": torch.full((24,), torch.nan)}
    with pytest.raises(EncoderError, match="not finite"):
        TextEmbedder(replace(tower, tensors=tensors), device="cpu").embed(["chest"])


def test_weights_of_another_shape_are_refused() -> None:
    with pytest.raises(RuntimeError, match="size mismatch"):
        build(replace(CONFIG, width=48), small_tower().network)


@pytest.mark.parametrize(
    ("numbers", "words"),
    [
        ((0, 4, 1, 1, 4, 8), "positive"),
        ((9, 5, 1, 2, 4, 8), "heads"),
        ((9, 4, 1, 2, 4, 2), "three"),
    ],
)
def test_numbers_that_fit_no_network_are_refused(numbers: tuple[int, ...], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        TextConfig(*numbers)


def test_a_tower_is_built_without_loading_the_compiler() -> None:
    asked = (
        "import sys; from encoder.text import TextConfig, build, weight_shapes; import torch; "
        "c = TextConfig(vocabulary=9, width=4, depth=1, heads=1, hidden=8, tokens=3); "
        "build(c, {name: torch.zeros(shape) for name, shape in weight_shapes(c).items()}); "
        "print('torch._dynamo' in sys.modules)"
    )
    said = subprocess.run([sys.executable, "-c", asked], capture_output=True, text=True, check=True)
    assert said.stdout == "False\n"
