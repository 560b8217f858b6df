"""`similis backup`: a copy of the data folder while the node goes on."""

from dataclasses import asdict
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
    printable,
    progress,
)
from dicom_node.operate.backup import BackedUp, back_up
from dicom_node.parts import existing_parts

_ON_SERVER = (
    "The catalogue is on a database server: only the files were copied. Dump it first, with "
    "pg_dump --format=custom or pgBackRest, then run this: its rows then find their files here."
)


def backup(
    target: Annotated[
        Path, typer.Argument(metavar="DIR", help="Folder, new or of an older backup.")
    ],
    link: Annotated[
        bool, typer.Option("--link", help="Hard links where DIR is on the same file system.")
    ] = False,
    data: DataOption = None,
    config: ConfigOption = None,
    json: JsonOption = False,
) -> None:
    """Bring a backup up to date: copy what is new, remove what was forgotten.

    The configuration file is not part of it. Exit code 1 if files were missing.
    """
    parts = existing_parts(configured(config, data, log_level="error"))
    try:
        with progress() as bars:
            bar = bars.add_task("copying", total=None)
            done = back_up(
                parts,
                target,
                link=link,
                advance=lambda n, total: bars.update(bar, completed=n, total=total),
            )
    finally:
        parts.close()
    if json:
        print_json(asdict(done))
    else:
        _print(done, target)
    if done.missing:
        raise typer.Exit(FAILED)


def _print(done: BackedUp, target: Path) -> None:
    rows = [("files", done.files), ("copied", done.copied), ("removed", done.removed)]
    print_table(f"Backup {printable(str(target))}", ("", "number"), rows)
    if not done.catalogue:
        typer.echo(_ON_SERVER, err=True)
    for path in done.missing:
        typer.echo(f"missing: {printable(path)}; see `similis check`", err=True)
