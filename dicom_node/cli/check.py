"""`similis check`: do files, rows and vectors agree?"""

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
from dicom_node.operate.check import check as findings_of
from dicom_node.operate.check import repair as repair_one
from dicom_node.parts import configured_encoder, existing_parts


def check(
    repair: Annotated[
        bool, typer.Option("--repair", help="Do what can be done, and say what was done.")
    ] = False,
    data: DataOption = None,
    config: ConfigOption = None,
    json: JsonOption = False,
) -> None:
    """Read every kept file and compare files, rows and vectors; exit code 1 if they differ."""
    parts = existing_parts(configured(config, data))
    model = configured_encoder(parts.config.encoder)
    try:
        with progress() as bars:
            bar = bars.add_task("checking", total=None)
            findings = list(findings_of(parts, model, lambda n: bars.advance(bar, n)))
        rows = [(f.trouble, f.subject, repair_one(parts, f) if repair else "") for f in findings]
    finally:
        parts.close()
    if json:
        print_json([{"trouble": t, "subject": s, "done": d} for t, s, d in rows])
    elif rows:
        print_table("Check", ("trouble", "subject", "done"), rows)
    else:
        typer.echo("Files, rows and vectors agree.")
    if findings:
        raise typer.Exit(FAILED)
