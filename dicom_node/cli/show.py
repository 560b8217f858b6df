"""`similis show`: a contact sheet of what the encoder sees of a study, or of files."""

from pathlib import Path
from typing import Annotated, Any

import typer

from dicom_node.cli.options import (
    ConfigOption,
    DataOption,
    JsonOption,
    configured,
    files_or_uid,
    print_json,
    print_table,
)
from dicom_node.config import Config
from dicom_node.errors import NotKnown, SimilisError
from dicom_node.listener import prepare_dicom
from dicom_node.operate.given import given_series
from dicom_node.parts import existing_parts
from dicom_node.receive.clips import Fault
from dicom_node.receive.worker import Contact, Worker

_COLUMNS = ("clip", "modality", "kind", "unit", "frames", "seen as", "spacing", "SOP class")
_NAMED = 20  # left out, in the table for people; --json names all

Series = list[list[Path]]


def show(
    example: Annotated[
        list[str], typer.Argument(help="A Study Instance UID, or DICOM files or folders of them.")
    ],
    out: Annotated[Path, typer.Option("--out", help="The picture to write, as x.png.")],
    data: DataOption = None,
    config: ConfigOption = None,
    json: JsonOption = False,
) -> None:
    """Draw every clip as the encoder sees it; files need no node and are not kept."""
    if out.suffix.lower() != ".png" or not out.parent.is_dir():
        raise typer.BadParameter("a .png in a folder that exists", param_hint="--out")
    asked = files_or_uid(example)
    settings = configured(config, data)
    prepare_dicom()
    faults: list[Fault] = []
    series = _kept(settings, asked) if isinstance(asked, str) else _given(asked, faults)
    contact = _drawn(settings, series)
    left_out = [*faults, *contact.left_out]
    if not contact.png:
        raise SimilisError(f"nothing to show: {left_out[0].reason if left_out else 'no files'}")
    out.write_bytes(contact.png)
    _print(out, contact, left_out, json)


def _kept(settings: Config, study_instance_uid: str) -> Series:
    """Find the files of a study in the data folder."""
    parts = existing_parts(settings)
    try:
        study = parts.catalogue.study_row(study_instance_uid)
        if study is None:
            raise NotKnown("study", study_instance_uid, "`similis import` takes studies in")
        kept = [parts.catalogue.series_files(n) for n in parts.catalogue.study_series(study.id)]
        return [[parts.store.path(file.relative_path) for file in one.files] for one in kept]
    finally:
        parts.close()


def _given(paths: list[Path], faults: list[Fault]) -> Series:
    """Group files by their series; what is no DICOM becomes a fault with the name of the file."""
    series, left_out = given_series(paths)
    faults += [Fault(one.name, one.reason) for one in left_out]
    return [list(each.files) for each in series]


def _drawn(settings: Config, series: Series) -> Contact:
    """Decode and draw in the process that embeds, so that a hostile file can do no harm here."""
    if not series:
        return Contact(b"", (), (), 0)
    worker = Worker(settings.encoder)
    try:
        return worker.show(series)
    finally:
        worker.stop()


def _print(out: Path, contact: Contact, left_out: list[Fault], json: bool) -> None:
    if json:
        print_json(
            {
                "picture": str(out),
                "clips": contact.clips,
                "not_drawn": contact.more,
                "left_out": [{"what": f.sop_instance_uid, "reason": f.reason} for f in left_out],
            }
        )
        return
    print_table("What the encoder sees", _COLUMNS, [_row(clip) for clip in contact.clips])
    if left_out:
        rows = [(fault.sop_instance_uid, fault.reason) for fault in left_out[:_NAMED]]
        print_table("Left out", ("instance or file", "reason"), rows)
    for number, what in ((len(left_out) - _NAMED, "left out"), (contact.more, "not drawn")):
        if number > 0:
            typer.echo(f"and {number} more {what}")
    typer.echo(f"Wrote {out}")


def _row(clip: dict[str, Any]) -> tuple[object, ...]:
    size = " x ".join(map(str, clip["seen"]))
    words = [clip[key] for key in ("number", "modality", "kind", "unit", "frames")]
    return (*words, size, clip["spacing"], clip["sop_class"])
