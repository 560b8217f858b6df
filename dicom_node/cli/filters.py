"""Options that say which cases may be answered, and what they make of an answer."""

from typing import Annotated

import typer

from dicom_node.answer.query import Filters
from dicom_node.config import Answer
from index.criteria import age_range, value_range
from index.errors import BadQuery
from index.vectors import Effort

ModalityOption = Annotated[str | None, typer.Option(help="Only this modality, as CT.")]
BodyPartOption = Annotated[str | None, typer.Option(help="Only this body part, as CHEST.")]
SexOption = Annotated[str | None, typer.Option(help="Only this PatientSex, as F.")]
AgeOption = Annotated[
    str, typer.Option(help="Only this age at the study, in years, or a range: 0-12, 65-.")
]
DateOption = Annotated[
    str,
    typer.Option(help="Only this StudyDate, or a range: 20240131, 20240101-20241231, 20240101-."),
]
InstitutionOption = Annotated[str | None, typer.Option(help="Only this InstitutionName.")]
DescriptionOption = Annotated[
    str | None, typer.Option(help="Only with these words in the description of study or series.")
]
EffortOption = Annotated[
    Effort, typer.Option(help="How hard to look; exact compares every kept case.")
]
SamePatientOption = Annotated[
    bool, typer.Option("--same-patient", help="Let the patient's own studies in.")
]


def filters_of(
    answer: Answer,
    *,
    k: int | None,
    modality: str | None,
    body_part: str | None,
    sex: str | None,
    age: str,
    date: str,
    institution: str | None,
    description: str | None,
    effort: Effort,
    same_patient: bool,
) -> Filters:
    """Return what is asked for; the rest is as the configuration says of every answer."""
    try:
        youngest, oldest = age_range(age, field="--age") if age else (None, None)
        first, last = value_range(date, vr="DA", keyword="--date") if date else (None, None)
    except BadQuery as error:
        raise typer.BadParameter(error.reason, param_hint=error.field) from error
    return Filters(
        k=k or answer.k,
        modality=modality and modality.upper(),
        body_part=body_part and body_part.upper(),
        patient_sex=sex and sex.upper(),
        date_from=first,
        date_to=last,
        age_from_years=youngest,
        age_to_years=oldest,
        institution=institution,
        description=description,
        effort=effort,
        same_patient=same_patient,
        minimum_score=answer.minimum_score,
        part_weight=answer.part_weight,
        near_duplicate=answer.near_duplicate,
    )
