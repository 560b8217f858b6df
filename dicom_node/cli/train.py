"""`similis train mae|simdino|joint|distill`: make an encoder from images alone."""

from pathlib import Path
from typing import Annotated

import typer

from dicom_node.cli.options import ConfigOption, DeviceOption
from encoder.config import PRESETS
from training.config import Method, Spread, TrainConfig, changed, default

MethodArgument = Annotated[Method, typer.Argument(help="How it learns.")]
ImagesOption = Annotated[
    str, typer.Option("--data", help="Manifest, folder of images, or catalogue:[DATA FOLDER].")
]
OutOption = Annotated[Path, typer.Option("--out", help="Folder of the run.")]
PresetOption = Annotated[str, typer.Option(help=", ".join(PRESETS))]
WidthOption = Annotated[int | None, typer.Option(help="Width other than the preset's.")]
StepsOption = Annotated[int, typer.Option(min=1, help="Steps of the whole run.")]
SeedOption = Annotated[int, typer.Option(help="Of every random choice.")]
SetOption = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="NAME=VALUE", help="Another setting; repeatable."),
]
InitOption = Annotated[Path | None, typer.Option(help="Encoder to start from.")]
ResumeOption = Annotated[bool, typer.Option("--resume", help="Go on with the run in OUT.")]
AllowOption = Annotated[list[str] | None, typer.Option(help="Train on MR too, as MR.")]
ExcludeOption = Annotated[list[str] | None, typer.Option(help="Modality or source; repeatable.")]
CacheOption = Annotated[
    Path | None, typer.Option(help="Folder of resized images.", show_default="beside OUT")
]
ThreadsOption = Annotated[int | None, typer.Option(min=1, help="Of the CPU.")]
SpreadOption = Annotated[Spread, typer.Option(help="Under torchrun.")]
SaveOption = Annotated[float, typer.Option(min=0, help="Between checkpoints.")]


def train(
    method: MethodArgument,
    data: ImagesOption,
    out: OutOption,
    preset: PresetOption = "tiny",
    width: WidthOption = None,
    steps: StepsOption = 20_000,
    seed: SeedOption = 0,
    setting: SetOption = None,
    init: InitOption = None,
    resume: ResumeOption = False,
    allow: AllowOption = None,
    exclude: ExcludeOption = None,
    cache: CacheOption = None,
    device: DeviceOption = "auto",
    threads: ThreadsOption = None,
    spread: SpreadOption = Spread.DDP,
    save_minutes: SaveOption = 10.0,
    config: ConfigOption = None,
) -> None:
    """Train an encoder, by self-supervision or (distill) from a network that knows ImageNet.

    A run can be stopped and resumed.
    """
    settings = _settings(method, preset, width, steps, seed, setting or [])
    from dicom_node.cli.training_run import Order, carry_out  # here: it loads torch

    choice = (tuple(allow or ()), tuple(exclude or ()))
    order = Order(settings, data, out, init, resume, *choice, cache, device, threads, spread,
                  60 * save_minutes, config)  # fmt: skip
    carry_out(order)


def _settings(
    method: Method, preset: str, width: int | None, steps: int, seed: int, changes: list[str]
) -> TrainConfig:
    if preset not in PRESETS:
        raise typer.BadParameter(f"{preset} is none of {', '.join(PRESETS)}")
    try:
        usual = default(method, preset=preset, width=width, steps=steps, seed=seed)
        return changed(usual, changes)
    except ValueError as error:
        raise typer.BadParameter(str(error)) from error
