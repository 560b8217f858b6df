"""`similis demo`: real studies in, ranked cases and Structured Reports out, on loopback."""

import tempfile
import time
from pathlib import Path
from typing import Annotated

import typer

from dicom_node.cli.options import LogOption, print_table, progress
from dicom_node.log import start_logging
from dicom_node.node import Node
from dicom_node.operate import demo as show
from dicom_node.operate.stub_pacs import StubPacs, push

_COLUMNS = ("rank", "score", "modality", "body part", "study")


def demo(
    out: Annotated[Path | None, typer.Option(help="Keep the reports in this folder.")] = None,
    keep: Annotated[bool, typer.Option("--keep", help="Keep the node running at the end.")] = False,
    log_level: LogOption = "error",
) -> None:
    """Run a throw-away node and a stub PACS: push real studies, ask, receive reports."""
    start_logging(log_level)
    started = time.monotonic()
    if out is not None:
        out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="similis-demo-") as scratch:
        reports = out or Path(scratch) / "reports"
        reports.mkdir(exist_ok=True)
        pacs = StubPacs(reports)
        node = Node(show.demo_config(Path(scratch) / "data", pacs.destination))
        try:
            node.start()
            _run(node, pacs)
            typer.echo(f"Done in {time.monotonic() - started:.0f} s.")
            if out is not None:
                typer.echo(f"The reports are in {out}; read one with: dsrdump FILE")
            else:
                typer.echo("The demo's folder goes with it; keep the reports with --out DIR.")
            if keep:
                _keep(node, reports)
        finally:
            node.stop()
            pacs.stop()


def _run(node: Node, pacs: StubPacs) -> None:
    """Push, wait, ask, print."""
    files = show.samples()
    studies = {sample.header.study_instance_uid for sample in files}
    refused = _push(node, files)
    counted = _wait(node, len(studies))
    print_table(
        f"Encoder: {node.model.version}",
        ("studies pushed", "files", "refused", "searchable", "not for embedding"),
        [(len(studies), len(files), refused, counted.searchable, counted.put_aside)],
    )
    for question in show.QUESTIONS:
        answer = show.ask(question, files, node, pacs)
        rows = [
            (m.rank, f"{m.score:.4f}", m.modality, m.body_part, m.study_instance_uid)
            for m in answer.matches
        ]
        print_table(f"Similar to the {question} (report: {answer.report})", _COLUMNS, rows)
    typer.echo("A report names what was similar when its study was complete; a question asks now.")
    if not node.model.trained:
        typer.echo("The encoder is untrained: the ranks show that the route works, no more.")


def _push(node: Node, files: list[show.Sample]) -> int:
    """Push the files with a progress bar; print what was refused and return how many."""
    with progress() as bars:
        bar = bars.add_task("pushing", total=len(files))
        paths = [sample.path for sample in files]
        refused = list(push(paths, show.storage(node), lambda: bars.advance(bar)))
    for path, reason in refused:
        typer.echo(f"refused: {path.name}: {reason}", err=True)
    return len(refused)


def _wait(node: Node, studies: int) -> show.Outcome:
    """Wait with a progress bar until every study is searchable or put aside."""
    with progress() as bars:
        bar = bars.add_task("embedding", total=studies)
        return show.wait_until_indexed(
            node.catalogue, studies, lambda done: bars.update(bar, completed=done)
        )


def _keep(node: Node, reports: Path) -> None:
    """Tell how to talk to the node, and wait for Ctrl-C."""
    storage, query = show.storage(node), show.query(node)
    typer.echo(
        f"""The node runs until Ctrl-C; its reports go to {reports}. Talk to it with DCMTK:
  echoscu -aec {storage.ae_title} {storage.host} {storage.port}
  dcmsend -aec {storage.ae_title} {storage.host} {storage.port} --scan-directories FOLDER
  findscu -S -aec {query.ae_title} {query.host} {query.port} \\
      -k QueryRetrieveLevel=STUDY -k StudyInstanceUID=UID -k StudyDescription"""
    )
    try:
        while True:
            time.sleep(3600)
    except KeyboardInterrupt:
        typer.echo("Stopping.")
