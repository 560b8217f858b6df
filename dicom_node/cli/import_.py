"""`similis import`: take files in as if they had been pushed."""

from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

import typer

from dicom_node.cli import FAILED
from dicom_node.cli.options import (
    ConfigOption,
    DataOption,
    JsonOption,
    configured,
    print_json,
    print_table,
    printable,
    progress,
)
from dicom_node.errors import OutOfResources
from dicom_node.operate.sources import LeftOut, files_below, sources
from dicom_node.operate.take_in import QUICK, Tally, embed_waiting, take_in
from dicom_node.parts import Parts, open_parts

_NAMED = 10  # files left out that are named per reason; --json names all

Row = tuple[str, str, int, str]


def import_(
    paths: Annotated[
        list[Path], typer.Argument(help="Files, zip archives of them, or folders of either.")
    ],
    report: Annotated[
        bool, typer.Option("--report", help="Report these studies too, as if they were new.")
    ] = False,
    data: DataOption = None,
    config: ConfigOption = None,
    json: JsonOption = False,
) -> None:
    """Take DICOM files in; embed them, unless a running node does."""
    missing = [path for path in paths if not path.exists() and not path.is_symlink()]
    if missing:
        raise typer.BadParameter(f"{missing[0]} does not exist")
    settings = configured(config, data, log_level="error")
    parts = open_parts(settings.model_copy(update={"lifecycle": QUICK}))
    tally, embedded, full = Tally(), False, None
    try:
        with progress() as bars:
            try:
                _take_in_all(parts, paths, tally, bars, report=report)
                embedded = embed_all(parts, bars, tally)
            except OutOfResources as error:
                full = error
    finally:
        parts.close()
    _print(tally, embedded=embedded, json=json)
    if full is not None:
        raise full
    if not embedded:
        typer.echo("A node runs on this data folder; it embeds the series.", err=True)
    if not tally.kept:
        typer.echo("Nothing could be taken in.", err=True)
        raise typer.Exit(FAILED)


def _take_in_all(parts: Parts, paths: list[Path], tally: Tally, bars: Any, *, report: bool) -> None:
    """Take in what lies below the paths, with a bar over the files."""
    files = list(files_below(paths, data=parts.folder.root))
    bar = bars.add_task("taking in", total=len(files))
    largest_bytes = parts.config.storage.maximum_object_mb << 20
    for path in files:
        found: Iterator[Any] = iter((path,))
        if not isinstance(path, LeftOut):
            found = sources(path, largest_bytes=largest_bytes)
        for each in found:
            take_in(parts, each, tally, report=report)
            bars.update(bar, description=f"taking in {tally.seen}")  # an archive is one of the bar
        bars.advance(bar)


def embed_all(parts: Parts, bars: Any, tally: Tally) -> bool:
    """Embed what waits, with a bar; False when a running node does it."""
    bar = bars.add_task("embedding", total=None)
    return embed_waiting(
        parts,
        lambda done, total: bars.update(bar, completed=done, total=total),
        settled=tally.settled,
        waiting=lambda seconds: bars.console.print(
            f"waiting up to {seconds:.0f} s: another installation on this catalogue holds a series,"
            " or one waits to be tried again",
            soft_wrap=True,
        ),
    )


def outcome_rows(tally: Tally) -> list[Row]:
    """Return table rows of the series that this run embedded."""
    series = tally.outcomes()
    return [
        ("indexed", "", series["indexed"], "series"),
        *(("nothing to embed", why, n, "series") for why, n in series["nothing_to_embed"].items()),
        *(("quarantined", why, n, "series") for why, n in series["quarantined"].items()),
    ]


def _print(tally: Tally, *, embedded: bool, json: bool) -> None:
    files = tally.files()
    if json:
        print_json({"files": files, "series": tally.outcomes(), "embedded": embedded})
        return
    rows: list[Row] = [("accepted", key, n, "files") for key, n in files["accepted"].items()]
    rows += [("duplicates", "", files["duplicates"], "files")]
    rows += [("own reports", "", files["own_reports"], "files")]
    rows += [("skipped", why, len(names), "files") for why, names in files["skipped"].items()]
    rows += outcome_rows(tally)
    print_table("Import", ("", "", "number", "of"), [row for row in rows if row[2]])
    for why, names in files["skipped"].items():
        for name in names[:_NAMED]:
            typer.echo(printable(f"skipped: {name}: {why}"), err=True)
        if len(names) > _NAMED:
            typer.echo(f"skipped: {len(names) - _NAMED} more: {why}", err=True)
