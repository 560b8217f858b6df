"""`similis import`: take files in as if they had been pushed."""

from pathlib import Path
from typing import Annotated

import typer

from dicom_node.cli import FAILED
from dicom_node.cli.options import (
    ConfigOption,
    DataOption,
    JsonOption,
    configured,
    print_json,
    print_table,
    progress,
)
from dicom_node.operate.take_in import QUICK, Tally, embed_waiting, files_below, take_in
from dicom_node.parts import Parts, open_parts

_NAMED = 10  # files left out that are named per reason; --json names all


def import_(
    paths: Annotated[list[Path], typer.Argument(help="DICOM files, or folders of them.")],
    data: DataOption = None,
    config: ConfigOption = None,
    json: JsonOption = False,
) -> None:
    """Take DICOM files or folders in; embed them, unless a running node does."""
    missing = [path for path in paths if not path.exists()]
    if missing:
        raise typer.BadParameter(f"{missing[0]} does not exist")
    settings = configured(config, data, log_level="error")
    parts = open_parts(settings.model_copy(update={"lifecycle": QUICK}))
    tally = Tally()
    embedded = _take_in_all(parts, list(files_below(paths)), tally)
    if json:
        print_json({"kept": tally.receipts, "left_out": tally.left_out, "embedded": embedded})
    else:
        rows = [("kept", key, n) for key, n in sorted(tally.receipts.items())]
        rows += [("left out", key, len(paths)) for key, paths in sorted(tally.left_out.items())]
        print_table("Import", ("", "what", "files"), rows)
        for key, left in sorted(tally.left_out.items()):
            for path in left[:_NAMED]:
                typer.echo(f"left out: {path}: {key}", err=True)
    if not embedded:
        typer.echo("A node runs on this data folder; it embeds the series.", err=True)
    if not tally.kept:
        raise typer.Exit(FAILED)


def _take_in_all(parts: Parts, files: list[Path], tally: Tally) -> bool:
    """Take the files in and embed what waits, with a bar for each; close the parts."""
    try:
        with progress() as bars:
            reading = bars.add_task("taking in", total=len(files))
            for path in files:
                take_in(parts, path, tally)
                bars.advance(reading)
            embedding = bars.add_task("embedding", total=None)
            return embed_waiting(
                parts, lambda done, total: bars.update(embedding, completed=done, total=total)
            )
    finally:
        parts.close()
