"""`similis similar`: which kept cases look like this study, or like these files?"""

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated

import typer

from dicom_node.answer.query import Filters, similar_to_examples, similar_to_study
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
from dicom_node.errors import NotKnown, SimilisError
from dicom_node.generation import Answering, answering_model, open_answering, start_workers
from dicom_node.operate.example import embed_examples
from dicom_node.operate.sources import files_below
from dicom_node.parts import Parts, existing_parts
from dicom_node.receive.clips import Region
from index.parts import PartPlace
from index.records import Case, Ranking
from index.vectors import Effort

_COLUMNS = (
    "rank", "score", "modality", "body part", "date", "description", "most alike", "study",
    "same in",
)  # fmt: skip
_BOX_SIDES = 4
ExampleArgument = Annotated[
    list[str], typer.Argument(help="A Study Instance UID, or the files of an example.")
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
_UID_END = 12  # characters of a UID that tell the instances of a study apart


@dataclass(frozen=True, slots=True)
class _Files:
    """Files and folders that are wanted, or a region of them, and such that are not."""

    wanted: list[Path]
    region: Region | None
    unwanted: list[Path]


def similar(
    example: ExampleArgument,
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
    """Rank the kept studies by likeness to an example.

    Files of several studies are several examples; --not takes examples of what is not wanted.
    """
    asked = _asked(example, slice_number, box, unlike or [])
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


def _answer(parts: Parts, asked: _Files | str, filters: Filters, *, json: bool) -> None:
    model = answering_model(parts)
    try:
        ranking = _ranked(parts, asked, filters)
    finally:
        parts.close()
    _print(ranking, json)
    if not model.trained:
        typer.echo("The encoder is untrained: the ranks carry no meaning.", err=True)


def _asked(
    example: list[str], slice_number: int | None, box: str, unlike: list[Path]
) -> _Files | str:
    """Return what cases are to be like, be it a study that is kept; refuse what does not fit."""
    asked, region = files_or_uid(example), _region(slice_number, box)
    if unlike and (region is not None or isinstance(asked, str)):
        raise typer.BadParameter("--not goes with examples that are files, without slice or box")
    if not isinstance(asked, str):
        return _Files(asked, region, unlike)
    if region is not None:
        raise typer.BadParameter("a slice or a box is of files, not of a Study Instance UID")
    return asked


def _region(slice_number: int | None, box: str) -> Region | None:
    """Return what is asked for of files, None for all of them."""
    if slice_number is None and not box:
        return None
    sides = box.split(",") if box else []
    if box and not (len(sides) == _BOX_SIDES and all(side.strip().isdecimal() for side in sides)):
        raise typer.BadParameter(f"{box} is not x,y,width,height", param_hint="--box")
    x, y, width, height = map(int, sides) if box else (0, 0, 0, 0)
    return Region(slice_number, (x, y, width, height) if box else None)


def _ranked(parts: Parts, asked: _Files | str, filters: Filters) -> Ranking:
    if isinstance(asked, str):
        return _like_study(parts, asked, filters)
    return _like_files(parts, asked, filters)


def _like_study(parts: Parts, uid: str, filters: Filters) -> Ranking:
    answered = similar_to_study(parts.catalogue, _opened(parts).search, uid, filters)
    if answered is None:
        known = parts.catalogue.study_row(uid)
        if known is not None:
            raise SimilisError(f"study {uid} is {known.state}: it has no vector to compare by")
        raise NotKnown("study", uid, "`similis import` takes studies in")
    return answered.ranking


def _like_files(parts: Parts, files: _Files, filters: Filters) -> Ranking:
    (worker,) = start_workers(parts, 1)
    try:
        answering = _opened(parts)
        model_id = answering.model.model_id
        wanted = embed_examples(
            worker, _found(files.wanted), model_id=model_id, region=files.region
        )
        unwanted = (
            embed_examples(worker, _found(files.unwanted), model_id=model_id)
            if files.unwanted
            else []
        )
    finally:
        worker.stop()
    return similar_to_examples(answering.search, wanted, unwanted, filters)


def _opened(parts: Parts) -> Answering:
    return open_answering(parts, answering_model(parts), read_only=True)


def _found(paths: list[Path]) -> list[Path]:
    return [path for path in files_below(paths) if isinstance(path, Path)]


def _print(ranking: Ranking, json: bool) -> None:
    if json:
        print_json({"model_id": ranking.model_id, "cases": [asdict(c) for c in ranking.cases]})
        return
    if not ranking.cases:
        typer.echo("No similar case found.")
        return
    print_table("Similar cases", _COLUMNS, [_row(case) for case in ranking.cases])


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
