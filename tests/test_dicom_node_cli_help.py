"""What each command says of itself."""

import os
from pathlib import Path

import pytest
from typer.testing import CliRunner

from dicom_node.cli.app import app

GOLDEN = Path(__file__).parent / "golden"
COMMANDS = (
    "",
    "serve",
    "demo",
    "import",
    "retry",
    "forget",
    "similar",
    "classify",
    "show",
    "train",
    "train mae",
    "train bind",
    "status",
    "check",
    "reindex",
    "backup",
    "restore",
    "config",
    "migrate-database",
    "finish",
    "evaluate",
    "embed",
    "export-conformance",
)


@pytest.mark.parametrize("command", COMMANDS)
def test_the_help_is_the_golden_one(command: str) -> None:
    arguments = [*command.split(), "--help"]
    said = CliRunner().invoke(app, arguments, env={"COLUMNS": "100"}, prog_name="similis")

    golden = GOLDEN / f"help-{command.replace(' ', '-') or 'similis'}.txt"
    if os.environ.get("UPDATE_GOLDEN"):
        golden.write_text(said.output)
    assert said.output == golden.read_text()
