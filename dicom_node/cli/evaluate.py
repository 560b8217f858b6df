"""`similis evaluate`: how well do encoders retrieve, beside baselines and chance?"""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from dicom_node.cli.options import DeviceOption, JsonOption, print_json, print_table, progress

if TYPE_CHECKING:  # torch is imported when a command needs it, not to print a help text
    from training.evaluate import Cross, Evaluation
    from training.manifest import Item

ENCODERS = "the folder of a checkpoint, lite0, random, pixels, or hf:DIR"
ManifestOption = Annotated[
    Path, typer.Option("--data", help="A manifest, or a folder that holds one.")
]


def evaluate(
    data: ManifestOption,
    encoder: Annotated[list[str], typer.Option(help=f"Repeat for a table of several: {ENCODERS}.")],
    source: Annotated[list[str] | None, typer.Option(help="Only this source; repeatable.")] = None,
    cross: Annotated[
        str | None, typer.Option(metavar="A:B", help="Ask with modality A, answer with B.")
    ] = None,
    hit: Annotated[
        Literal["body-part", "patient"], typer.Option(help="What is a hit with --cross.")
    ] = "body-part",
    report: Annotated[
        Path | None, typer.Option(help="Write a page with the table and pictures, as HTML.")
    ] = None,
    seed: Annotated[int, typer.Option(help="Draws the questions that --report shows.")] = 0,
    device: DeviceOption = "auto",
    json: JsonOption = False,
) -> None:
    """Score retrieval of the eval items among the train items of each source of a manifest."""
    from training.evaluate import COLUMNS, as_json, table
    from training.manifest import read_items
    from training.report_page import page

    pair = _cross(cross, hit)
    if report is not None and not report.resolve().parent.is_dir():
        raise typer.BadParameter(f"{report.resolve().parent} is no folder", param_hint="--report")
    items = _of_sources(read_items(data), source or [])
    evaluations = _evaluate_all(items, encoder, pair, device)
    if report is not None:
        report.write_text(page(evaluations, seed=seed), encoding="utf-8")
        typer.echo(f"The page is {report}.", err=True)
    if json:
        print_json([as_json(evaluation) for evaluation in evaluations])
        return
    print_table(f"Retrieval: {_rules(evaluations[0])}", COLUMNS, table(evaluations))
    _tell_what_is_missing(evaluations)


def _evaluate_all(
    items: list[Item], encoders: list[str], cross: Cross | None, device: str
) -> list[Evaluation]:
    """Embed and judge with one encoder after the other, a bar for each."""
    from training.baselines import method
    from training.evaluate import Embedded, embed_items, evaluate, in_common

    methods = [method(name, device=device) for name in encoders]
    names = [each.name for each in methods]
    embedded: list[Embedded] = []
    with progress() as bars:
        for each in methods:
            bar = bars.add_task(f"embedding: {each.name}", total=len(items))
            embedded.append(embed_items(items, each, partial(bars.advance, bar)))
    return [
        evaluate(name if names.count(name) == 1 else as_typed, each, cross=cross)
        for name, as_typed, each in zip(names, encoders, in_common(embedded), strict=True)
    ]


def _cross(text: str | None, hit: str) -> Cross | None:
    from training.evaluate import Cross
    from training.tasks import Hit

    if text is None:
        return None
    asking, colon, answering = text.upper().partition(":")
    if not (asking and colon and answering):
        raise typer.BadParameter(f"{text!r} is not as CT:MR", param_hint="--cross")
    return Cross(asking, answering, Hit(hit))


def _of_sources(items: tuple[Item, ...], wanted: list[str]) -> list[Item]:
    known = sorted({item.source for item in items})
    if unknown := [name for name in wanted if name not in known]:
        raise typer.BadParameter(
            f"{unknown[0]} is none of: {', '.join(known)}", param_hint="--source"
        )
    return [item for item in items if not wanted or item.source in wanted]


def _rules(evaluation: Evaluation) -> str:
    return "; ".join(sorted({one.task.rule for one in evaluation.judged}))


def _tell_what_is_missing(evaluations: list[Evaluation]) -> None:
    """Name on stderr the sources without a score and the items that could not be read."""
    for one in evaluations[0].not_scorable:
        typer.echo(f"not scored: {one.name}: {one.reason}", err=True)
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
