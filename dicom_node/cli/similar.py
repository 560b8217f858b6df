"""`similis similar`: which kept cases look like a study or files, or are what words say?"""

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated

import typer

from dicom_node.answer.query import Example, Filters, similar_to_examples, similar_to_study
from dicom_node.answer.words import Sentence, example_of, similar_to_words
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
from dicom_node.errors import NotKnown, NotUnderstood, OutsideSpace, SimilisError
from dicom_node.generation import Answering, answering_model, open_answering, start_workers
from dicom_node.operate.example import embed_examples
from dicom_node.operate.sources import files_below
from dicom_node.operate.words import open_words
from dicom_node.parts import Parts, existing_parts
from dicom_node.receive.clips import Region, read_box
from index.parts import PartPlace
from index.records import Case, Ranking
from index.vectors import Effort

_COLUMNS = (
    "rank", "score", "modality", "body part", "date", "description", "most alike", "study",
    "same in",
)  # fmt: skip
ExampleArgument = Annotated[
    list[str] | None, typer.Argument(help="A Study Instance UID, or the files of an example.")
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


@dataclass(frozen=True, slots=True)
class _Files:
    """Files and folders that are wanted, or a region of them, and such that are not."""

    wanted: list[Path]
    region: Region | None
    unwanted: list[Path]


_Asked = _Files | str | None


@dataclass(frozen=True, slots=True)
class _Words:
    """What cases are to be, and the share of it beside an example."""

    text: str
    weight: float


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
    """Rank the kept studies by likeness to an example, to words, or to both.

    Files of several studies are several examples; --not takes examples of what is not wanted.
    """
    asked = _asked(example or [], slice_number, box, unlike or [])
    _check_words(text, asked)
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
    words = text and _Words(text, settings.text.weight if text_weight is None else text_weight)
    _answer(existing_parts(settings), asked, words or None, filters, json=json)


def _answer(
    parts: Parts, asked: _Asked, words: _Words | None, filters: Filters, *, json: bool
) -> None:
    model = answering_model(parts)
    outside = None
    try:
        if words is None:
            ranking = _ranked(parts, asked, filters)
        else:
            ranking, outside = _in_words(parts, asked, words, filters)
    finally:
        parts.close()
    _print(ranking, json, None if words is None else outside is not None)
    if outside is not None:
        typer.echo(f"similis: {outside}", err=True)
    if not model.trained:
        typer.echo("The encoder is untrained: the ranks carry no meaning.", err=True)


def _asked(example: list[str], slice_number: int | None, box: str, unlike: list[Path]) -> _Asked:
    """Return what cases are to be like, be it a study that is kept; refuse what does not fit."""
    region = _region(slice_number, box)
    if not example:
        if region is not None or unlike:
            raise typer.BadParameter("a slice, a box and --not go with an example")
        return None
    asked = files_or_uid(example)
    if unlike and (region is not None or isinstance(asked, str)):
        raise typer.BadParameter("--not goes with examples that are files, without slice or box")
    if not isinstance(asked, str):
        return _Files(asked, region, unlike)
    if region is not None:
        raise typer.BadParameter("a slice or a box is of files, not of a Study Instance UID")
    return asked


def _check_words(text: str, asked: _Asked) -> None:
    """Refuse a question of neither words nor example, and words beside what is not wanted."""
    if not text.strip() and (text or asked is None):
        raise typer.BadParameter("give an example, or what the cases are to be by --text")
    if text and isinstance(asked, _Files) and asked.unwanted:
        raise typer.BadParameter("--not does not go with words")


def _region(slice_number: int | None, box: str) -> Region | None:
    """Return what is asked for of files, None for all of them."""
    if slice_number is None and not box:
        return None
    try:
        return Region(slice_number, read_box(box) if box else None)
    except ValueError as error:
        raise typer.BadParameter(str(error), param_hint="--box") from error


def _ranked(parts: Parts, asked: _Asked, filters: Filters) -> Ranking:
    if isinstance(asked, _Files):
        return _like_files(parts, asked, filters)
    return _like_study(parts, asked or "", filters)


def _in_words(
    parts: Parts, asked: _Asked, words: _Words, filters: Filters
) -> tuple[Ranking, OutsideSpace | None]:
    """Rank by words and an example, if there is one; say so where they are outside the space."""
    example = None
    if isinstance(asked, _Files):
        wanted, _ = _embedded(parts, asked)
        if len(wanted) > 1:
            raise NotUnderstood("words go with one example; give the files of one study")
        example = wanted[0]
    elif asked is not None:
        study = parts.catalogue.study_query(asked, answering_model(parts).model_id)
        if study is None:
            raise _without_vectors(parts, asked)
        example = example_of(parts.catalogue, study)
    search = open_words(parts)
    sentence = Sentence(text=words.text, example=example, weight=words.weight)
    told = similar_to_words(search, sentence, filters)
    outside = told.outside and told.best is not None
    return told.ranking, OutsideSpace(told.best or 0.0, search.words.floor) if outside else None


def _like_study(parts: Parts, uid: str, filters: Filters) -> Ranking:
    answered = similar_to_study(parts.catalogue, _opened(parts).search, uid, filters)
    if answered is None:
        raise _without_vectors(parts, uid)
    return answered.ranking


def _without_vectors(parts: Parts, uid: str) -> SimilisError:
    known = parts.catalogue.study_row(uid)
    if known is not None:
        return SimilisError(f"study {uid} is {known.state}: it has no vector to compare by")
    return NotKnown("study", uid, "`similis import` takes studies in")


def _like_files(parts: Parts, files: _Files, filters: Filters) -> Ranking:
    wanted, unwanted = _embedded(parts, files)
    return similar_to_examples(_opened(parts).search, wanted, unwanted, filters)


def _embedded(parts: Parts, files: _Files) -> tuple[list[Example], list[Example]]:
    """Return the examples that are wanted, and those that are not."""
    (worker,) = start_workers(parts, 1)
    try:
        model_id = answering_model(parts).model_id
        wanted = embed_examples(
            worker, _found(files.wanted), model_id=model_id, region=files.region
        )
        unwanted = _found(files.unwanted)
        return wanted, embed_examples(worker, unwanted, model_id=model_id) if unwanted else []
    finally:
        worker.stop()


def _opened(parts: Parts) -> Answering:
    return open_answering(parts, answering_model(parts), read_only=True)


def _found(paths: list[Path]) -> list[Path]:
    return [path for path in files_below(paths) if isinstance(path, Path)]


def _print(ranking: Ranking, json: bool, outside: bool | None) -> None:
    """Print cases; of words also whether they were outside the space."""
    if json:
        told = {"model_id": ranking.model_id, "cases": [asdict(c) for c in ranking.cases]}
        print_json(told if outside is None else told | {"outside_space": outside})
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
