"""`similis reindex`: the vectors of another encoder, filled beside those that answer."""

import os
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from dicom_node.cli.options import (
    ConfigOption,
    DataOption,
    JsonOption,
    configured,
    print_json,
    print_table,
    progress,
)
from dicom_node.operate.reindex import Reindexed, drop_old, former_encoder
from dicom_node.operate.reindex import reindex as reindex_all
from dicom_node.parts import Parts, existing_parts

_NICE = 10  # the node goes first where both want a core


def reindex(
    encoder: Annotated[
        Path | None,
        typer.Option(help="Checkpoint folder.", show_default="the configured encoder"),
    ] = None,
    rollback: Annotated[
        bool, typer.Option("--rollback", help="Go back to the encoder that answered before.")
    ] = False,
    drop: Annotated[
        bool, typer.Option("--drop-old", help="Then delete all vectors that do not answer.")
    ] = False,
    share: Annotated[
        float, typer.Option(min=0.01, max=1.0, help="Part of the time that it works.")
    ] = 0.5,
    data: DataOption = None,
    config: ConfigOption = None,
    json: JsonOption = False,
) -> None:
    """Embed everything with another encoder, then change over; goes on where it was stopped.

    A running node answers with the old vectors until then, and needs no restart.
    """
    if rollback and encoder is not None:
        raise typer.BadParameter("--rollback has its encoder", param_hint="--encoder")
    parts = existing_parts(configured(config, data, log_level="error"))
    try:
        done = _run(parts, encoder, rollback=rollback, share=share)
        if drop:
            done.dropped = drop_old(parts)
    finally:
        parts.close()
    if json:
        print_json(asdict(done))
    else:
        _print(done)


def _run(parts: Parts, encoder: Path | None, *, rollback: bool, share: float) -> Reindexed:
    if rollback:
        former, encoder = former_encoder(parts)
        lacking = len(parts.catalogue.lacking_series(former.model_id).series_ids)
        typer.echo(f"{former.version} lacks {lacking} series, which are embedded first.", err=True)
    os.nice(_NICE)
    with progress() as bars:
        bar = bars.add_task("embedding", total=None)
        return reindex_all(
            parts,
            encoder,
            share=share,
            advance=lambda done, total: bars.update(bar, completed=done, total=total),
        )


def _print(done: Reindexed) -> None:
    rows = [
        ("answers now", done.encoder),
        ("answered before", done.former or "the same"),
        ("series embedded", done.embedded),
        ("clips embedded twice and equal", done.verified),
        ("series with a gap", len(done.gaps)),
        *(("dropped", model_id) for model_id in done.dropped),
    ]
    print_table("Reindex", ("", ""), rows)
    if done.gaps:
        gaps = [(gap.series_instance_uid, gap.reason) for gap in done.gaps]
        print_table("Not, or not wholly, embedded", ("series", "reason"), gaps)
