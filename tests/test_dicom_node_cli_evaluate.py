"""`similis evaluate` and `similis embed` on a small manifest."""

import json
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from evaluations import CLASSES, write_manifest
from typer.testing import CliRunner, Result

from dicom_node.cli.app import app
from encoder import checkpoint as checkpoints
from training.baselines import untrained
from training.errors import BadManifest, BaselineMissing, NothingToScore
from training.evaluate import Embedded, as_json, evaluate
from training.manifest import Split, read_items
from training.vectors_file import load


@pytest.fixture(scope="module")
def manifest(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_manifest(tmp_path_factory.mktemp("made"), per_class=9)


def similis(*arguments: object) -> Result:
    return CliRunner().invoke(app, [str(a) for a in arguments], env={"COLUMNS": "250"})


def evaluated(manifest: Path, *options: object) -> list[dict[str, Any]]:
    said = similis("evaluate", "--data", manifest, "--device", "cpu", "--json", *options)
    assert said.exit_code == 0, said.output
    found: list[dict[str, Any]] = json.loads(said.stdout)
    return found


def test_all_encoders_stand_in_one_table(manifest: Path, tmp_path: Path) -> None:
    checkpoints.save(tmp_path / "mine", untrained())
    encoders = ("pixels", "random", tmp_path / "mine")
    options = [part for encoder in encoders for part in ("--encoder", encoder)]

    said = similis("evaluate", "--data", manifest, "--device", "cpu", *options)

    assert said.exit_code == 0, said.output
    first_two = [
        tuple(cell.strip() for cell in line.split("│")[1:3])
        for line in said.stdout.splitlines()
        if line.startswith("│")
    ]
    levels = ["(chance)", "(majority)", "pixels", "random", "mine"]
    assert first_two == [(source, name) for source in ("made", "macro") for name in levels]
    assert "query: eval items, gallery: train items of the source" in said.stdout


def test_scores_can_be_checked_from_the_vectors_alone(manifest: Path, tmp_path: Path) -> None:
    out = tmp_path / "v.npz"
    said = similis("embed", "--data", manifest, "--encoder", "pixels", "--out", out)
    assert said.exit_code == 0, said.output
    (reported,) = evaluated(manifest, "--encoder", "pixels")

    kept = load(out)
    items = read_items(manifest)
    assert kept.ids == tuple(item.path for item in items)
    embedded = Embedded(items, kept.vectors, kept.model_id, ())
    again = as_json(evaluate("pixels", embedded))
    assert json.loads(json.dumps(again)) == reported

    # And by hand, with nothing of Similis but the file: precision at 1.
    unit = kept.vectors / np.linalg.norm(kept.vectors, axis=1, keepdims=True)
    asked = [n for n, item in enumerate(items) if item.split is Split.EVAL]
    hits = []
    for n in asked:
        gallery = [
            m
            for m, item in enumerate(items)
            if item.split is Split.TRAIN and item.patient_id != items[n].patient_id
        ]
        nearest = max(gallery, key=lambda m: float(unit[n] @ unit[m]))
        hits.append(items[nearest].label == items[n].label)
    assert reported["sources"]["made"]["metrics"]["P@1"]["value"] == pytest.approx(np.mean(hits))


def test_paths_are_embedded_with_the_shipped_encoder(manifest: Path, tmp_path: Path) -> None:
    out = tmp_path / "v.npz"
    paths = sorted(manifest.parent.glob("stripes-*.png"))[:3]

    said = similis("embed", *paths, "--out", out, "--device", "cpu")

    assert said.exit_code == 0, said.output
    kept = load(out)
    assert kept.ids == tuple(map(str, paths))
    assert kept.model_id == checkpoints.model_id(checkpoints.load())
    assert np.linalg.norm(kept.vectors, axis=1) == pytest.approx(np.ones(3), abs=1e-5)


def test_a_page_is_written_and_json_stays_json(manifest: Path, tmp_path: Path) -> None:
    page = tmp_path / "page.html"

    (found,) = evaluated(manifest, "--encoder", "pixels", "--report", page)

    assert found["encoder"] == "pixels"
    assert page.read_text(encoding="utf-8").startswith("<!doctype html>")


def test_one_modality_asks_and_another_answers(manifest: Path, tmp_path: Path) -> None:
    rows = manifest.read_text().splitlines()
    seen: Counter[str] = Counter()
    for number, line in enumerate(rows[1:], start=1):
        path, split, kind, _, _, label, _, source = line.split(",")
        part = f"PART{CLASSES.index(label)}"
        turn = seen[part + split]
        seen[part + split] += 1
        patient, modality = f"{part}-{split}-{turn // 2}", ("MR", "CT")[turn % 2]
        rows[number] = f"{path},{split},{kind},{modality},{part},,{patient},{source}"
    crossed = manifest.parent / "crossed.csv"
    crossed.write_text("\n".join(rows) + "\n")

    (found,) = evaluated(crossed, "--encoder", "pixels", "--cross", "mr:ct")

    assert list(found["sources"]) == ["MR:CT"]
    assert "hit: same body part" in found["sources"]["MR:CT"]["rule"]
    assert found["macro"]["P@1"]["value"] == 1.0
    (by_patient,) = evaluated(
        crossed, "--encoder", "pixels", "--cross", "MR:CT", "--hit", "patient"
    )
    assert "hit: the same patient" in by_patient["sources"]["MR:CT"]["rule"]


def test_only_the_named_sources_are_scored(manifest: Path) -> None:
    said = similis("evaluate", "--data", manifest, "--encoder", "pixels", "--source", "other")

    assert said.exit_code == 2
    assert "other is none of: made" in said.stderr


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        (["evaluate", "--encoder", "pixels"], "--data"),
        (["evaluate", "--data", "DATA"], "--encoder"),
        (["evaluate", "--data", "DATA", "--encoder", "pixels", "--cross", "CT"], "--cross"),
        (["evaluate", "--data", "DATA", "--encoder", "pixels", "--report", "/no/x"], "--report"),
        (["evaluate", "--data", "DATA", "--encoder", "pixels", "--hit", "age"], "--hit"),
        (["embed", "--out", "x.npz"], "either paths or --data"),
        (["embed", "--out", "x.npz", "--data", "DATA", "more"], "either paths or --data"),
        (["embed", "--data", "DATA", "--out", "/no/such/x.npz"], "--out"),
    ],
)
def test_bad_usage_names_the_option(manifest: Path, options: list[str], complaint: str) -> None:
    said = similis(*(manifest if option == "DATA" else option for option in options))

    assert said.exit_code == 2
    assert complaint in said.stderr


@pytest.mark.parametrize(
    ("options", "error"),
    [
        (["--data", "/no/such.csv", "--encoder", "pixels"], BadManifest),
        (["--data", "DATA", "--encoder", "hf:/no/such"], BaselineMissing),
        (["--data", "DATA", "--encoder", "pixels", "--cross", "CT:MR"], NothingToScore),
    ],
)
def test_what_fails_is_an_error_of_training(
    manifest: Path, options: list[str], error: type[Exception]
) -> None:
    said = similis("evaluate", *(manifest if option == "DATA" else option for option in options))

    assert type(said.exception) is error


def test_an_error_of_training_is_one_line_and_exit_code_1() -> None:
    said = subprocess.run(
        [sys.executable, "-m", "dicom_node", "evaluate", "--data", "/no/x", "--encoder", "pixels"],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )

    assert said.returncode == 1
    assert said.stderr == "similis: /no/x: there is no such file or folder\n"


def test_a_help_text_does_not_wait_for_torch() -> None:
    code = "import sys, dicom_node.cli.app; sys.exit('torch' in sys.modules)"

    assert subprocess.run([sys.executable, "-c", code], timeout=60, check=False).returncode == 0
