"""`similis embed`: vectors in a file, for anyone's own analysis."""

from pathlib import Path
from typing import Annotated

import typer

from dicom_node.cli.evaluate import ENCODERS
from dicom_node.cli.options import DeviceOption, progress


def embed(
    out: Annotated[Path, typer.Option(help="The file to write, .npz.")],
    paths: Annotated[
        list[Path] | None, typer.Argument(help="Pictures, films, DICOM files, or folders of them.")
    ] = None,
    data: Annotated[
        Path | None, typer.Option("--data", help="A manifest, or a folder that holds one.")
    ] = None,
    encoder: Annotated[
        str | None, typer.Option(help=f"{ENCODERS}.", show_default="the shipped encoder")
    ] = None,
    device: DeviceOption = "auto",
) -> None:
    """Write ids, vectors (N, D) float32 and model_id; numpy.load opens the file."""
    from encoder.checkpoint import SHIPPED
    from training.baselines import method
    from training.evaluate import embed_items
    from training.manifest import items_below, read_items
    from training.vectors_file import save

    if (data is None) == (not paths):
        raise typer.BadParameter("give either paths or --data")
    if not out.resolve().parent.is_dir():
        raise typer.BadParameter(f"{out.resolve().parent} is no folder", param_hint="--out")
    items = read_items(data) if data is not None else items_below(paths or [])
    chosen = method(str(SHIPPED) if encoder is None else encoder, device=device)
    with progress() as bars:
        bar = bars.add_task(f"embedding: {chosen.name}", total=len(items))
        embedded = embed_items(items, chosen, lambda: bars.advance(bar))
    save(out, [item.path for item in embedded.items], embedded.vectors, embedded.model_id)
    for line in embedded.unreadable:
        typer.echo(f"left out: {line}", err=True)
    rows, width = embedded.vectors.shape
    typer.echo(f"{out}: {rows} vectors of {width} values, model {embedded.model_id}")
