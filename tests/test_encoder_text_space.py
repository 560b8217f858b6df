import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from text_spaces import DIM, MODALITIES, small_space

from encoder import space_checkpoint
from encoder.errors import BadCheckpoint, BadText, EncoderError
from encoder.space_checkpoint import load, save, space_id
from encoder.tensor_folder import DESCRIPTION_FILE, TENSOR_FILE
from encoder.text_checkpoint import VOCABULARY_FILE
from encoder.text_space import TextSpace

SPACE = TextSpace(small_space(), device="cpu")


def vectors(count: int) -> np.ndarray:
    drawn = np.random.default_rng(3).normal(size=(count, 16)).astype(np.float32)
    return drawn / np.linalg.norm(drawn, axis=1, keepdims=True)


def test_texts_and_images_are_unit_rows_of_one_width() -> None:
    for rows in (SPACE.texts(["chest x-ray", "child"]), SPACE.images(vectors(2), ["CR", "US"])):
        assert rows.shape == (2, DIM)
        assert rows.dtype == np.float32
        np.testing.assert_allclose(np.linalg.norm(rows, axis=1), 1, atol=1e-6)


def test_abbreviations_are_written_out() -> None:
    short, long = SPACE.texts(["CXR", "chest x-ray"])
    np.testing.assert_array_equal(short, long)


@pytest.mark.parametrize("text", ["", "?!", "здравствуйте", "a" * 20_000])
def test_what_is_no_sentence_is_refused(text: str) -> None:
    with pytest.raises(BadText):
        SPACE.texts([text])


def test_a_sentence_of_nothing_but_abbreviations_may_grow_beyond_the_limit() -> None:
    assert SPACE.texts(["CXR " * 2500]).shape == (1, DIM)


def test_each_modality_has_its_head_and_its_gap_taken_off() -> None:
    one, checkpoint = vectors(1), small_space()
    placed = SPACE.images(np.repeat(one, len(MODALITIES), axis=0), MODALITIES)
    assert len(np.unique(placed.round(5), axis=0)) == len(MODALITIES)
    row = MODALITIES.index("US")
    tensors = {name: tensor.numpy() for name, tensor in checkpoint.tensors.items()}
    raw = tensors["heads.weight"][row] @ one[0] + tensors["heads.bias"][row]
    moved = raw / np.linalg.norm(raw) - tensors["gaps"][row]
    np.testing.assert_allclose(placed[row], moved / np.linalg.norm(moved), atol=1e-5)


@pytest.mark.parametrize(
    ("modality", "head"),
    [("CR", "CR"), ("DX", "CR"), ("RG", "CR"), ("IVUS", "US"), ("MR", ""), ("SM", ""), ("", "")],
)
def test_kin_share_a_head_and_strangers_have_one_for_all(modality: str, head: str) -> None:
    assert SPACE.head_of(modality) == head
    same = SPACE.images(vectors(1), [head or "no such modality"])
    np.testing.assert_array_equal(SPACE.images(vectors(1), [modality]), same)


def test_what_a_sentence_is_not_about_is_told_with_all_kin() -> None:
    space = TextSpace(small_space(words={"CR": ("ray", "chest"), "CT": ("ct",)}), device="cpu")

    assert space.understanding("CT").unlike == ("CR", "DX", "RF", "RG")
    assert space.understanding("chest x-ray").unlike == ("CT",)
    assert space.understanding("wombat").unlike == ()


def test_kin_stand_in_for_one_another_either_way() -> None:
    digital = TextSpace(small_space(modalities=("DX", "US")), device="cpu")
    assert digital.head_of("CR") == "DX"


def test_no_image_gives_no_row() -> None:
    assert SPACE.images(np.empty((0, 16), np.float32), []).shape == (0, DIM)


def test_vectors_of_another_width_or_number_are_refused() -> None:
    with pytest.raises(EncoderError, match="use encoder 0123456789abcdef"):
        SPACE.images(np.ones((1, 8), np.float32), ["CR"])
    with pytest.raises(EncoderError, match="and 1"):
        SPACE.images(vectors(2), ["CR"])


@given(st.lists(st.floats(-1, 1, width=32), min_size=2))
def test_calibrated_scores_are_cosines_in_the_same_order(cosines: list[float]) -> None:
    scores = SPACE.alike(np.sort(np.array(cosines, np.float32)))
    assert (np.diff(scores) >= 0).all()
    assert ((scores >= -1) & (scores <= 1)).all()


def test_a_knot_is_read_as_it_is_written() -> None:
    np.testing.assert_allclose(SPACE.alike(np.array([-1, 0.2, 0.35, 1])), [-1, 0.4, 0.65, 1])


def test_what_is_saved_loads_as_the_same_space(tmp_path: Path) -> None:
    save(tmp_path / "space", small_space(floor=0.25, words={"CR": ("chest",)}))
    space = TextSpace(load(tmp_path / "space"), device="cpu")
    assert (space.floor, space.modalities, space.dim) == (0.25, MODALITIES, DIM)
    assert space.understanding("chest, child").known == ("chest",)
    assert space.space_id == space_id(small_space(floor=0.25, words={"CR": ("chest",)}))
    assert space.space_id in space.version
    assert space.image_model_id in space.version
    np.testing.assert_array_equal(space.texts(["a child"]), SPACE.texts(["a child"]))
    images = space.images(vectors(3), ["CT", "DX", "OT"])
    np.testing.assert_array_equal(images, SPACE.images(vectors(3), ["CT", "DX", "OT"]))


