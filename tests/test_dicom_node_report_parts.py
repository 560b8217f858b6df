"""A report points at the frame of the query that matched, and at no part of a neighbour."""

from dataclasses import replace

import pytest
from test_dicom_node_report import build, encoded, header, items, ranking

from dicom_node.answer import codes
from index.parts import PartPlace
from index.records import Ranking

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning:pydicom")


def pointed(found: Ranking, uid: str, frame: int) -> Ranking:
    """Every case is like one part of the query, by a part of its own."""
    part = PartPlace(uid, frame, (10, 20, 30, 40))
    return replace(
        found,
        cases=tuple(
            replace(
                case, query_part=part, case_part=PartPlace(case.sop_instance_uid, 7, (1, 2, 3, 4))
            )
            for case in found.cases
        ),
    )


def test_a_group_refers_to_the_frame_that_matched_where_there_are_several() -> None:
    for name, frames in (("CT_small.dcm", [None] * 2), ("emri_small_RLE.dcm", [3, 3])):
        image = header(name)
        document = build(image, found=pointed(ranking(1), image.SOPInstanceUID, 3))
        sources = [
            item.ReferencedSOPSequence[0]
            for item in items(document)
            if item.ConceptNameCodeSequence[0].CodeValue == codes.SOURCE_OF_MEASUREMENT.value
        ]
        assert [source.get("ReferencedFrameNumber") for source in sources] == frames
        assert {source.ReferencedSOPInstanceUID for source in sources} == {image.SOPInstanceUID}


def test_a_part_of_a_neighbour_is_not_told_who_it_is_of() -> None:
    found = pointed(ranking(5), header().SOPInstanceUID, 1)
    content = encoded(build(found=found))
    assert header().SOPInstanceUID.encode() in content
    for case in found.cases:
        assert case.case_part is not None
        assert case.case_part.sop_instance_uid.encode() not in content
