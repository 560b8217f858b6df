"""A binding from beginning to end, on generated vectors, and on small pictures by the command."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from bindings import (
    CONFIG,
    ENCODER,
    KINDS,
    Watch,
    generated_items,
    generated_materials,
    generated_pairs,
    generated_vectors,
    known_as_it_is,
    small_bind_config,
)
from encoders import small_encoder, study_of
from imagesets import write_images
from torch.nn import functional
from towers import small_tower, word_tower
from typer.testing import CliRunner, Result

from dicom_node.answer.verdict import Verdict, judge
from dicom_node.cli.app import app
from encoder import checkpoint as checkpoints
from encoder import space_checkpoint, text_checkpoint
from encoder.lexicon import understood
from encoder.text_space import TextSpace
from training.calibrate import measure
from training.errors import BadRun
from training.facts import Facts
from training.pairs import gather
from training.stage import stream
from training.text_space import SPACE, TEACHERS, Materials, foreign_sentences, train_space
from training.zero_shot import label_vectors

SMALL = ("adapt_steps=2", "bind_steps=3", "unify_steps=2", "terms=9", "captions=6", "dim=8",
         "bind_batch=12", "unify_batch=12", "adapt_batch=4")  # fmt: skip


@pytest.fixture(scope="module")
def bound(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("bound")
    materials = generated_materials()
    assert train_space(materials, CONFIG, folder, lambda *_: Watch()) is not None
    return folder


def told_right(space: TextSpace) -> dict[str, float]:
    """Tell generated images into the two labels of their modality: the part that is right."""
    items = generated_items()
    placed = space.images(generated_vectors(items), [item.modality for item in items])
    right = {}
    for modality, kind, part, labels in KINDS:
        mine = [row for row, item in enumerate(items) if item.modality == modality]
        words = label_vectors(space, labels, Facts(kind, modality, part))
        told = (placed[mine] @ words.T).argmax(axis=1)
        pairs = zip(told, mine, strict=True)
        right[modality] = float(np.mean([labels[each] == items[row].label for each, row in pairs]))
    return right


@pytest.mark.parametrize(("steps", "binds"), [(0, False), (300, True)])
def test_words_tell_the_labels_of_retina_and_ecg_as_of_all_others_once_they_are_bound(
    tmp_path: Path, steps: int, binds: bool
) -> None:
    config = small_bind_config(captions=24, adapt_steps=0, bind_steps=steps, unify_steps=steps)
    pairs = generated_pairs(config)
    said = [caption.text for caption in pairs.captions]
    labels = [label for *_, labels in KINDS for label in labels]
    materials = Materials(pairs, (), word_tower([*said, *labels]), ENCODER)
    checkpoint = train_space(materials, config, tmp_path, lambda *_: Watch())
    assert checkpoint is not None
    space = TextSpace(checkpoint, device="cpu")
    assert space.modalities == ("CR", "ECG", "OP", "OPT", "US")
    right = told_right(space)  # by chance 0.5
    assert (min(right.values()) >= 0.8) == binds, right
    assert binds or min(right.values()) <= 0.6, right


def test_each_modality_leaves_its_own_text_head_as_a_space(bound: Path) -> None:
    student = space_checkpoint.load(bound / SPACE)
    assert sorted(path.name for path in (bound / TEACHERS).iterdir()) == sorted(
        modality for modality, *_ in KINDS
    )
    for folder in (bound / TEACHERS).iterdir():
        teacher = space_checkpoint.load(folder)
        assert torch.equal(teacher.tensors["heads.weight"], student.tensors["heads.weight"])
        assert not torch.equal(
            teacher.tensors["projection.weight"], student.tensors["projection.weight"]
        )


def test_a_binding_stopped_in_any_stage_goes_on_to_the_same_space(
    bound: Path, tmp_path: Path
) -> None:
    materials = generated_materials()
    for stage in ("adapt", "bind", "unify"):
        stopped = train_space(
            materials, CONFIG, tmp_path, lambda name, *_, at=stage: Watch(1 if name == at else None)
        )
        assert stopped is None
    done = train_space(materials, CONFIG, tmp_path, lambda *_: Watch())
    assert done is not None
    whole = space_checkpoint.load(bound / SPACE)
    assert space_checkpoint.space_id(done) == space_checkpoint.space_id(whole)


def test_another_seed_gives_another_space(bound: Path, tmp_path: Path) -> None:
    config = small_bind_config(seed=1)
    other = train_space(generated_materials(config), config, tmp_path, lambda *_: Watch())
    assert other is not None
    whole = space_checkpoint.load(bound / SPACE)
    assert space_checkpoint.space_id(other) != space_checkpoint.space_id(whole)


def test_gaps_are_what_parts_the_means_of_images_and_captions() -> None:
    materials = generated_materials()
    pairs, config = materials.pairs, small_bind_config(gap=1.0)
    draws = torch.Generator().manual_seed(1)
    rows = [torch.randn(n, 8, generator=draws) for n in (60, len(pairs.captions), 9)]
    placed, said, foreign = (torch.nn.functional.normalize(each, dim=1) for each in rows)
    found = measure(pairs, placed, placed, said, foreign, config)
    assert found.gaps.shape == (6, 8)
    groups = [group for group in pairs.groups if group.modality == "ECG"]
    means = [placed[g.rows].mean(dim=0) - said[g.captions].mean(dim=0) for g in groups]
    torch.testing.assert_close(found.gaps[1], torch.stack(means).mean(dim=0))
    assert not measure(pairs, placed, placed, said, foreign, replace(config, gap=0.0)).gaps.any()
    assert (found.knots.diff(dim=1)[0] > 0).all()
    assert (found.knots.diff(dim=1)[1] >= 0).all()


def test_near_lies_between_captions_of_other_modalities_and_of_ones_own() -> None:
    """Every modality has an axis, and all share one that foreign sentences lie at."""
    pairs = generated_pairs()
    axes = torch.eye(6)[:5] + 0.3 * torch.eye(6)[5]
    places = functional.normalize(axes, dim=1)
    said = torch.zeros(len(pairs.captions), 6)
    for group in pairs.groups:
        said[group.captions] = places[pairs.modalities.index(group.modality)]
    placed, foreign = places[pairs.modality_of], torch.eye(6)[5:]
    across = float(places[0] @ places[1])

    found = measure(pairs, placed, placed, said, foreign, replace(CONFIG, gap=0.0))

    assert found.near == pytest.approx(across, abs=1e-6)
    assert found.near < found.floor == pytest.approx(1.0, abs=1e-6)


def test_in_a_space_of_one_modality_known_words_need_the_floor() -> None:
    """Captions lie at the images, foreign sentences at 0.6 of them."""
    items = tuple(item for item in generated_items() if item.modality == "CR")
    pairs = gather(items, generated_vectors(items), known_as_it_is(items), CONFIG)
    placed = torch.tensor([[1.0, 0.0]]).expand(len(items), 2)
    said = torch.tensor([[0.8, 0.6]]).expand(len(pairs.captions), 2)
    foreign = torch.tensor([[0.6, 0.8]])

    found = measure(pairs, placed, placed, said, foreign, replace(CONFIG, gap=0.0))

    assert found.near == found.floor == pytest.approx(0.8, abs=1e-6)
    chest = understood("chest", {"CR": frozenset({"chest"})})
    verdicts = [judge(chest, found, best=best).verdict for best in (0.6, 0.81)]
    assert verdicts == [Verdict.FAR, Verdict.INSIDE]


def test_a_binding_writes_down_its_words_and_limits(bound: Path) -> None:
    description = space_checkpoint.load(bound / SPACE).description

    assert "glaucoma" in description.words["OP"]
    assert "glaucoma" not in description.words["CR"]
    assert -1 < description.near <= description.floor
    assert description.temperature > 0


def test_a_calibrated_score_is_as_rare_between_unlike_images(bound: Path) -> None:
    materials = generated_materials()
    pairs = materials.pairs
    space = TextSpace(space_checkpoint.load(bound / SPACE), device="cpu")
    images, said = pairs.drawn(stream(CONFIG, "other", 0), 400)
    texts = space.texts([pairs.captions[number].text for number in said])
    placed = space.images(pairs.vectors.numpy()[images], [pairs.modalities[m] for m in
                                                          pairs.modality_of[images]])  # fmt: skip
    wrong = (pairs.truth(images, said) < 0).numpy()
    scores = space.alike((placed @ texts.T)[wrong])
    vectors = pairs.vectors.numpy()[images]
    unlike = pairs.group_of[images][:, None] != pairs.group_of[images][None, :]
    between = (vectors @ vectors.T)[unlike]
    for level in (0.25, 0.5, 0.75, 0.9):
        assert np.quantile(scores, level) == pytest.approx(np.quantile(between, level), abs=0.12)


def test_foreign_sentences_are_many_and_none_is_there_twice() -> None:
    said = foreign_sentences()
    assert len(said) == len(set(said)) >= 60
    assert all(line == line.strip() and line for line in said)


def bind(data: Path, out: Path, *more: object) -> Result:
    settings = [word for setting in SMALL for word in ("--set", setting)]
    arguments = ["train", "bind", "--data", data, "--out", out, "--device", "cpu", *settings, *more]
    return CliRunner().invoke(app, [str(a) for a in arguments], env={"COLUMNS": "200"})


def test_the_command_binds_a_folder_of_images_and_reports(tmp_path: Path) -> None:
    manifest = write_images(tmp_path)
    encoder = small_encoder(tmp_path / "encoder", 1)
    text_checkpoint.save(tmp_path / "tower", small_tower())
    (tmp_path / "reports").mkdir()
    (tmp_path / "reports" / "one.txt").write_text("Clear lungs in a child. No right opacity.")
    given = ("--encoder", encoder, "--text", tmp_path / "tower", "--reports", tmp_path / "reports")

    said = bind(manifest, tmp_path / "out", *given)

    assert said.exit_code == 0, said.output
    assert "of CR, CT, ES, US" in said.stdout
    encoder_id = checkpoints.model_id(checkpoints.load(encoder))
    space = space_checkpoint.load(tmp_path / "out" / SPACE, image_model_id=encoder_id)
    assert space_checkpoint.space_id(space) in said.stdout
    for stage in ("adapt", "bind", "unify"):
        assert (tmp_path / "out" / stage / "log.jsonl").read_text().count("\n") == 1
    assert "left out" not in said.stderr
    assert isinstance(bind(manifest, tmp_path / "out", *given).exception, BadRun)
    again = bind(manifest, tmp_path / "out", *given, "--resume")
    assert again.stdout == said.stdout
    (tmp_path / "reports" / "two.txt").write_text("A small effusion. The heart is large.")
    other = bind(manifest, tmp_path / "out", *given, "--resume")
    assert isinstance(other.exception, BadRun), "stage 0 would have learned from other reports"
    said = bind(manifest, tmp_path / "out", "--set", "speed=1")
    assert said.exit_code == 2, said.output


def test_the_command_leaves_out_another_script_and_reports_of_what_it_will_be_judged_by(
    tmp_path: Path,
) -> None:
    manifest = write_images(tmp_path)
    lines = manifest.read_text().splitlines()
    column = lines[0].split(",").index("caption")
    for row, caption in ((1, "Малая опухоль"), (2, "small opacity")):
        cells = lines[row].split(",")
        cells[column] = caption
        lines[row] = ",".join(cells)
    lines = [line.replace("us1,train", "us1,eval") for line in lines]
    manifest.write_text("\n".join(lines) + "\n")
    text_checkpoint.save(tmp_path / "tower", small_tower())
    (tmp_path / "reports").mkdir()
    studies = [study_of(next((tmp_path / name).iterdir())) for name in ("us0", "us1")]
    rows = "".join(f"A chest of a child,{uid}\n" for uid in (*studies, studies[1]))
    (tmp_path / "reports" / "all.csv").write_text("text,study_instance_uid\n" + rows)
    given = ("--text", tmp_path / "tower", "--reports", tmp_path / "reports")
    encoder = small_encoder(tmp_path / "encoder", 1)

    said = bind(manifest, tmp_path / "out", "--encoder", encoder, *given)

    assert said.exit_code == 0, said.output
    assert "1 labels, descriptions or comments cannot be read" in said.stderr
    assert "2 reports are of studies of the eval split" in said.stderr
    assert "Малая" not in said.output
