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
from typing import Any, ClassVar, Protocol, TypeVar

import pydantic
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

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


class Kept(Protocol):
    """What `run.json` may say: which run it is and how far it came."""

    __dataclass_fields__: ClassVar[dict[str, Any]]

    @property
    def format(self) -> int:
        """Number of the format."""

    @property
    def config(self) -> Any:
        """A dataclass of everything that decides the outcome, save the data."""

    @property
    def data(self) -> str:
        """Fingerprint of what is learned from."""

    @property
    def step(self) -> int:
        """Steps done."""


_K = TypeVar("_K", bound=Kept)


def save(
    folder: Path,
    progress: Progress,
    objective: Objective,
    optimiser: torch.optim.Optimizer,
    ranks: Ranks,
) -> None:
    """Write everything that resuming needs, and the encoder.

    Every process must call it, one writes.
    """
    tensors = {f"model.{name}": whole(t) for name, t in objective.state_dict().items()}
    tensors.update(moments(objective, optimiser))
    kept = {name: whole(t) for name, t in objective.kept.state_dict().items()}
    if not ranks.writes:
        return
    write(folder, progress, tensors)
    checkpoints.save(folder / ENCODER, exported(progress, kept))


def write(folder: Path, progress: Kept, tensors: Mapping[str, Tensor]) -> None:
    """Write state and progress beside the old, then replace them file by file.

    The step is in the state too: a run whose files do not agree is refused, not continued.
    """
    folder.mkdir(parents=True, exist_ok=True)
    beside = folder / f"{STATE_FILE}.writing"
    state = {**tensors, "step": torch.tensor(progress.step)}
    save_file({name: t.contiguous() for name, t in state.items()}, beside)
    _replace(beside, folder / STATE_FILE)
    text = json.dumps(asdict(progress), indent=2, sort_keys=True)
    beside = folder / f"{RUN_FILE}.writing"
    beside.write_text(text + "\n", encoding="utf-8")
    _replace(beside, folder / RUN_FILE)


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
    return read_as(folder, Progress)


def read_as(folder: Path, kind: type[_K]) -> _K:
    """Read `run.json` of a run of any kind; raises as `read`."""
    advice = "Start a new run in another folder."
    try:
        text = (folder / RUN_FILE).read_bytes()
        progress = pydantic.TypeAdapter(kind).validate_json(text)
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
    return resumable_as(folder, Progress, config, data)


def resumable_as(folder: Path, kind: type[_K], config: Any, data: str) -> _K:
    """Read a run of any kind; raises as `resumable`."""
    progress = read_as(folder, kind)
    saved, asked = asdict(progress.config), asdict(config)
    if other := sorted(key for key in saved if saved[key] != asked[key]):
        reason = f"it was begun with other settings: {', '.join(other)}"
        raise BadRun(folder, reason, "Resume with the options it was begun with.")
    if progress.data != data:
        reason = "it was begun with other images"
        raise BadRun(folder, reason, "Resume with the --data, --exclude and --allow it had.")
    return progress


def read_state(folder: Path, progress: Kept) -> dict[str, Tensor]:
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
    trained: nn.Module, optimiser: torch.optim.Optimizer, tensors: Mapping[str, Tensor]
) -> None:
    """Put the optimiser's moments back, placed as its parameters are."""
    for name, parameter in trained.named_parameters():
        if f"moment.step.{name}" in tensors:
            state = {key: like(tensors[f"moment.{key}.{name}"], parameter) for key in _MOMENTS}
            optimiser.state[parameter] = {"step": tensors[f"moment.step.{name}"], **state}


def moments(trained: nn.Module, optimiser: torch.optim.Optimizer) -> dict[str, Tensor]:
    """Return the optimiser's moments by the names of its parameters."""
    return {
        f"moment.{key}.{name}": whole(optimiser.state[parameter][key])
        for name, parameter in trained.named_parameters()
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
