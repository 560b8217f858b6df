"""Stages of a binding, on generated vectors and a drawn tower: no image is behind them."""

from pathlib import Path

import numpy as np
import pytest
import torch
from bindings import CONFIG, Watch, generated_pairs, small_bind_config
from safetensors.torch import load_file
from torch.nn import functional
from towers import CONFIG as TOWER
from towers import VOCABULARY, small_network

from encoder.text import build
from encoder.wordpiece import Tokeniser
from training import lowrank, run
from training.adapt import Adaptation, Reader, found_first, synonyms
from training.bind import Binding, Sentences, batch, centre
from training.bind_config import BindConfig, Contrast
from training.errors import BadRun, NonFiniteLoss
from training.stage import Stage, train_stage
from training.unify import Unifying

PAIRS = generated_pairs()


def reader(rank: int = 0) -> Reader:
    tower = lowrank.lower(build(TOWER, small_network()), rank=rank, alpha=2.0, seed=1)
    return Reader(tower, Tokeniser(VOCABULARY, tokens=TOWER.tokens), bf16=False)


def sentences() -> Sentences:
    """Give every caption a vector that says which modality and finding it is of."""
    draws = torch.Generator().manual_seed(4)
    words = {word: torch.randn(TOWER.width, generator=draws)
             for caption in PAIRS.captions for _, word in caption.said}  # fmt: skip
    said = [sum((words[word] for _, word in c.said), torch.zeros(TOWER.width))
            for c in PAIRS.captions]  # fmt: skip
    others = torch.randn(12, TOWER.width, generator=draws)
    vectors = functional.normalize(torch.cat([torch.stack(said), others]), dim=1)
    texts = (*(c.text for c in PAIRS.captions), *(f"word {number}" for number in range(12)))
    return Sentences(texts, vectors, captions=len(said), foreign=4)


SENTENCES = sentences()


def trained(config: BindConfig, folder: Path, watch: Watch | None = None) -> Binding:
    stage = Binding(PAIRS, SENTENCES, config)
    train_stage(stage, config, folder, watch or Watch(), steps=config.bind_steps,
                lr=config.bind_lr, data=PAIRS.fingerprint)  # fmt: skip
    return stage


def named_by(stage: Binding) -> float:
    """Return how often the best caption of an image's modality is true of it."""
    own = torch.from_numpy(PAIRS.modality_of), torch.arange(len(PAIRS.paths))
    with torch.no_grad():
        placed = stage.images(PAIRS.vectors)[own]
        said = stage.texts(SENTENCES.vectors[: SENTENCES.captions])[PAIRS.modality_of]
    best = torch.einsum("nd,nsd->ns", placed, said).argmax(dim=1).numpy()
    right = [PAIRS.truth(np.array([row]), best[row : row + 1]).item() for row in range(len(best))]
    return float(np.mean([one == 1 for one in right]))


@pytest.mark.parametrize("contrast", Contrast)
def test_images_of_five_modalities_find_their_words(contrast: Contrast, tmp_path: Path) -> None:
    config = small_bind_config(contrast=contrast, bind_steps=60)
    untrained = named_by(Binding(PAIRS, SENTENCES, config))
    assert named_by(trained(config, tmp_path)) > max(0.9, untrained + 0.2)


def test_any_number_of_modalities_has_its_heads() -> None:
    stage = Binding(PAIRS, SENTENCES, CONFIG)
    assert PAIRS.modalities == ("CR", "ECG", "OP", "OPT", "US")
    assert stage.images.weight.shape == (5, CONFIG.dim, PAIRS.vectors.shape[1])
    assert stage.texts.weight.shape == (5, CONFIG.dim, TOWER.width)


def test_the_centre_loss_is_the_mean_squared_distance_of_all_pairs_of_heads() -> None:
    said = functional.normalize(torch.randn(4, 7, 5, generator=torch.Generator().manual_seed(1)),
                                dim=2)  # fmt: skip
    of_pairs = [(said[a] - said[b]).square().sum(dim=1).mean() for a in range(4) for b in range(a)]
    torch.testing.assert_close(centre(said), torch.stack(of_pairs).mean())
    assert centre(said[:1]).item() == 0.0


def test_the_centre_loss_makes_text_heads_agree(tmp_path: Path) -> None:
    distances = []
    for weight in (0.0, 1.0):
        config = small_bind_config(centre=weight, bind_steps=60)
        stage = trained(config, tmp_path / str(weight))
        distances.append(centre(stage.texts(SENTENCES.vectors)).item())
    apart, near = distances
    assert near < apart / 2


def test_sentences_of_other_modalities_count_only_across() -> None:
    _, said = PAIRS.drawn(np.random.default_rng(0), 1)
    assert said.size
    for across in (True, False):
        drawn = batch(PAIRS, SENTENCES, small_bind_config(across=across), "bind", 0, 20)
        modality = PAIRS.modality_of[drawn.images]
        other = drawn.truth[:, :20][torch.from_numpy(modality[:, None] != modality[None, :])]
        assert bool((other < 0).any()) is across
        assert (drawn.truth[:, 20:] == -1).all(), "no image fits a foreign sentence"


def test_a_resumed_stage_equals_an_uninterrupted_one(tmp_path: Path) -> None:
    trained(CONFIG, tmp_path / "whole")
    trained(CONFIG, tmp_path / "cut", Watch(stop_at=9))
    assert load_file(tmp_path / "cut" / run.STATE_FILE)["step"] == 9
    trained(CONFIG, tmp_path / "cut")
    whole, cut = (load_file(tmp_path / name / run.STATE_FILE) for name in ("whole", "cut"))
    assert whole.keys() == cut.keys()
    for name, tensor in whole.items():
        assert torch.equal(cut[name], tensor), name


