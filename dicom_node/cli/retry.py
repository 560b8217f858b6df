"""`similis retry`: another chance for what could not be read."""

from typing import Annotated

import typer

from dicom_node.cli import FAILED
from dicom_node.cli.import_ import embed_all, outcome_rows
from dicom_node.cli.options import (
    ConfigOption,
    DataOption,
    JsonOption,
    configured,
    print_json,
    print_table,
    progress,
)
from dicom_node.errors import NotKnown
from dicom_node.operate.take_in import Tally
from dicom_node.parts import existing_parts


def retry(
    series: Annotated[
        list[str] | None, typer.Argument(help="Series Instance UIDs; all when none is named.")
    ] = None,
    data: DataOption = None,
    config: ConfigOption = None,
    json: JsonOption = False,
) -> None:
    """Try quarantined series again; exit code 1 if one stays quarantined. Makes no reports."""
    parts = existing_parts(configured(config, data, log_level="error"))
    tally = Tally()
    try:
        quarantined = {one.series_instance_uid for one in parts.catalogue.counts().quarantined}
        for uid in series or ():
            if uid not in quarantined:
                raise NotKnown("quarantined series", uid, "`similis status` lists them")
        asked = parts.catalogue.retry_quarantined(series or ())
        with progress() as bars:
            embedded = embed_all(parts, bars, tally) if asked else True
    finally:
        parts.close()
    if json:
        print_json({"asked": asked, "series": tally.outcomes(), "embedded": embedded})
    elif not asked:
        typer.echo("No series is quarantined.")
    elif embedded:
        print_table("Retry", ("", "", "number", "of"), [r for r in outcome_rows(tally) if r[2]])
    if not embedded:
        typer.echo("A node runs on this data folder; it tries them now.", err=True)
    if tally.outcomes()["quarantined"]:
        raise typer.Exit(FAILED)
