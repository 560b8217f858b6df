import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from imagesets import small_config, write_images
from safetensors.torch import load_file

from encoder import checkpoint
from encoder.config import PRESETS
from training import run
from training.config import Method, TrainConfig, default
from training.data import Images
from training.errors import BadRun, NonFiniteLoss
from training.loop import train
from training.manifest import read_items
from training.scores import rankme
from training.start import images_of, new_objective


class StopAt:
    """Stops after a step and remembers what was logged."""

    def __init__(self, step: int | None = None) -> None:
        self.stop_at, self.asked, self.logged = step, 0, list[dict[str, float]]()

    def log(self, step: int, values: dict[str, float]) -> None:
        self.logged.append(values)

    def stopping(self) -> bool:
        self.asked += 1
        return self.asked == self.stop_at


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Images:
    folder = tmp_path_factory.mktemp("images")
    items = read_items(write_images(folder))
    return images_of(items, small_config(Method.MAE), folder / "cache")


def trained(config: TrainConfig, images: Images, folder: Path) -> dict[str, torch.Tensor]:
    train(new_objective(config), images, config, folder, StopAt())
    return load_file(folder / run.STATE_FILE)


@pytest.mark.parametrize("method", Method)
def test_a_resumed_run_equals_an_uninterrupted_one(
    method: Method, images: Images, tmp_path: Path
) -> None:
    config = small_config(method)
    whole = trained(config, images, tmp_path / "whole")
    train(new_objective(config), images, config, tmp_path / "cut", StopAt(9))
    assert run.read(tmp_path / "cut").step == 9
    done = train(new_objective(config), images, config, tmp_path / "cut", StopAt(), resume=True)
    assert done.step == 20
    resumed = load_file(tmp_path / "cut" / run.STATE_FILE)
    assert resumed.keys() == whole.keys()
    for name, tensor in whole.items():
        assert torch.equal(resumed[name], tensor), name


@pytest.mark.parametrize("method", Method)
def test_training_lowers_the_loss(method: Method, images: Images, tmp_path: Path) -> None:
    config = small_config(method, steps=60, lr=3e-3)
    watcher = StopAt()
    train(new_objective(config), images, config, tmp_path, watcher)
    assert watcher.logged[-1]["loss"] < watcher.logged[0]["loss"] - 0.02


def test_micro_batches_count_as_one_step(images: Images, tmp_path: Path) -> None:
    config = small_config(Method.MAE, steps=2, accumulate=3)
    watcher = StopAt()
    train(new_objective(config), images, config, tmp_path, watcher)
    assert run.read(tmp_path).step == 2


def test_the_kept_encoder_of_simdino_is_the_teacher(images: Images, tmp_path: Path) -> None:
    state = trained(small_config(Method.SIMDINO, steps=3), images, tmp_path)
    kept = checkpoint.load(tmp_path / run.ENCODER)
    assert kept.description.trained
    name = "blocks.0.qkv.weight"
    assert torch.equal(kept.tensors[name], state[f"model.teacher.{name}"].half())
    assert not torch.equal(kept.tensors[name], state[f"model.student.{name}"].half())


def test_a_loss_that_is_no_number_stops_the_run_and_names_the_items(
    images: Images, tmp_path: Path
) -> None:
    config = small_config(Method.MAE, lr=1e30, warmup=0.0)
    with pytest.raises(NonFiniteLoss, match="not finite") as caught:
        train(new_objective(config), images, config, tmp_path, StopAt())
    named = caught.value.written_to.read_text().split()
    assert len(named) == 8
    assert set(named) <= {entry.path for entry in images.entries}


def test_another_config_or_other_data_cannot_be_resumed(images: Images, tmp_path: Path) -> None:
    config = small_config(Method.MAE, steps=1)
    trained(config, images, tmp_path)
    other = replace(config, lr=1.0)
    with pytest.raises(BadRun, match="other settings: lr"):
        train(new_objective(other), images, other, tmp_path, StopAt(), resume=True)
    images.fingerprint, kept = "other", images.fingerprint
    try:
        with pytest.raises(BadRun, match="other images"):
            train(new_objective(config), images, config, tmp_path, StopAt(), resume=True)
    finally:
        images.fingerprint = kept


def test_damaged_runs_are_refused(images: Images, tmp_path: Path) -> None:
    config = small_config(Method.MAE, steps=1)
    trained(config, images, tmp_path)
    state = tmp_path / run.STATE_FILE
    state.write_bytes(state.read_bytes()[:-100])
    with pytest.raises(BadRun, match="damaged or cut short"):
        train(new_objective(config), images, config, tmp_path, StopAt(), resume=True)
    (tmp_path / run.RUN_FILE).write_text("{}")
    with pytest.raises(BadRun, match=r"run\.json"):
        train(new_objective(config), images, config, tmp_path, StopAt(), resume=True)
    with pytest.raises(BadRun, match="cannot be read"):
        run.read(tmp_path / "nowhere")


