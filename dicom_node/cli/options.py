"""Options that every command shares, and how results are printed.

Results go to stdout, tables for people and JSON for machines; messages and progress to stderr.
"""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table
from rich.text import Text

from dicom_node.config import Config
from dicom_node.log import start_logging
from dicom_node.settings import load
from dicom_node.text import is_uid

DataOption = Annotated[
    Path | None, typer.Option("--data", help="Data folder.", show_default="similis-data")
]
ConfigOption = Annotated[
    Path | None,
    typer.Option("--config", help="Configuration file.", show_default="similis.toml if there"),
]
DeviceOption = Annotated[str, typer.Option(help="auto, cpu or cuda.")]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")]
LogOption = Annotated[
    str, typer.Option("--log-level", help="debug, info, warning or error; to stderr.")
]


def configured(
    config: Path | None, data: Path | None, *, log_level: str = "warning", **flags: object
) -> Config:
    """Start logging and return the configuration; `flags` are `section__key=value`."""
    if log_level not in ("debug", "info", "warning", "error"):
        raise typer.BadParameter("debug, info, warning or error", param_hint="--log-level")
    start_logging(log_level)
    dotted = {key.replace("__", "."): value for key, value in flags.items()}
    return load(config, flags={"data": data, **dotted}).config


def printable(text: str) -> str:
    """Return text of unknown origin without what a terminal would obey or cannot encode."""
    return "".join(c if c.isprintable() else ascii(c)[1:-1] for c in text)


def files_or_uid(example: Sequence[str]) -> list[Path] | str:
    """Tell files and folders from a Study Instance UID; what is neither is bad usage."""
    paths = [Path(name) for name in example]
    missing = [path for path in paths if not path.exists()]
    if not missing:
        return paths
    if len(example) == 1 and is_uid(example[0]):
        return example[0]
    raise typer.BadParameter(f"{missing[0]} is neither a file nor a Study Instance UID")


def print_json(value: object) -> None:
    """Print a result for machines."""
    text = json.dumps(value, indent=2, ensure_ascii=False, default=str)
    typer.echo(text.encode("utf-8", "backslashreplace"))  # a file name need not be Unicode


def print_table(title: str, columns: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    """Print a result for people."""
    table = Table(title=title, title_justify="left")
    for column in columns:
        table.add_column(column, overflow="fold")
    for row in rows:
        table.add_row(*(Text(printable(str(cell))) for cell in row))
    console = Console()
    # A pipe has no width of its own: UIDs must not be folded there.
    Console(width=None if console.is_terminal else 200).print(table)


def progress() -> Progress:
    """Return a progress bar on stderr."""
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        console=Console(stderr=True),
    )
