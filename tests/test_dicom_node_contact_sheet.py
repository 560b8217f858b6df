"""The contact sheet: every picture is told whose it is, and every page can be read by itself."""

from dataclasses import replace

import numpy as np
import pytest
from PIL import Image
from test_dicom_node_report import ALGORITHM, evidence, header, ranking

from dicom_node.answer.contact_sheet import (
    COLUMNS,
    MAX_CASES,
    NOT_THIS_PATIENT,
    QUERY,
    ROWS,
    SIDE_PX,
    WIDTH_PX,
    Tile,
    contact_sheet,
)
from dicom_node.answer.evidence import QueryEvidence
from dicom_node.receive.worker import Thumbnail
from index.parts import PartPlace
from index.records import Ranking

SECRET = bytes(range(32))
GREEN = Thumbnail(bytes((0, 255, 0)) * SIDE_PX**2)


def sheet(
    query: QueryEvidence, found: Ranking, thumbnail: Thumbnail = GREEN
) -> tuple[list[Image.Image], list[Tile]]:
    """Return the pages, and the tiles in the order in which they were asked for."""
    asked: list[Tile] = []

    def picture(tile: Tile) -> Thumbnail:
        asked.append(tile)
        return thumbnail

    pages = contact_sheet(query, found, ALGORITHM, secret=SECRET, picture=picture)
    return pages, asked


def two_clips() -> QueryEvidence:
    first, second = header(), header("MR_small.dcm")
    second.StudyInstanceUID = first.StudyInstanceUID
    return evidence(first, second)


def test_the_query_comes_first_and_the_cases_in_order_of_rank() -> None:
    found = ranking(3)
    (page,), tiles = sheet(evidence(header()), found)
    assert [tile.sop_instance_uid for tile in tiles] == [
        header().SOPInstanceUID,
        *(case.sop_instance_uid for case in found.cases),
    ]
    assert [tile.banner for tile in tiles] == [QUERY, *[NOT_THIS_PATIENT] * 3]
    assert [tile.of_another for tile in tiles] == [False, True, True, True]
    assert tiles[1].lines[:2] == ("#1   score 0.880   CT", "60-69 years")
    assert tiles[0].lines[1] == "this patient"
    assert page.width == WIDTH_PX


def test_the_parts_that_match_are_shown_each_query_part_once() -> None:
    uid = header().SOPInstanceUID
    own = [PartPlace(uid, frame, (0, 0, 8, 8)) for frame in (2, 5)]
    found = ranking(4)
    cases = tuple(
        replace(
            case,
            query_part=own[number % 2],
            case_part=PartPlace(case.sop_instance_uid, number, (1, 1, 9, 9)),
        )
        for number, case in enumerate(found.cases)
    )
    _, tiles = sheet(evidence(header()), replace(found, cases=cases))
    assert [tile.part for tile in tiles] == [*own, *(case.case_part for case in cases)]
    assert [tile.banner for tile in tiles[:2]] == ["QUERY 1", "QUERY 2"]


@pytest.mark.parametrize(("cases", "pages"), [(0, 0), (1, 1), (11, 1), (12, 2), (200, 2)])
def test_ten_cases_fit_on_one_page_and_only_the_first_ones_are_shown(
    cases: int, pages: int
) -> None:
    made, tiles = sheet(evidence(header()), ranking(cases))
    assert len(made) == pages
    assert sum(tile.of_another for tile in tiles) == min(cases, MAX_CASES)
    assert all(page.height <= WIDTH_PX for page in made)


def test_every_page_shows_the_query_images_that_its_cases_match() -> None:
    made, tiles = sheet(two_clips(), ranking(20, clips=2))
    assert len(made) == 2
    assert [tile.banner for tile in tiles[:2]] == ["QUERY 1", "QUERY 2"]
    assert len(tiles) == 20 + 2 * 2
    assert max(COLUMNS * ROWS, len(tiles) - COLUMNS * ROWS) == COLUMNS * ROWS
    assert tiles[2].lines[2].endswith("like query 1")
    assert tiles[3].lines[2].endswith("like query 2")


def test_the_pictures_are_on_the_page_as_they_came() -> None:
    (page,), tiles = sheet(evidence(header()), ranking(3))
    green = (np.asarray(page) == (0, 255, 0)).all(axis=-1).sum()
    assert green == len(tiles) * SIDE_PX**2


def test_a_picture_that_may_not_be_shown_is_told_so_in_its_place() -> None:
    (page,), _ = sheet(evidence(header()), ranking(1), Thumbnail(b"", "text may be burned in"))
    (other,), _ = sheet(evidence(header()), ranking(1), Thumbnail(b"", "it is no longer kept"))
    assert page.size == other.size
    assert page.tobytes() != other.tobytes()


def test_nothing_that_is_written_names_a_neighbour() -> None:
    found = ranking(11)
    _, tiles = sheet(evidence(header()), found)
    written = " ".join(text for tile in tiles for text in (tile.banner, *tile.lines))
    assert "R-" in written
    for case in found.cases:
        for secret in (case.patient_id, case.study_date, case.study_instance_uid, case.patient_age,
                       case.study_description, case.issuer_of_patient_id):  # fmt: skip
            assert secret not in written


def test_warnings_stand_on_the_page() -> None:
    query, found = evidence(header()), ranking(1)
    (plain,), _ = sheet(query, found)
    (warned,), _ = sheet(query, replace(found, complete=False))
    assert plain.crop((0, 0, WIDTH_PX, 46)).tobytes() != warned.crop((0, 0, WIDTH_PX, 46)).tobytes()
    assert plain.crop((0, 46, *plain.size)).tobytes() == warned.crop((0, 46, *plain.size)).tobytes()
