"""`similis migrate-database`: the catalogue moved into another database."""

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
from dicom_node.config import Engine
from dicom_node.parts import existing_parts, utc_now
from index.db import Database, connect, migrate
from index.errors import ExtensionMissing
from index.pgvector_table import check_extension
from index.transfer import row_count, transfer


def migrate_database(
    url: Annotated[
        str, typer.Argument(help="Where to, an empty database: postgresql://user@host/name.")
    ],
    data: DataOption = None,
    config: ConfigOption = None,
    json: JsonOption = False,
) -> None:
    """Copy the catalogue into another, empty database and verify it; the old one stays as it is."""
    parts = existing_parts(configured(config, data))
    try:
        parts.folder.lock()  # a node would go on writing into the old one
        target = Database(connect(url), utc_now)
        try:
            migrate(target.engine)
            with progress() as bars:
                bar = bars.add_task("copying", total=row_count(parts.catalogue))
                moved = transfer(
                    parts.catalogue, target, lambda table, rows: bars.advance(bar, rows)
                )
            lacking = _lacking(target, parts.config.index.engine)
        finally:
            target.engine.dispose()
    finally:
        parts.folder.unlock()
        parts.close()
    if lacking:
        typer.echo(f"similis: the copy is whole, but before it can answer: {lacking}", err=True)
    if json:
        print_json({name: {"rows": c.rows, "digest": c.digest} for name, c in moved.items()})
        return
    rows = [(name, contents.rows, contents.digest) for name, contents in moved.items()]
    print_table("Copied and verified", ("table", "rows", "digest"), rows)
    typer.echo("Now set storage.database_url to the new database; files stay where they are.")


def _lacking(target: Database, engine: Engine) -> str:
    """Make the database ready to be searched, if it is to be; say what it lacks, "" for nothing."""
    if target.engine.dialect.name != "postgresql" or engine is Engine.HNSWLIB:
        return ""
    try:
        with target.engine.begin() as connection:
            check_extension(connection)
    except ExtensionMissing as error:
        return str(error)
    return ""
