"""`similis similar`: which kept cases look like a study or files, or are what words say?"""

from collections.abc import Sequence
from dataclasses import asdict
from itertools import compress
from pathlib import Path
from typing import Annotated

import typer

from dicom_node.answer.query import Filters
from dicom_node.answer.verdict import Verdict
from dicom_node.cli.filters import (
    AgeOption,
    BodyPartOption,
    DateOption,
    DescriptionOption,
    EffortOption,
    InstitutionOption,
    ModalityOption,
    SamePatientOption,
    SexOption,
    filters_of,
)
from dicom_node.cli.options import (
    ConfigOption,
    DataOption,
    JsonOption,
    configured,
    files_or_uid,
    print_json,
    print_table,
)
from dicom_node.generation import answering_model
from dicom_node.operate.ask import Asked, Files, Found, ask
from dicom_node.parts import Parts, existing_parts
from dicom_node.receive.clips import Region, read_box
from index.parts import PartPlace
from index.records import Case
from index.vectors import Effort

_COLUMNS = (
    "rank", "score", "modality", "body part", "date", "description", "most alike", "study",
    "same in",
)  # fmt: skip
ExampleArgument = Annotated[
    list[str] | None,
    typer.Argument(help="A Study Instance UID, or the files of one example or more."),
]
SliceOption = Annotated[
    int | None,
    typer.Option("--slice", min=1, help="Only this slice or frame of the files, from 1."),
]
BoxOption = Annotated[
    str, typer.Option(help="Only this box of the files: x,y,width,height in pixels.")
]
NotOption = Annotated[
    list[Path] | None,
    typer.Option("--not", exists=True, help="A file or folder of what is not wanted."),
]
TextOption = Annotated[
    str, typer.Option(help="What the cases are to be, a sentence; beside an example or alone.")
]
WeightOption = Annotated[
    float | None,
    typer.Option(min=0, max=1, help="Share of the words.", show_default="text.weight, 0.5"),
]
_UID_END = 12  # characters of a UID that tell the instances of a study apart


def similar(
    example: ExampleArgument = None,
    text: TextOption = "",
    text_weight: WeightOption = None,
    k: Annotated[int | None, typer.Option("-k", min=1, help="Cases at most.")] = None,
    modality: ModalityOption = None,
    body_part: BodyPartOption = None,
    sex: SexOption = None,
    age: AgeOption = "",
    date: DateOption = "",
    institution: InstitutionOption = None,
    description: DescriptionOption = None,
    effort: EffortOption = Effort.NORMAL,
    same_patient: SamePatientOption = False,
    slice_number: SliceOption = None,
    box: BoxOption = "",
    unlike: NotOption = None,
    data: DataOption = None,
    config: ConfigOption = None,
    json: JsonOption = False,
) -> None:
    """Rank the kept studies by likeness to an example, to words, or to both."""
    asked = _asked(example or [], _region(slice_number, box), unlike or [], text, text_weight)
    settings = configured(config, data)
    filters = filters_of(
        settings.answer,
        k=k,
        modality=modality,
        body_part=body_part,
        sex=sex,
        age=age,
        date=date,
        institution=institution,
        description=description,
        effort=effort,
        same_patient=same_patient,
    )
    _answer(existing_parts(settings), asked, filters, json=json)


def _answer(parts: Parts, asked: Asked, filters: Filters, *, json: bool) -> None:
    model = answering_model(parts)
    try:
        found = ask(parts, asked, filters)
    finally:
        parts.close()
    _print(found, json=json)
    for remark in found.judged.remarks() if found.judged is not None else ():
        typer.echo(f"similis: {remark}", err=True)
    if not found.ranking.complete:
        typer.echo("Cases may be missing: some have no vectors yet.", err=True)
    if not model.trained:
        typer.echo("The encoder is untrained: the ranks carry no meaning.", err=True)


def _asked(
    example: list[str], region: Region | None, unlike: list[Path], text: str, weight: float | None
) -> Asked:
    """Return what cases are to be like, or to be; refuse what does not go together."""
    if not text.strip() and (text or not example):
        raise typer.BadParameter("give an example, or what the cases are to be by --text")
    if weight is not None and not (example and text):
        raise typer.BadParameter("--text-weight is the share of --text beside an example")
    if not example and (region is not None or unlike):
        raise typer.BadParameter("a slice, a box and --not go with an example")
    asked = files_or_uid(example) if example else None
    if unlike and (region is not None or isinstance(asked, str)):
        raise typer.BadParameter("--not goes with examples that are files, without slice or box")
    if unlike and text:
        raise typer.BadParameter("--not does not go with words")
    if isinstance(asked, list):
        return Asked(Files(asked, region, unlike), text, weight)
    if region is not None:
        raise typer.BadParameter("a slice or a box is of files, not of a Study Instance UID")
    return Asked(asked, text, weight)


def _region(slice_number: int | None, box: str) -> Region | None:
    """Return what is asked for of files, None for all of them."""
    if slice_number is None and not box:
        return None
    try:
        return Region(slice_number, read_box(box) if box else None)
    except ValueError as error:
        raise typer.BadParameter(str(error), param_hint="--box") from error


def _print(found: Found, *, json: bool) -> None:
    """Print cases; of words also how far they were understood."""
    ranking = found.ranking
    if json:
        told: dict[str, object] = {"model_id": ranking.model_id, "complete": ranking.complete}
        told["cases"] = [asdict(case) for case in ranking.cases]
        if found.judged is not None:
            told["outside_space"] = found.judged.verdict is Verdict.OUTSIDE
            told["words"] = found.judged.told()
        print_json(told)
        return
    if not ranking.cases:
        typer.echo("No similar case found.")
        return
    _print_cases(ranking.cases)


def _print_cases(cases: Sequence[Case]) -> None:
    """Print a table, without the columns of what no case has."""
    rows = [_row(case) for case in cases]
    told = [any(cells) for cells in zip(*rows, strict=True)]
    columns = list(compress(_COLUMNS, told))
    print_table("Similar cases", columns, [list(compress(row, told)) for row in rows])


def _row(case: Case) -> tuple[object, ...]:
    return (
        case.rank,
        f"{case.score:.4f}",
        case.modality,
        case.body_part,
        case.study_date,
        case.study_description,
        _where(case.case_part),
        case.study_instance_uid,
        ", ".join(case.near_duplicates),
    )


def _where(part: PartPlace | None) -> str:
    """Name a slice, a frame or a region by the end of its UID; JSON has all of it."""
    if part is None:
        return ""
    uid, box = part.sop_instance_uid, ",".join(map(str, part.box))
    return f"…{uid[-_UID_END:]} frame {part.frame} at {box}"
