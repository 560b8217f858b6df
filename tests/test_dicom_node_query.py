"""The question behind every answer, asked of a catalogue of made-up vectors."""

from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest
from catalogues import MODEL, open_catalogue

from dicom_node.answer.query import Example, Filters, similar_in_scope, similar_to_examples
from dicom_node.config import Scope
from index.catalogue import Catalogue
from index.records import ClipRecord, Header, PatientKey, QuietRule, StoredFile
from index.search import Search
from index.vectors import ExactIndex

DIM = 8
AXES = np.eye(DIM, dtype=np.float32)
RULE = QuietRule(series_s=30, study_s=120, cap_s=600)
FILTERS = Filters(k=5, near_duplicate=0.98)


@pytest.fixture
def catalogue(tmp_path: Path) -> Catalogue:
    return open_catalogue(
        f"sqlite:///{tmp_path / 'similis.db'}", lambda: datetime(2026, 1, 1, tzinfo=UTC)
    )


def enter(catalogue: Catalogue, study: str, **vectors: np.ndarray) -> None:
    """Keep a study of a patient of its own: one series of one clip for each modality."""
    for modality, vector in vectors.items():
        series = f"{study}.{ord(modality[0])}"
        head = Header(
            study_instance_uid=study,
            series_instance_uid=series,
            sop_instance_uid=f"{series}.1",
            sop_class_uid="1.2.840.10008.5.1.4.1.1.2",
            transfer_syntax_uid="1.2.840.10008.1.2.1",
            patient_id=f"P{study}",
            modality=modality,
        )
        recorded = catalogue.record(head, StoredFile("a.dcm", series.rjust(64, "0"), 1), RULE)
        clip = ClipRecord("still", 1, (f"{series}.1",), vector)
        catalogue.save_clips(recorded.series_id, 1, MODEL, [clip])


def search_of(catalogue: Catalogue) -> Search:
    index = ExactIndex(model_id=MODEL, dim=DIM)
    index.add(*catalogue.vectors(catalogue.embedding_ids(MODEL).tolist()))
    return Search(catalogue, index)


def tilted(axis: int, degrees: float) -> np.ndarray:
    angle = np.radians(degrees)
    return (np.cos(angle) * AXES[axis] + np.sin(angle) * AXES[DIM - 1]).astype(np.float32)


@pytest.mark.parametrize(
    ("off_ct", "off_mr", "expected"),
    [
        (5.0, 20.0, [("1.5", ("1.6",))]),  # the group comes first
        (20.0, 5.0, [("1.6", ())]),  # its second study comes first, by its other series
    ],
)
def test_a_near_duplicate_of_a_case_is_no_case_by_another_series(
    catalogue: Catalogue, off_ct: float, off_mr: float, expected: list[tuple[str, tuple[str, ...]]]
) -> None:
    enter(catalogue, "1.5", CT=AXES[0])
    enter(catalogue, "1.6", CT=AXES[0], MR=AXES[1])
    enter(catalogue, "1.9", CT=tilted(0, off_ct), MR=tilted(1, off_mr))
    search = search_of(catalogue)
    answered = similar_in_scope(catalogue, search, "1.9", FILTERS, scope=Scope.SAME_MODALITY)
    assert answered is not None
    cases = answered.ranking.cases
    assert [(case.study_instance_uid, case.near_duplicates) for case in cases] == expected


def test_a_twin_of_an_example_is_found_with_several_examples(catalogue: Catalogue) -> None:
    for study in ("1.5", "1.6"):
        enter(catalogue, study, CT=AXES[0])
    examples = [
        Example(vectors=AXES[:1], study_instance_uid=study, patient=PatientKey(f"P{study}"))
        for study in ("1.9", "1.5")
    ]
    cases = similar_to_examples(search_of(catalogue), examples, [], FILTERS).cases
    assert [case.study_instance_uid for case in cases] == ["1.6"]
