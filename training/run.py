"""A training run on disk: what it is, how far it came, and the encoder it has so far.

Owns: the folder's layout and its checks. Nothing in it is a pickle.

    run.json            config, data fingerprint, commit, step, metrics
    state.safetensors   every parameter and the optimiser's moments
    encoder/            a checkpoint that `similis` loads
    log.jsonl           a line per logged step
"""

import json
import os
import subprocess
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

import pydantic
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from encoder import checkpoint as checkpoints
from encoder.checkpoint import Checkpoint, Description
from training.config import TrainConfig
from training.errors import BadRun
from training.objectives import Objective
from training.ranks import Ranks, like, whole

FORMAT = 1
RUN_FILE, STATE_FILE, ENCODER, LOG_FILE = "run.json", "state.safetensors", "encoder", "log.jsonl"
_MOMENTS = ("exp_avg", "exp_avg_sq")
_COPY_AGAIN = "Copy the whole folder again, or start a new run."


@dataclass(frozen=True, slots=True)
class Progress:
    """What `run.json` says; unknown keys are refused."""

    __pydantic_config__ = pydantic.ConfigDict(extra="forbid")

    format: int
    config: TrainConfig
    data: str  # fingerprint of the images
    commit: str
    step: int  # steps done
    seconds: float
    metrics: dict[str, float]


def save(
    folder: Path,
    progress: Progress,
    objective: Objective,
    optimiser: torch.optim.Optimizer,
    ranks: Ranks,
) -> None:
    """Write everything that resuming needs beside the old, then replace it file by file.

    The step is in the state too: a run whose files do not agree is refused, not continued. Every
    process must call it, one writes.
    """
    tensors = {f"model.{name}": whole(t) for name, t in objective.state_dict().items()}
    tensors.update(_moments(objective, optimiser))
    tensors["step"] = torch.tensor(progress.step)
    kept = {name: whole(t) for name, t in objective.kept.state_dict().items()}
    if not ranks.writes:
        return
    folder.mkdir(parents=True, exist_ok=True)
    beside = folder / f"{STATE_FILE}.writing"
    save_file({name: t.contiguous() for name, t in tensors.items()}, beside)
    _replace(beside, folder / STATE_FILE)
    text = json.dumps(asdict(progress), indent=2, sort_keys=True)
    beside = folder / f"{RUN_FILE}.writing"
    beside.write_text(text + "\n", encoding="utf-8")
    _replace(beside, folder / RUN_FILE)
    checkpoints.save(folder / ENCODER, exported(progress, kept))


def exported(progress: Progress, weights: Mapping[str, Tensor]) -> Checkpoint:
    """Return the encoder that the run keeps, in half precision, as a checkpoint."""
    config = progress.config
    description = Description(
        format=checkpoints.FORMAT,
        name=f"similis-{config.method}",
        trained=True,
        seed=config.seed,
        config=config.encoder,
        metrics=progress.metrics,
    )
    return Checkpoint(description, {name: tensor.half() for name, tensor in weights.items()})


def read(folder: Path) -> Progress:
    """Read `run.json`; BadRun where it is missing, damaged or of another format."""
    advice = "Start a new run in another folder."
    try:
        text = (folder / RUN_FILE).read_bytes()
        progress = pydantic.TypeAdapter(Progress).validate_json(text)
    except OSError as error:
        raise BadRun(folder, f"{RUN_FILE} cannot be read ({error.strerror})", advice) from error
    except pydantic.ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        place = ".".join(map(str, first["loc"]))
        raise BadRun(folder, f"{RUN_FILE}: {place}: {first['msg']}", advice) from error
    if progress.format != FORMAT:
        reason = f"{RUN_FILE} has format {progress.format}, this version reads {FORMAT}"
        raise BadRun(folder, reason, advice)
    return progress


def resumable(folder: Path, config: TrainConfig, data: str) -> Progress:
    """Read a run that has this config and these data; BadRun where it has others."""
    progress = read(folder)
    saved, asked = asdict(progress.config), asdict(config)
    if other := sorted(key for key in saved if saved[key] != asked[key]):
        reason = f"it was begun with other settings: {', '.join(other)}"
        raise BadRun(folder, reason, "Resume with the options it was begun with.")
    if progress.data != data:
        reason = "it was begun with other images"
        raise BadRun(folder, reason, "Resume with the --data, --exclude and --allow it had.")
    return progress


def read_state(folder: Path, progress: Progress) -> dict[str, Tensor]:
    """Read the tensors of a run; BadRun where they are damaged or from another step."""
    try:
        tensors = load_file(folder / STATE_FILE)
    except (SafetensorError, OSError) as error:
        reason = f"{STATE_FILE} is damaged or cut short ({error})"
        raise BadRun(folder, reason, _COPY_AGAIN) from error
    if int(tensors.pop("step", torch.tensor(-1))) != progress.step:
        raise BadRun(folder, f"{STATE_FILE} is not of step {progress.step}", _COPY_AGAIN)
    return tensors


def restore_model(folder: Path, objective: Objective, tensors: Mapping[str, Tensor]) -> None:
    """Put the parameters back; BadRun where they do not fit."""
    mine = {n.removeprefix("model."): t for n, t in tensors.items() if n.startswith("model.")}
    try:
        objective.load_state_dict(mine)
    except RuntimeError as error:
        raise BadRun(folder, f"{STATE_FILE} does not fit its config", _COPY_AGAIN) from error


def restore_moments(
    objective: Objective, optimiser: torch.optim.Optimizer, tensors: Mapping[str, Tensor]
) -> None:
    """Put the optimiser's moments back, placed as its parameters are."""
    for name, parameter in objective.named_parameters():
        if f"moment.step.{name}" in tensors:
            state = {key: like(tensors[f"moment.{key}.{name}"], parameter) for key in _MOMENTS}
            optimiser.state[parameter] = {"step": tensors[f"moment.step.{name}"], **state}


def _moments(objective: Objective, optimiser: torch.optim.Optimizer) -> dict[str, Tensor]:
    return {
        f"moment.{key}.{name}": whole(optimiser.state[parameter][key])
        for name, parameter in objective.named_parameters()
        if parameter in optimiser.state
        for key in ("step", *_MOMENTS)
    }


def _replace(beside: Path, path: Path) -> None:
    with beside.open("rb") as file:
        os.fsync(file.fileno())
    beside.replace(path)


def commit() -> str:
    """Return the commit this code was run from, empty where it is no checkout."""
    command = ["git", "-C", str(Path(__file__).parent), "rev-parse", "--short=12", "HEAD"]
    try:
        found = subprocess.run(command, capture_output=True, text=True, check=False, timeout=10)
    except OSError:
        return ""
    return found.stdout.strip()
