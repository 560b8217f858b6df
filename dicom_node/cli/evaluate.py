"""`similis evaluate`: how well do encoders and text spaces find and tell, beside chance?"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from dicom_node.cli.options import DeviceOption, JsonOption, print_json, print_table

if TYPE_CHECKING:  # torch is imported when a command needs it, not to print a help text
    from training.evaluate import Evaluation
    from training.findings import Findings
    from training.manifest import Item
    from training.tasks import Asking, NotScorable

ENCODERS = "the folder of a checkpoint, lite0, random, pixels, or hf:DIR"
ManifestOption = Annotated[
    Path, typer.Option("--data", help="A manifest, or a folder that holds one.")
]
EncodersOption = Annotated[
    list[str],
    typer.Option(help=f"Repeat for a table of several: {ENCODERS}; or a file of `similis embed`."),
]
TaskOption = Annotated[
    Literal["retrieval", "zero-shot", "few-shot", "text-retrieval", "cross-modal"],
    typer.Option(help="What is asked."),
]
SpaceOption = Annotated[
    Path | None,
    typer.Option(
        "--space",
        help="Folder of a text space; with retrieval, its image vectors are scored too.",
        show_default="the shipped one",
    ),
]
HitOption = Annotated[
    Literal["body-part", "finding", "patient"], typer.Option(help="What is a hit with --cross.")
]
_IN_WORDS = ("zero-shot", "text-retrieval", "cross-modal")


def evaluate(
    data: ManifestOption,
    encoder: EncodersOption,
    task: TaskOption = "retrieval",
    space: SpaceOption = None,
    source: Annotated[list[str] | None, typer.Option(help="Only this source; repeatable.")] = None,
    cross: Annotated[
        str | None, typer.Option(metavar="A:B", help="Ask with modality A, answer with B.")
    ] = None,
    hit: HitOption = "body-part",
    report: Annotated[
        Path | None, typer.Option(help="Write a page with the table and pictures, as HTML.")
    ] = None,
    seed: Annotated[
        int, typer.Option(min=0, help="Draws shots, resamples, and what --report shows.")
    ] = 0,
    device: DeviceOption = "auto",
    json: JsonOption = False,
) -> None:
    """Score encoders on the eval items of a manifest, by images or by words.

    retrieval finds train items of each source; cross-modal those of other modalities, before and
    after binding; few-shot and zero-shot tell classes; text-retrieval asks with sentences.
    """
    from dicom_node.cli.evaluation_run import FINDINGS, encoded, ranked
    from training.manifest import read_items

    _check_usage(cross, report, of_pictures=task not in FINDINGS)
    asking = _asking(task, cross, hit)
    items = _of_sources(read_items(data), source or [])
    in_words = task in _IN_WORDS or (task == "retrieval" and space is not None)
    found = encoded(encoder, items, device=device, in_words=in_words, space=space)
    if task in FINDINGS:
        _print_findings(FINDINGS[task](found, seed), json)
    else:
        _print_evaluations(ranked(found, asking), json, report=report, seed=seed)


def _check_usage(cross: str | None, report: Path | None, *, of_pictures: bool) -> None:
    """Refuse what does not go together."""
    if not of_pictures and (cross is not None or report is not None):
        raise typer.BadParameter("--cross and --report go with retrieval and cross-modal")
    if report is not None and not report.resolve().parent.is_dir():
        raise typer.BadParameter(f"{report.resolve().parent} is no folder", param_hint="--report")


def _asking(task: str, cross: str | None, hit: str) -> Asking:
    """Return how the tasks of retrieval are made of items."""
    from training.tasks import Hit, by_source, every_pair, pair

    if cross is None:
        return every_pair if task == "cross-modal" else by_source
    asking, colon, answering = cross.upper().partition(":")
    if not (asking and colon and answering):
        raise typer.BadParameter(f"{cross!r} is not as CT:MR", param_hint="--cross")
    return pair(asking, answering, Hit(hit))


def _of_sources(items: tuple[Item, ...], wanted: list[str]) -> list[Item]:
    known = sorted({item.source for item in items})
    if unknown := [name for name in wanted if name not in known]:
        raise typer.BadParameter(
            f"{unknown[0]} is none of: {', '.join(known)}", param_hint="--source"
        )
    return [item for item in items if not wanted or item.source in wanted]


def _print_findings(found: list[Findings], json: bool) -> None:
    from training.findings import as_json, columns, table

    if json:
        print_json([as_json(findings) for findings in found])
        return
    for findings in found:
        title = f"{findings.task.capitalize()}: {findings.rule}"
        print_table(title, columns(findings), table(findings))
        _tell_not_scored(findings.not_scorable)
        for line in findings.unreadable:
            typer.echo(f"left out: {line}", err=True)


def _print_evaluations(
    evaluations: list[Evaluation], json: bool, *, report: Path | None, seed: int
) -> None:
    from training.evaluate import COLUMNS, as_json, table
    from training.report_page import page

    if report is not None:
        report.write_text(page(evaluations, seed=seed), encoding="utf-8")
        typer.echo(f"The page is {report}.", err=True)
    if json:
        print_json([as_json(evaluation) for evaluation in evaluations])
        return
    rules = sorted({one.task.rule for one in evaluations[0].judged})
    print_table(f"Retrieval: {'; '.join(rules)}", COLUMNS, table(evaluations))
    _tell_what_is_missing(evaluations)


def _tell_what_is_missing(evaluations: list[Evaluation]) -> None:
    """Name on stderr the sources without a score and the items that could not be read."""
    _tell_not_scored(evaluations[0].not_scorable)
    unreadable = (line for each in evaluations for line in each.embedded.unreadable)
    for line in dict.fromkeys(unreadable):
        typer.echo(f"left out: {line}", err=True)
    for judged in evaluations[0].judged:
        if judged.unanswerable:
            typer.echo(
                f"left out: {judged.unanswerable} queries of {judged.task.name} have no hit in "
                "their gallery",
                err=True,
            )


def _tell_not_scored(not_scorable: Sequence[NotScorable]) -> None:
    for one in not_scorable:
        typer.echo(f"not scored: {one.name}: {one.reason}", err=True)
