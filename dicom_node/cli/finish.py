"""`similis finish`: choose pooling and whitening for a trained encoder, on train items alone."""

from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer

from dicom_node.cli.evaluate import DeviceOption, ManifestOption
from dicom_node.cli.options import print_table, progress

_SHOWN = 10


def finish(
    encoder: Annotated[Path, typer.Argument(help="The folder of a checkpoint, as RUN/encoder.")],
    data: ManifestOption,
    out: Annotated[Path, typer.Option("--out", help="Folder of the new checkpoint.")],
    name: Annotated[str | None, typer.Option(help="Name of the new encoder.")] = None,
    exclude: Annotated[
        list[str] | None, typer.Option(help="Source that takes no part; repeatable.")
    ] = None,
    device: DeviceOption = "auto",
) -> None:
    """Write the encoder with the pooling, centre and whitening that retrieve best.

    Judged on held-out patients of the train split; the eval split is not looked at.
    """
    from encoder import checkpoint as checkpoints
    from training import postprocess
    from training.manifest import Split, read_items

    checkpoint = checkpoints.load(encoder)
    items = [
        item
        for item in read_items(data)
        if item.split is Split.TRAIN and item.source not in (exclude or [])
    ]
    with progress() as bars:
        bar = bars.add_task("embedding", total=len(items))
        finished = postprocess.finish(checkpoint, items, lambda: bars.advance(bar), device=device)
    kept = finished.checkpoint
    if name is not None:
        kept = replace(kept, description=replace(kept.description, name=name))
    checkpoints.save(out, kept)
    rows = [
        (
            one.candidate.pooling,
            "yes" if one.candidate.centred else "no",
            one.candidate.dim or "",
            one.candidate.shrinkage or "",
            f"{one.map_at_10:.3f}",
        )
        for one in finished.tried[:_SHOWN]
    ]
    columns = ("pooling", "centred", "whitened to", "shrinkage", "mAP@10 on held-out train items")
    print_table(f"{checkpoints.version(kept)} in {out}", columns, rows)
