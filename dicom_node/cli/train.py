"""`similis train mae|simdino|joint`: make an encoder from images alone."""

from pathlib import Path
from typing import Annotated

import typer

from dicom_node.cli.options import ConfigOption
from encoder.config import PRESETS
from training.config import Method, Spread, changed, default


def train(
    method: Annotated[Method, typer.Argument(help="How it learns.")],
    data: Annotated[
        str, typer.Option("--data", help="Manifest, folder of images, or catalogue:[DATA FOLDER].")
    ],
    out: Annotated[Path, typer.Option("--out", help="Folder of the run.")],
    preset: Annotated[str, typer.Option(help=", ".join(PRESETS))] = "tiny",
    width: Annotated[int | None, typer.Option(help="Width other than the preset's.")] = None,
    steps: Annotated[int, typer.Option(min=1, help="Steps of the whole run.")] = 20_000,
    seed: Annotated[int, typer.Option(help="Of every random choice.")] = 0,
    setting: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="NAME=VALUE", help="Another setting; repeatable."),
    ] = None,
    init: Annotated[Path | None, typer.Option(help="Encoder to start from.")] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on with the run in OUT.")] = False,
    allow: Annotated[list[str] | None, typer.Option(help="Train on MR too, as MR.")] = None,
    exclude: Annotated[list[str] | None, typer.Option(help="Modality or source.")] = None,
    cache: Annotated[
        Path | None, typer.Option(help="Of resized images.", show_default="beside OUT")
    ] = None,
    device: Annotated[str, typer.Option(help="auto, cpu or cuda.")] = "auto",
    threads: Annotated[int | None, typer.Option(min=1, help="Of the CPU.")] = None,
    spread: Annotated[Spread, typer.Option(help="Under torchrun.")] = Spread.DDP,
    save_minutes: Annotated[float, typer.Option(min=0, help="Between checkpoints.")] = 10.0,
    config: ConfigOption = None,
) -> None:
    """Train an encoder by self-supervision; a run can be stopped and resumed."""
    if preset not in PRESETS:
        raise typer.BadParameter(f"{preset} is none of {', '.join(PRESETS)}")
    try:
        settings = changed(
            default(method, preset=preset, width=width, steps=steps, seed=seed), setting or []
        )
    except ValueError as error:
        raise typer.BadParameter(str(error)) from error
    from dicom_node.cli.training_run import Order, carry_out  # here: it loads torch

    order = Order(
        settings=settings,
        data=data,
        out=out,
        init=init,
        resume=resume,
        allow=tuple(allow or ()),
        exclude=tuple(exclude or ()),
        cache=cache,
        device=device,
        threads=threads,
        spread=spread,
        save_every_s=60 * save_minutes,
        config=config,
    )
    carry_out(order)
