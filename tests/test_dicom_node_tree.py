"""The content tree: one group per case, and every statement about the right subject."""

from collections.abc import Iterator
from dataclasses import replace

import pytest
from cases import case
from pydicom.dataset import Dataset

from dicom_node.answer import codes
from dicom_node.answer.evidence import QueryEvidence
from dicom_node.answer.tree import (
    DISCLAIMER,
    Algorithm,
    Naming,
    Observer,
    age_band,
    measurement_report,
)
from index.records import Ranking

ALGORITHM = Algorithm(name="Similis", version="1", manufacturer="Similis", trained=True)


def image(instance: str) -> Dataset:
    header = Dataset()
    header.StudyInstanceUID = "1.2.3"
    header.SeriesInstanceUID = "1.2.3.4"
    header.SOPInstanceUID = instance
    header.SOPClassUID = "1.2.840.10008.5.1.4.1.1.2"
    return header


CASES = (case(1, 0.85), case(2, 0.6, "MR", query_clip=1), case(3, 0.0123, "ZZ"))
RANKING = Ranking(cases=CASES, complete=True, exact=False, model_id="4f3c", searched=7)


def build(ranking: Ranking = RANKING, algorithm: Algorithm = ALGORITHM) -> Dataset:
    return measurement_report(
        title=codes.IMAGING_MEASUREMENT_REPORT,
        query=QueryEvidence(
            images=(image("1.2.3.4.1"), image("1.2.3.4.2")),
            query_clip_image=("1.2.3.4.1", "1.2.3.4.2"),
        ),
        ranking=ranking,
        algorithm=algorithm,
        observer=Observer(ae_title="SIMILIS", device_uid="2.25.1"),
        naming=Naming(bytes(32), {}),
    )


def items(node: Dataset) -> Iterator[Dataset]:
    for item in node.get("ContentSequence", []):
        yield item
        yield from items(item)


def named(node: Dataset, concept: codes.CodedConcept) -> list[Dataset]:
    return [i for i in items(node) if i.ConceptNameCodeSequence[0].CodeValue == concept.value]


def summary_lines(tree: Dataset) -> list[str]:
    (item,) = named(tree, codes.SUMMARY)
    return str(item.TextValue).split("\r\n")


def test_what_is_said_of_a_neighbour_is_said_of_another_subject() -> None:
    for group in named(build(), codes.REFERENCE_CASE):
        first = group.ContentSequence[0]
        assert first.RelationshipType == "HAS OBS CONTEXT"
        assert first.ConceptNameCodeSequence[0].CodeValue == codes.SUBJECT_CLASS.value
        assert len(named(group, codes.SUBJECT_UID)) == len(named(group, codes.SUBJECT_ID)) == 1


def test_cases_of_one_patient_share_a_subject_and_no_others_do() -> None:
    subjects = [item.UID for item in named(build(), codes.SUBJECT_UID)]
    assert subjects[0] == subjects[2] != subjects[1]
    nameless = tuple(replace(found, patient_id="") for found in CASES)
    tree = build(replace(RANKING, cases=nameless))
    assert len({item.UID for item in named(tree, codes.SUBJECT_UID)}) == 3


def test_a_case_points_at_the_query_image_that_matched_it() -> None:
    sources = [
        [i.ReferencedSOPSequence[0].ReferencedSOPInstanceUID for i in images]
        for group in named(build(), codes.MEASUREMENT_GROUP)
        if (images := named(group, codes.SOURCE_OF_MEASUREMENT))
    ]
    assert sources == [["1.2.3.4.1"] * 2, ["1.2.3.4.2"] * 2, ["1.2.3.4.1"] * 2]


def test_score_rank_and_category_are_written_in_order_of_rank() -> None:
    tree = build()

    def numbers(concept: codes.CodedConcept) -> list[str]:
        return [
            i.MeasuredValueSequence[0].NumericValue.original_string for i in named(tree, concept)
        ]

    assert numbers(codes.SIMILARITY_SCORE) == ["0.8500", "0.6000", "0.0123"]
    assert [
        str(i.MeasuredValueSequence[0].NumericValue) for i in named(tree, codes.SIMILARITY_RANK)
    ] == ["1", "2", "3"]
    categories = named(tree, codes.SIMILARITY_CATEGORY)
    assert [i.ConceptCodeSequence[0].CodeMeaning for i in categories] == ["High", "Moderate", "Low"]


def test_an_untrained_encoder_calls_no_case_near() -> None:
    tree = build(algorithm=replace(ALGORITHM, trained=False))
    assert named(tree, codes.SIMILARITY_CATEGORY) == []


def test_tracking_depends_on_query_and_case_only() -> None:
    once = [item.UID for item in named(build(), codes.TRACKING_UID)]
    swapped = replace(
        RANKING, cases=(replace(CASES[1], rank=1, score=0.99), replace(CASES[0], rank=2))
    )
    again = [item.UID for item in named(build(swapped), codes.TRACKING_UID)]
    assert len(set(once)) == 3
    assert again == [once[1], once[0]]


def test_the_summary_names_every_case_and_ends_with_the_disclaimer() -> None:
    lines = summary_lines(build())
    assert [line.split()[0] for line in lines[:-1]] == ["#1", "#2", "#3"]
    assert lines[0].endswith("score 0.850 CT")
    assert lines[2].endswith("score 0.012 OT")
    assert lines[-1] == DISCLAIMER


def test_an_untrained_encoder_is_named_first() -> None:
    assert "untrained" in summary_lines(build(algorithm=replace(ALGORITHM, trained=False)))[0]
    assert not any("untrained" in line for line in summary_lines(build()))


def test_a_report_without_cases_says_so() -> None:
    tree = build(replace(RANKING, cases=()))
    assert summary_lines(tree) == ["No similar case found.", DISCLAIMER]
    assert named(tree, codes.MEASUREMENT_GROUP) == []


def test_an_incomplete_search_is_named() -> None:
    assert any("not searched" in x for x in summary_lines(build(replace(RANKING, complete=False))))


@pytest.mark.parametrize(
    ("age", "band"),
    [
        ("064Y", "60-69 years"),
        ("009Y", "0-9 years"),
        ("018M", "0-9 years"),
        ("130M", "10-19 years"),
        ("003W", "0-9 years"),
        ("089Y", "80-89 years"),
        ("090Y", "90 years or more"),
        ("104Y", "90 years or more"),
        ("", ""),
        ("64", ""),
        ("064", ""),
        ("xxxY", ""),
    ],
)
def test_age_is_a_decade_at_most(age: str, band: str) -> None:
    assert age_band(age) == band
