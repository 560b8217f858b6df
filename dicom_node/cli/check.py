"""`similis check`: do files, rows, vectors and the graph agree?"""

from itertools import zip_longest
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
from dicom_node.operate.check import HARMLESS, Finding
from dicom_node.operate.check import check as findings_of
from dicom_node.operate.repair import Done, Outcome
from dicom_node.operate.repair import repair as repair_one
from dicom_node.parts import existing_parts


def check(
    repair: Annotated[
        bool, typer.Option("--repair", help="Do what can be done, and say what was done.")
    ] = False,
    read: Annotated[
        bool, typer.Option("--read", help="Read and hash every kept file, not only its size.")
    ] = False,
    data: DataOption = None,
    config: ConfigOption = None,
    json: JsonOption = False,
) -> None:
    """Compare files, rows, vectors and the graph; exit code 1 if something is to be done.

    Files set aside, and an encoder without a text space, are only listed. After --repair it is 1 if
    something was beyond repair.
    """
    parts = existing_parts(configured(config, data))
    try:
        with progress() as bars:
            bar = bars.add_task("checking", total=None)
            findings = list(findings_of(parts, lambda n: bars.advance(bar, n), read=read))
        done = [repair_one(parts, finding) for finding in findings] if repair else []
    finally:
        parts.close()
    rows = [_row(found, one) for found, one in zip_longest(findings, done)]
    if json:
        print_json(rows)
    elif rows:
        print_table("Check", list(rows[0]), [list(row.values()) for row in rows])
    else:
        typer.echo("Files, rows, vectors and graph agree.")
    beyond = any(one.outcome is Outcome.BEYOND for one in done)
    if beyond or (not repair and any(found.trouble not in HARMLESS for found in findings)):
        raise typer.Exit(FAILED)


def _row(found: Finding, done: Done | None) -> dict[str, str]:
    return {
        "trouble": found.trouble,
        "subject": found.subject,
        "detail": found.detail,
        "outcome": done.outcome if done else "",
        "done": done.what if done else "",
    }
