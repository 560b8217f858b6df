"""`similis finish`: choose pooling and whitening for a trained encoder, on train items alone."""

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from dicom_node.cli.evaluate import ManifestOption
from dicom_node.cli.options import DeviceOption, print_table, progress

if TYPE_CHECKING:  # it loads torch
    from training.postprocess import Candidate

_SHOWN = 10
_COLUMNS = ("pooling", "centred", "whitened to", "shrinkage", "mAP@10 on held-out train items")


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

    left_out = exclude or []
    items = [i for i in read_items(data) if i.split is Split.TRAIN and i.source not in left_out]
    with progress() as bars:
        bar = bars.add_task("embedding", total=len(items))
        finished = postprocess.finish(
            checkpoints.load(encoder), items, lambda: bars.advance(bar), device=device
        )
    kept = finished.checkpoint
    if name is not None:
        kept = replace(kept, description=replace(kept.description, name=name))
    checkpoints.save(out, kept)
    rows = [_row(one.candidate, one.map_at_10) for one in finished.tried[:_SHOWN]]
    print_table(f"{checkpoints.version(kept)} in {out}", _COLUMNS, rows)


def _row(candidate: "Candidate", map_at_10: float) -> tuple[object, ...]:
    whitened = (candidate.dim, candidate.shrinkage) if candidate.dim else ("", "")
    return (
        candidate.pooling,
        "yes" if candidate.centred else "no",
        *whitened,
        f"{map_at_10:.3f}",
    )