def test_another_config_or_other_data_cannot_be_resumed(tmp_path: Path) -> None:
    trained(CONFIG, tmp_path)
    with pytest.raises(BadRun, match="other settings: centre"):
        trained(small_bind_config(centre=0.5), tmp_path)
    stage = Binding(PAIRS, SENTENCES, CONFIG)
    with pytest.raises(BadRun, match="other images"):
        train_stage(stage, CONFIG, tmp_path, Watch(), steps=1, lr=1e-2, data="other")


def test_a_state_of_another_shape_is_refused(tmp_path: Path) -> None:
    class Other(Stage):
        def __init__(self) -> None:
            super().__init__()
            self.weight = torch.nn.Parameter(torch.ones(2))

    trained(CONFIG, tmp_path)
    with pytest.raises(BadRun, match="does not fit"):
        train_stage(Other(), CONFIG, tmp_path, Watch(), steps=1, lr=1.0, data=PAIRS.fingerprint)


def test_a_loss_that_is_no_number_stops_the_stage_and_names_the_images(tmp_path: Path) -> None:
    stage = Binding(PAIRS, SENTENCES, CONFIG)
    with torch.no_grad():
        stage.log_scale.fill_(torch.nan)
    with pytest.raises(NonFiniteLoss) as caught:
        train_stage(stage, CONFIG, tmp_path, Watch(), steps=3, lr=1.0, data="")
    assert set(caught.value.items) <= set(PAIRS.paths)
    assert caught.value.written_to.read_text().split("\n")[0] in PAIRS.paths


def unified(config: BindConfig, folder: Path) -> tuple[Binding, Unifying]:
    bound = trained(config, folder / "bind")
    student = Unifying(bound, reader(config.unify_rank), PAIRS, SENTENCES, config)
    train_stage(student, config, folder / "unify", Watch(), steps=config.unify_steps,
                lr=config.unify_lr, data="")  # fmt: skip
    return bound, student


def test_the_student_is_nearer_to_all_teachers_than_any_of_them(tmp_path: Path) -> None:
    config = small_bind_config(centre=0.1, unify_contrast=0.0)
    bound, student = unified(config, tmp_path)
    with torch.no_grad():
        taught = bound.texts(SENTENCES.vectors)
        said = student.said(np.arange(len(SENTENCES.texts)))
    each = torch.einsum("nsd,msd->nms", taught, taught).mean(dim=(1, 2))
    assert torch.einsum("sd,msd->ms", said, taught).mean() > each.max()


def test_without_distillation_the_student_is_the_mean_of_its_teachers(tmp_path: Path) -> None:
    bound, student = unified(small_bind_config(distil=False), tmp_path)
    assert torch.equal(student.projection.weight, bound.texts.weight.mean(dim=0))
    learned = load_file(tmp_path / "unify" / run.STATE_FILE)
    assert {name for name in learned if name.startswith("model.")} == {
        "model.other.weight",
        "model.other.bias",
    }


def test_a_student_may_change_its_tower_and_its_teachers_stay(tmp_path: Path) -> None:
    config = small_bind_config(unify_rank=2, unify_steps=3)
    bound, student = unified(config, tmp_path)
    before = load_file(tmp_path / "bind" / run.STATE_FILE)
    assert torch.equal(bound.texts.weight, before["model.texts.weight"])
    changed = lowrank.merged(student.tower)["blocks.0.qkv.weight"]
    assert not torch.equal(changed, small_network()["blocks.0.qkv.weight"])


def test_the_tower_learns_which_names_are_of_one_thing(tmp_path: Path) -> None:
    said = synonyms(PAIRS, (("a child", "girl"),), CONFIG)
    assert ("a child", "girl") in said.learned
    names = {name for pair in said.held_out for name in pair}
    assert names.isdisjoint(name for pair in said.learned[:1500] for name in pair)
    learner = reader(rank=4)
    pairs = [(f"chest {number}", f"thorax {number}") for number in range(12)]
    before = found_first(learner, pairs)
    stage = Adaptation(learner, pairs, small_bind_config(adapt_batch=12))
    train_stage(stage, CONFIG, tmp_path, Watch(), steps=60, lr=2e-2, data="")
    assert found_first(learner, pairs) > before + 0.3


def test_the_same_name_twice_in_a_batch_is_no_wrong_answer() -> None:
    learner = reader(rank=2)
    once = Adaptation(learner, [("chest", "thorax")], small_bind_config(adapt_batch=1))
    twice = Adaptation(
        learner, [("chest", "thorax"), ("Chest", "opacity")], small_bind_config(adapt_batch=2)
    )
    assert once.terms(0)["loss"].item() == twice.terms(0)["loss"].item() == 0.0


def test_what_cannot_be_read_is_not_learned_from() -> None:
    stage = Adaptation(reader(), [("chest", "грудь"), ("chest", "thorax")], CONFIG)
    assert stage.names(0) == ["pair 0"]


@pytest.mark.parametrize(
    "wrong",
    [{"dim": 0}, {"held_out": 1.0}, {"centre": -1.0}, {"adapt_steps": -1}, {"captions": 0}],
)
def test_numbers_that_make_no_run_are_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="must"):
        BindConfig(**wrong)
