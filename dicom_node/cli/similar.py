"""`similis similar`: which kept cases look like this study, or like these files?"""

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from dicom_node.answer.query import Filters, similar_to_study, similar_to_vectors
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
from dicom_node.operate.example import embed_example
from dicom_node.operate.sources import files_below
from dicom_node.parts import Parts, configured_encoder, existing_parts, open_index
from dicom_node.receive.worker import Model, Worker
from index.records import Case, Ranking
from index.search import Search

_COLUMNS = ("rank", "score", "modality", "body part", "date", "description", "study", "same in")


def similar(
    example: Annotated[
        list[str], typer.Argument(help="A Study Instance UID, or the files of an example.")
    ],
    k: Annotated[int | None, typer.Option("-k", min=1, help="Cases at most.")] = None,
    modality: Annotated[str | None, typer.Option(help="Only this modality, as CT.")] = None,
    body_part: Annotated[str | None, typer.Option(help="Only this body part, as CHEST.")] = None,
    same_patient: Annotated[
        bool, typer.Option("--same-patient", help="Let the patient's own studies in.")
    ] = False,
    data: DataOption = None,
    config: ConfigOption = None,
    json: JsonOption = False,
) -> None:
    """Rank the kept studies by likeness to an example."""
    parts = existing_parts(configured(config, data))
    filters = Filters(
        k=k or parts.config.answer.k,
        modality=modality and modality.upper(),
        body_part=body_part and body_part.upper(),
        same_patient=same_patient,
        minimum_score=parts.config.answer.minimum_score,
        near_duplicate=parts.config.answer.near_duplicate,
    )
    model = configured_encoder(parts.config.encoder)
    try:
        asked = files_or_uid(example)
        if isinstance(asked, str):
            ranking = _like_study(parts, model, asked, filters)
        else:
            ranking = _like_files(parts, model, asked, filters)
    finally:
        parts.close()
    _print(ranking, json)
    if not model.trained:
        typer.echo("The encoder is untrained: the ranks carry no meaning.", err=True)


def _like_study(parts: Parts, model: Model, uid: str, filters: Filters) -> Ranking:
    index = open_index(parts, model, read_only=True)
    answered = similar_to_study(parts.catalogue, Search(parts.catalogue, index), uid, filters)
    if answered is None:
        known = parts.catalogue.study_row(uid)
        if known is not None:
            raise SimilisError(f"study {uid} is {known.state}: it has no vector to compare by")
        raise NotKnown("study", uid, "`similis import` takes studies in")
    return answered.ranking


def _like_files(parts: Parts, model: Model, paths: list[Path], filters: Filters) -> Ranking:
    worker = Worker(parts.config.encoder)
    try:
        example = embed_example(worker, [p for p in files_below(paths) if isinstance(p, Path)])
    finally:
        worker.stop()
    index = open_index(parts, model, read_only=True)
    return similar_to_vectors(Search(parts.catalogue, index), example, filters)


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
        case.study_instance_uid,
        ", ".join(case.near_duplicates),
    )