def test_what_is_too_long_to_be_read_is_counted() -> None:
    short, long = "a child", "a child " * 40

    assert SPACE.understanding(short).unread == 0
    assert SPACE.understanding(long).unread > 0
    np.testing.assert_array_equal(SPACE.texts([long]), SPACE.texts([long + "dog"]))
    assert SPACE.understanding(long + "dog").unread > SPACE.understanding(long).unread


def test_the_id_changes_with_all_that_decides_a_vector_or_a_score(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    base = small_space()
    spaces = [base, small_space(seed=2), small_space(floor=0.5), small_space(image_model_id="a")]
    spaces += [small_space(floor=0.5, near=0.4), small_space(words={"CR": ("chest",)})]
    spaces += [replace(base, description=replace(base.description, temperature=0.1))]
    spaces += [replace(base, tensors={**base.tensors, name: t + 0.01}) for name, t in
               base.tensors.items()]  # fmt: skip
    ids = {space_id(each) for each in spaces}
    monkeypatch.setattr(space_checkpoint, "table", lambda: {("cxr",): ("chest",)})
    assert len(ids | {space_id(base)}) == len(spaces) + 1
    monkeypatch.undo()
    renamed = replace(base.description, name="other", metrics={"x": 1.0})
    assert space_id(replace(base, description=renamed)) == space_id(base)


def test_a_space_of_another_encoder_is_refused(tmp_path: Path) -> None:
    save(tmp_path / "space", small_space())
    load(tmp_path / "space", image_model_id="0123456789abcdef")
    with pytest.raises(BadCheckpoint, match="vectors of 0123456789abcdef, not ffff"):
        load(tmp_path / "space", image_model_id="ffff")


def test_a_space_that_does_not_ship_is_said_to_be_absent(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(space_checkpoint, "SHIPPED", tmp_path / "text")
    with pytest.raises(BadCheckpoint, match="no text space ships"):
        load()


@pytest.mark.parametrize(
    ("name", "tensor", "words"),
    [
        ("heads.bias", torch.zeros(2, DIM), "heads.bias"),
        ("gaps", torch.full((6, DIM), torch.nan), "gaps"),
        ("surprise", torch.zeros(1), "surprise"),
        ("knots", torch.tensor([[-1.0, 0.5, 0.5, 1.0], [-1.0, 0.0, 0.1, 1.0]]), "knots"),
        ("knots", torch.tensor([[-1.0, 0.5, 1.0], [-1.0, 2.0, 1.0]]), "knots"),
        ("knots", torch.tensor([[-1.0], [-1.0]]), "knots"),
        ("knots", torch.tensor([-1.0, 1.0]), "knots"),
    ],
)
def test_tensors_that_do_not_fit_are_refused_before_anything_is_written(
    tmp_path: Path, name: str, tensor: torch.Tensor, words: str
) -> None:
    space = small_space()
    with pytest.raises(BadCheckpoint, match=words):
        save(tmp_path / "space", replace(space, tensors={**space.tensors, name: tensor}))
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("key", "value", "words"),
    [
        ("format", 1, "has format 1"),
        ("surprise", 1, "surprise"),
        ("floor", 3.0, "no such cosines"),
        ("near", 0.5, "no such cosines"),
        ("temperature", 0.0, "not above 0"),
        ("words", {"MR": ["knee"]}, "words of MR, which it has no head of"),
        ("modalities", ["CR", "CR", "ECG", "OP", "US"], "twice"),
        ("modalities", ["CR"], "heads"),
        ("dim", 3, "heads"),
    ],
)
def test_a_description_that_does_not_fit_is_refused(
    tmp_path: Path, key: str, value: object, words: str
) -> None:
    save(tmp_path / "space", small_space())
    path = tmp_path / "space" / DESCRIPTION_FILE
    path.write_text(json.dumps({**json.loads(path.read_text()), key: value}))
    with pytest.raises(BadCheckpoint, match=words):
        load(path.parent)


def test_damaged_files_are_refused(tmp_path: Path) -> None:
    save(tmp_path / "space", small_space())
    (tmp_path / "space" / VOCABULARY_FILE).write_text("chest\n")
    with pytest.raises(BadCheckpoint, match="pieces"):
        load(tmp_path / "space")
    tensors = tmp_path / "space" / TENSOR_FILE
    tensors.write_bytes(tensors.read_bytes()[:-10])
    with pytest.raises(BadCheckpoint, match="cut short"):
        load(tmp_path / "space")


def test_a_pickle_is_never_read(tmp_path: Path) -> None:
    torch.save({"weight": torch.zeros(1)}, tmp_path / "model.pt")
    with pytest.raises(BadCheckpoint, match="is a pickle"):
        load(tmp_path)
