"""Cases of no study in particular."""

from index.records import Case


def case(rank: int, score: float, modality: str = "CT", query_clip: int = 0) -> Case:
    """Return a case that no catalogue knows of."""
    return Case(
        rank=rank,
        score=score,
        study_instance_uid=f"1.9.{rank}",
        series_instance_uid=f"1.9.{rank}.1",
        sop_instance_uid=f"1.9.{rank}.1.1",
        query_clip=query_clip,
        kind="still",
        modality=modality,
        body_part="",
        study_date="",
        study_description="",
        patient_id=f"P{rank % 2}",
        issuer_of_patient_id="",
        patient_sex="",
        patient_age="",
    )
