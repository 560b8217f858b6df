"""`similis restore`: a data folder from a backup."""

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
from dicom_node.operate.restore import restore as restore_all

_ON_SERVER = (
    "The catalogue is not part of this backup: restore its dump on the database server, and name "
    "it as storage.database_url, before the node is started."
)


def restore(
    source: Annotated[Path, typer.Argument(metavar="DIR", help="Folder of `similis backup`.")],
    data: DataOption = None,
    config: ConfigOption = None,
    json: JsonOption = False,
) -> None:
    """Bring a backup back into an empty data folder; every file is compared with its SHA-256."""
    settings = configured(config, data, log_level="error")
    with progress() as bars:
        bar = bars.add_task("copying", total=None)
        done = restore_all(
            source, settings, lambda n, total: bars.update(bar, completed=n, total=total)
        )
    if json:
        print_json(asdict(done))
        return
    rows = [("files", done.files), ("vectors", done.vectors), ("backup of", done.made_at)]
    print_table("Restored", ("", ""), rows)
    if not done.catalogue:
        typer.echo(_ON_SERVER, err=True)
