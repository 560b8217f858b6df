"""`similis evaluate --task …` on a small manifest, with a text space of random weights."""

import json
from pathlib import Path
from typing import Any

import pytest
from encoders import small_encoder
from evaluations import write_manifest
from text_spaces import small_space
from typer.testing import CliRunner, Result

from dicom_node.cli.app import app
from encoder import checkpoint as encoders
from encoder import space_checkpoint
from encoder.errors import BadCheckpoint
from training.errors import BadVectorsFile, TooManyUnreadable
from training.few_shot import SHOTS
from training.vectors_file import load, save


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with a manifest, an encoder, its vectors, and a space that is bound to it."""
    made = tmp_path_factory.mktemp("tasks")
    write_manifest(made / "images", per_class=9)
    crossed(made / "images")
    encoder = encoders.load(small_encoder(made / "encoder", seed=1))
    space = small_space(image_model_id=encoders.model_id(encoder), image_dim=encoder.dim)
    space_checkpoint.save(made / "space", space)
    said = similis("embed", "--data", made / "images", "--encoder", made / "encoder",
                   "--out", made / "v.npz", "--device", "cpu")  # fmt: skip
    assert said.exit_code == 0, said.output
    return made


def crossed(images: Path) -> None:
    """Write the same images as if every second patient had been seen by another modality."""
    head, *rows = (images / "manifest.csv").read_text().splitlines()
    changed = []
    for number, line in enumerate(rows):
        path, split, kind, _, _, label, patient, source = line.split(",")
        modality, part = ("CR", "CT")[number // 2 % 2], label.split()[-1].upper()
        changed.append(",".join([path, split, kind, modality, part, label, patient, source]))
    (images / "crossed.csv").write_text("\n".join([head, *changed]) + "\n")


def similis(*arguments: object) -> Result:
    return CliRunner().invoke(app, [str(a) for a in arguments], env={"COLUMNS": "250"})


def evaluated(folder: Path, task: str, *options: object, data: str = "manifest.csv") -> Any:
    said = similis("evaluate", "--data", folder / "images" / data, "--task", task,
                   "--device", "cpu", *options, "--json")  # fmt: skip
    assert said.exit_code == 0, said.output
    return json.loads(said.stdout)


def test_few_shot_takes_encoders_and_files_of_vectors(folder: Path) -> None:
    (found,) = evaluated(folder, "few-shot", "--encoder", folder / "encoder",
                         "--encoder", folder / "v.npz", "--encoder", "pixels")  # fmt: skip

    assert found["task"] == "few-shot"
    rows = {(row["name"], row["method"]): row["metrics"] for row in found["rows"]}
    assert rows["made", "v, prototypes"] == rows["made", "encoder, prototypes"]
    assert found["model_ids"]["v"] == found["model_ids"]["encoder"]
    pixels = rows["made", "pixels, logistic regression"]
    assert list(pixels) == [f"{count}-shot" for count in SHOTS]
    assert pixels["4-shot"]["value"] > 0.9
    assert pixels["4-shot"]["chance"] == pytest.approx(1 / 3)


@pytest.mark.parametrize("task", ["zero-shot", "text-retrieval"])
def test_tasks_of_words_name_encoder_and_space(folder: Path, task: str) -> None:
    options = ("--encoder", folder / "v.npz", "--space", folder / "space")
    (found,) = evaluated(folder, task, *options)

    assert found["task"] == task
    assert set(found["model_ids"]) == {"v", "small-space"}
    for row in found["rows"]:
        for figure in row["metrics"].values():
            low, high = figure["interval"]
            assert 0 <= low <= high <= 1
            assert 0 <= figure["chance"] <= 1
    said = similis("evaluate", "--data", folder / "images", "--task", task, *options)
    assert said.exit_code == 0, said.output
    assert said.stdout.splitlines()[0].startswith(f"{task.capitalize()}: ")
    assert found["rule"].split(";")[0] in " ".join(said.stdout.split())
    assert "(chance)" in said.stdout


def test_every_pair_of_modalities_is_asked_before_and_after_binding(folder: Path) -> None:
    options = ("--encoder", folder / "v.npz", "--space", folder / "space")
    before, after = evaluated(folder, "cross-modal", *options, data="crossed.csv")

    assert (before["encoder"], after["encoder"]) == ("v", "v, small-space")
    pairs = [f"{a} by {hit}" for a in ("CR:CT", "CT:CR") for hit in ("body part", "finding")]
    assert list(before["sources"]) == list(after["sources"]) == pairs
    assert before["sources"] != after["sources"]
    (one, _) = evaluated(folder, "cross-modal", *options, "--cross", "CR:CT", data="crossed.csv")
    wanted = before["sources"]["CR:CT by body part"]["metrics"]
    assert one["sources"]["CR:CT"]["metrics"] == wanted
    (alone,) = evaluated(folder, "retrieval", "--encoder", folder / "v.npz", "--cross", "CR:CT",
                         "--hit", "finding", data="crossed.csv")  # fmt: skip
    assert alone["sources"]["CR:CT"]["metrics"] == before["sources"]["CR:CT by finding"]["metrics"]


def test_retrieval_scores_the_vectors_of_a_space_beside_those_of_the_encoder(folder: Path) -> None:
    both = evaluated(
        folder, "retrieval", "--encoder", folder / "v.npz", "--space", folder / "space"
    )
    (alone,) = evaluated(folder, "retrieval", "--encoder", folder / "v.npz")

    assert [one["encoder"] for one in both] == ["v", "v, small-space"]
    assert both[0] == alone
    assert both[1]["model_id"] != both[0]["model_id"]


def test_a_space_of_another_encoder_is_refused_before_anything_is_embedded(folder: Path) -> None:
    options = ("--task", "zero-shot", "--space", folder / "space", "--encoder", "pixels")
    said = similis("evaluate", "--data", folder / "images", *options)

    assert isinstance(said.exception, BadCheckpoint)
    assert "its heads take vectors of" in str(said.exception)
    assert "embedding" not in said.stderr


def test_a_file_of_other_vectors_is_refused(folder: Path, tmp_path: Path) -> None:
    kept = load(folder / "v.npz")
    save(tmp_path / "few.npz", kept.ids[:9], kept.vectors[:9], kept.model_id)
    (tmp_path / "no.npz").write_bytes(b"no")
    asked = ("evaluate", "--data", folder / "images", "--encoder")

    assert isinstance(similis(*asked, tmp_path / "few.npz").exception, TooManyUnreadable)
    assert isinstance(similis(*asked, tmp_path / "no.npz").exception, BadVectorsFile)


def test_the_order_of_a_file_of_vectors_does_not_matter(folder: Path, tmp_path: Path) -> None:
    kept = load(folder / "v.npz")
    save(tmp_path / "v.npz", kept.ids[::-1], kept.vectors[::-1], kept.model_id)

    turned = evaluated(folder, "retrieval", "--encoder", tmp_path / "v.npz")

    assert turned == evaluated(folder, "retrieval", "--encoder", folder / "v.npz")


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        (["--task", "few-shot", "--cross", "CR:CT"], "--cross and --report go with"),
        (["--task", "zero-shot", "--report", "x.html"], "--cross and --report go with"),
        (["--task", "guessing"], "--task"),
        (["--seed", "-1"], "--seed"),
    ],
)
def test_bad_usage_names_the_option(folder: Path, options: list[str], complaint: str) -> None:
    said = similis("evaluate", "--data", folder / "images", "--encoder", "pixels", *options)

    assert said.exit_code == 2
    assert complaint in said.stderr
