"""`similis forget`: delete a study and all that was made of it."""

from typing import Annotated

import typer

from dicom_node.cli.options import (
    ConfigOption,
    DataOption,
    JsonOption,
    configured,
    print_json,
    print_table,
)
from dicom_node.errors import NotKnown
from dicom_node.operate.forget import empty_log
from dicom_node.operate.forget import forget as forget_study
from dicom_node.parts import existing_parts
from index.removal import Belongings

_LEFT_IN_LOG = (
    "similis: no search finds what was forgotten, but catalogue.sqlite and catalogue.sqlite-wal "
    "may still hold bytes of it: another process, such as a backup, reads the catalogue. When that "
    "has ended, run this command again, though the study is not known any more; a node overwrites "
    "them, too, when it is stopped or forgets a guest."
)


def forget(
    study: Annotated[str, typer.Argument(help="Study Instance UID.", metavar="STUDY_UID")],
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
    data: DataOption = None,
    config: ConfigOption = None,
    json: JsonOption = False,
) -> None:
    """Delete a study: files, vectors and reports; list the reports on others that name it."""
    if json and not yes:
        raise typer.BadParameter("--json cannot ask: it needs --yes")
    parts = existing_parts(configured(config, data, log_level="error"))
    try:
        kept = parts.catalogue.belongings(study)
        if kept is not None and not yes:
            asked = f"Delete {kept.instances} instances and {len(kept.reports)} reports for good?"
            _confirm(asked)
        kept = forget_study(parts, study)
        emptied = empty_log(parts)  # of a study that is gone, too: an earlier one may be in it
        if not emptied:
            typer.echo(_LEFT_IN_LOG, err=True)
    finally:
        parts.close()
    if kept is None:
        if emptied:
            typer.echo("similis: the catalogue's log holds nothing that was forgotten.", err=True)
        raise NotKnown("study", study, "`similis similar` and the PACS name studies by their UID")
    _print(kept, emptied=emptied, json=json)


def _confirm(question: str) -> None:
    try:
        typer.confirm(question, abort=True, err=True)
    except typer.Abort:
        typer.echo("Nothing is deleted; where nobody can answer, give --yes.", err=True)
        raise


def _print(kept: Belongings, *, emptied: bool, json: bool) -> None:
    numbers = {
        "series": kept.series,
        "instances": kept.instances,
        "files": len(kept.files),
        "vectors": kept.vectors,
        "reports": len(kept.reports),
    }
    named_by = [
        {
            "study_instance_uid": mention.study_instance_uid,
            "sop_instance_uid": mention.sop_instance_uid,
            "destination": mention.destination,
            "state": mention.state,
        }
        for mention in kept.named_by
    ]
    if json:
        print_json(
            {
                "study_instance_uid": kept.study_instance_uid,
                "deleted": numbers,
                "own_reports": kept.reports,
                "named_by": named_by,
                "log_emptied": emptied,
            }
        )
        return
    print_table("Forgotten", ("deleted", "number"), list(numbers.items()))
    if named_by:
        columns = ("study", "SOP Instance UID", "destination", "state")
        rows = [tuple(mention.values()) for mention in named_by]
        print_table("Reports on other studies that name it", columns, rows)