def test_starting_from_an_encoder_of_another_shape_is_refused(
    images: Images, tmp_path: Path
) -> None:
    config = small_config(Method.MAE, steps=1)
    trained(config, images, tmp_path)
    begun = new_objective(config, tmp_path / run.ENCODER)
    assert torch.isfinite(next(begun.parameters())).all()
    with pytest.raises(BadRun, match="another shape"):
        new_objective(default(Method.MAE), tmp_path / run.ENCODER)


@pytest.mark.slow
def test_the_base_preset_takes_two_steps(images: Images, tmp_path: Path) -> None:
    config = default(Method.SIMDINO, preset="base", steps=2)
    config = replace(config, batch=2, local_crops=1, cine_share=0.0, volume_share=0.0)
    objective = new_objective(config)
    train(objective, images, config, tmp_path, StopAt())
    assert objective.student.config == PRESETS["base"]
    assert run.read(tmp_path).step == 2


def test_rankme_counts_the_directions_in_use() -> None:
    assert rankme(torch.eye(16).numpy()) == pytest.approx(16, rel=1e-3)
    assert rankme(torch.ones(16, 8).numpy()) == pytest.approx(1, rel=1e-3)


LAUNCHER = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]


def command(data: Path, out: Path, *more: str) -> list[str]:
    """A run by the command line, small by its settings."""
    small = ["--set", "batch=4", "--set", "local_crops=1", "--set", "bf16=false", "--threads", "1"]
    return [
        "-m",
        "dicom_node",
        "train",
        "mae",
        "--data",
        str(data),
        "--out",
        str(out),
        *small,
        *more,
    ]


@pytest.mark.slow
def test_sigterm_saves_and_the_run_goes_on_from_there(tmp_path: Path) -> None:
    manifest = write_images(tmp_path)
    out = tmp_path / "run"
    begin = [sys.executable, *command(manifest, out, "--steps", "100", "--set", "batch=2")]
    assert stopped(begin, out) == 0
    assert 20 <= run.read(out).step < 100
    assert subprocess.run(begin, check=False, timeout=60).returncode == 1  # not by mistake
    subprocess.run([*begin, "--resume"], check=True, timeout=300)
    assert run.read(out).step == 100
    steps = [json.loads(line)["step"] for line in (out / "log.jsonl").read_text().splitlines()]
    assert steps == [20, 40, 60, 80, 100]


def stopped(begin: list[str], out: Path) -> int:
    """Start a run and end it by SIGTERM after its first line; return its exit code."""
    process = subprocess.Popen(begin, env={**os.environ, "OMP_NUM_THREADS": "1"})
    try:
        until = time.monotonic() + 120
        while not (out / "log.jsonl").exists() or not (out / "log.jsonl").read_text():
            assert time.monotonic() < until
            assert process.poll() is None
            time.sleep(0.05)
        process.send_signal(signal.SIGTERM)
        return process.wait(60)
    finally:
        process.kill()


@pytest.mark.slow
def test_sigterm_to_their_launcher_saves_what_two_processes_trained(tmp_path: Path) -> None:
    out = tmp_path / "run"
    settings = ["--steps", "2000", "--set", "batch=2", "--device", "cpu"]
    stopped([sys.executable, *LAUNCHER, *command(write_images(tmp_path), out, *settings)], out)
    assert 20 <= run.read(out).step < 2000


@pytest.mark.slow
@pytest.mark.parametrize("spread", ["ddp", "fsdp"])
def test_two_processes_train_as_one(spread: str, tmp_path: Path) -> None:
    manifest = write_images(tmp_path)
    settings = ["--steps", "2", "--cache", str(tmp_path / "cache"), "--device", "cpu"]
    one = [sys.executable, *command(manifest, tmp_path / "one", *settings)]
    subprocess.run(one, check=True, timeout=300)
    two = command(manifest, tmp_path / "two", *settings, "--spread", spread)
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    subprocess.run([sys.executable, *LAUNCHER, *two], check=True, timeout=300, env=environment)
    losses = [
        json.loads((tmp_path / name / "log.jsonl").read_text())["loss"] for name in ("one", "two")
    ]
    assert losses[0] == pytest.approx(losses[1], rel=1e-3)
    weights = [load_file(tmp_path / name / run.STATE_FILE) for name in ("one", "two")]
    assert weights[0].keys() == weights[1].keys()
    for name, tensor in weights[0].items():
        if name.startswith("model."):
            torch.testing.assert_close(weights[1][name], tensor, rtol=1e-3, atol=1e-4)
