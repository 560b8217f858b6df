"""`similis train` and `similis finish`, small."""

from pathlib import Path

import pytest
from evaluations import write_manifest
from typer.testing import CliRunner, Result

from dicom_node.cli.app import app
from encoder import checkpoint as checkpoints
from training import phantoms, run
from training.baselines import untrained
from training.errors import BadManifest, BadRun, ModalityExcluded

SMALL = ("--steps", 2, "--threads", 1, "--device", "cpu", "--set", "batch=4")


def similis(*arguments: object) -> Result:
    return CliRunner().invoke(app, [str(a) for a in arguments], env={"COLUMNS": "200"})


def train(data: object, out: Path, *more: object) -> Result:
    return similis("train", "mae", "--data", data, "--out", out, *SMALL, *more)


def test_a_run_leaves_an_encoder_that_others_commands_take(tmp_path: Path) -> None:
    manifest = write_manifest(tmp_path / "made", per_class=3)
    out = tmp_path / "run"

    said = train(manifest, out)

    assert said.exit_code == 0, said.output
    assert "2 of 2 steps" in said.stdout
    kept = checkpoints.load(out / run.ENCODER)
    assert kept.description.name == "similis-mae"
    scored = similis("evaluate", "--data", manifest, "--encoder", out / run.ENCODER)
    assert scored.exit_code == 0, scored.output


def test_the_studies_that_a_node_keeps_can_be_trained_on(tmp_path: Path) -> None:
    for number in range(2):
        folder = tmp_path / f"series{number}"
        folder.mkdir()
        phantoms.ct_series(
            folder, new_uid=phantoms.uid_source(number), slices=5, size=32, seed=number
        )
    data = tmp_path / "data"
    assert (
        similis("import", tmp_path / "series0", tmp_path / "series1", "--data", data).exit_code == 0
    )

    said = train(f"catalogue:{data}", tmp_path / "run")

    assert said.exit_code == 0, said.output
    assert run.read(tmp_path / "run").step == 2


def test_a_run_is_not_overwritten_by_mistake(tmp_path: Path) -> None:
    manifest = write_manifest(tmp_path / "made", per_class=3)
    assert train(manifest, tmp_path / "run").exit_code == 0
    again = train(manifest, tmp_path / "run")
    assert isinstance(again.exception, BadRun)
    assert "--resume" in str(again.exception)


def test_wrong_settings_and_presets_are_bad_usage(tmp_path: Path) -> None:
    manifest = write_manifest(tmp_path / "made", per_class=3)
    for wrong in (("--set", "speed=1"), ("--set", "lr=fast"), ("--preset", "huge")):
        said = train(manifest, tmp_path / "run", *wrong)
        assert said.exit_code == 2, said.output


def test_a_manifest_that_is_not_there_is_named(tmp_path: Path) -> None:
    said = train(tmp_path / "nowhere.csv", tmp_path / "run")
    assert isinstance(said.exception, BadManifest)
    assert "nowhere.csv" in str(said.exception)


def test_magnetic_resonance_is_refused_with_advice(tmp_path: Path) -> None:
    manifest = write_manifest(tmp_path / "made", per_class=3)
    manifest.write_text(manifest.read_text().replace(",OT,", ",MR,"))
    refused = train(manifest, tmp_path / "run")
    assert isinstance(refused.exception, ModalityExcluded)
    assert train(manifest, tmp_path / "run", "--allow", "MR").exit_code == 0


@pytest.mark.parametrize("name", [None, "similis-tiny"])
def test_a_finished_encoder_says_how_it_pools(tmp_path: Path, name: str | None) -> None:
    manifest = write_manifest(tmp_path / "made", per_class=9)
    checkpoints.save(tmp_path / "raw", untrained())
    named = () if name is None else ("--name", name)

    said = similis(
        "finish", tmp_path / "raw", "--data", manifest, "--out", tmp_path / "done",
        "--device", "cpu", *named,
    )  # fmt: skip

    assert said.exit_code == 0, said.output
    done = checkpoints.load(tmp_path / "done")
    assert done.description.name == (name or untrained().description.name)
    assert "held_out_map_at_10" in done.description.metrics
    assert checkpoints.model_id(done) != checkpoints.model_id(untrained())
    assert checkpoints.model_id(done) in said.stdout
