"""`similis train`: make an encoder from images alone, or bind one to words."""

from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import typer

from dicom_node.cli.options import ConfigOption, DeviceOption
from encoder.config import PRESETS
from training.bind_config import BindConfig
from training.config import Method, Spread, TrainConfig, changed, default

_HELP: dict[Method, str] = {
    Method.MAE: "Train an encoder to restore what is hidden from it.",
    Method.SIMDINO: "Train an encoder to see the same in two views of an image.",
    Method.JOINT: "Train an encoder by both: views, and what is hidden of them.",
    Method.DISTILL: "Train an encoder to say what a network says that knows ImageNet's labels.",
}
_RESUMABLE = "\n\nA run can be stopped and resumed."

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

ReportsOption = Annotated[
    Path | None,
    typer.Option(help="Folder of your own reports: text, tables, DICOM SR or PDF in DICOM."),
]
EncoderOption = Annotated[
    Path | None,
    typer.Option(help="Image encoder to bind.", show_default="the shipped encoder"),
]
TextOption = Annotated[
    Path | None, typer.Option(help="Text tower to start from.", show_default="all-MiniLM-L6-v2")
]

app = typer.Typer(
    help="Train an encoder from images alone, or bind one to words.",
    no_args_is_help=True,
    rich_markup_mode=None,
)


def _trainer(method: Method) -> Callable[..., None]:
    """Return the command that trains by one method."""

    def train(
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
        settings = _settings(method, preset, width, steps, seed, setting or [])
        from dicom_node.cli.training_run import Order, carry_out  # here: it loads torch

        choice = (tuple(allow or ()), tuple(exclude or ()))
        order = Order(settings, data, out, init, resume, *choice, cache, device, threads, spread,
                      60 * save_minutes, config)  # fmt: skip
        carry_out(order)

    return train


for _method in Method:
    app.command(str(_method), help=_HELP[_method] + _RESUMABLE)(_trainer(_method))


@app.command("bind")
def bind(
    data: ImagesOption,
    out: OutOption,
    reports: ReportsOption = None,
    encoder: EncoderOption = None,
    text: TextOption = None,
    seed: SeedOption = 0,
    setting: SetOption = None,
    resume: ResumeOption = False,
    allow: AllowOption = None,
    exclude: ExcludeOption = None,
    device: DeviceOption = "auto",
    threads: ThreadsOption = None,
    config: ConfigOption = None,
) -> None:
    """Bind images of all modalities to words: a text space in OUT/space.

    Learns from the train items alone; the image encoder stays as it is. A run can be stopped and
    resumed.
    """
    try:
        settings = changed(BindConfig(seed=seed), setting or [])
    except ValueError as error:
        raise typer.BadParameter(str(error)) from error
    from dicom_node.cli.binding_run import Order, carry_out  # here: it loads torch

    choice = (tuple(allow or ()), tuple(exclude or ()))
    carry_out(Order(settings, data, out, reports, encoder, text, resume, *choice, device, threads,
                    config))  # fmt: skip


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
