from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydicom import Dataset

from encoder.clip import Kind
from training.facts import Facts, age_band, facts_of, sentences
from training.manifest import Item, Split


def item(**known: str) -> Item:
    given = {"modality": "DX", **known}
    return Item("a.dcm", (Path("a.dcm"),), Split.TRAIN, Kind.STILL, **given)


def header() -> Dataset:
    dataset = Dataset()
    dataset.Modality = "CR"
    dataset.BodyPartExamined = "CHEST"
    dataset.ViewPosition = "PA"
    dataset.PatientAge, dataset.PatientSex = "004Y", "F"
    dataset.StudyDescription, dataset.SeriesDescription = "CXR PA/LAT", "THX PA"
    dataset.ProtocolName = "Chest^PA"
    dataset.ImageLaterality = "L"
    return dataset


def test_row_and_header_are_put_together_and_the_row_is_believed_first() -> None:
    row = item(label="normal", caption="healthy | normal lung | healthy")
    assert facts_of(row, header()) == Facts(
        kind=Kind.STILL,
        modality="DX",
        body_part="CHEST",
        side="L",
        view="PA",
        age_band="child",
        sex="F",
        study="chest x-ray posteroanterior lateral",
        series="thorax posteroanterior",
        protocol="chest posteroanterior",
        label="normal",
        comments=("healthy", "normal lung"),
    )


def test_without_a_header_only_the_row_is_known() -> None:
    assert facts_of(item()) == Facts(kind=Kind.STILL, modality="DX")


def test_an_anatomic_region_stands_in_for_the_body_part() -> None:
    dataset, region = Dataset(), Dataset()
    region.CodeMeaning = "Retina"
    dataset.AnatomicRegionSequence = [region]
    assert facts_of(item(), dataset).body_part == "Retina"
    dataset.AnatomicRegionSequence = []
    assert facts_of(item(), dataset).body_part == ""


def test_of_several_values_the_first_is_taken() -> None:
    dataset = header()
    dataset.StudyDescription = ["ABD W/O", "other"]
    dataset.ViewPosition = []
    assert facts_of(item(), dataset).study == "abdomen without contrast"
    assert facts_of(item(), dataset).view == ""


@pytest.mark.parametrize(
    ("age", "band"),
    [
        ("000D", "newborn"),
        ("027D", "newborn"),
        ("004W", "infant"),
        ("023M", "infant"),
        ("002Y", "child"),
        ("011Y", "child"),
        ("012Y", "adolescent"),
        ("017Y", "adolescent"),
        ("018Y", "adult"),
        ("064Y", "adult"),
        ("065Y", "older adult"),
        ("999Y", "older adult"),
        ("", ""),
        ("4Y", ""),
        ("004", ""),
        ("004y", ""),
        ("-04Y", ""),
    ],
)
def test_ages_fall_into_bands_or_are_unknown(age: str, band: str) -> None:
    assert age_band(age) == band


def test_comments_are_cut_at_bars_and_ends_of_sentences() -> None:
    comments = "A-lines. Longitudinal scan, 2.5 MHz of the chest. The video shows it. | A-lines | "
    assert sentences(comments) == (
        "A-lines",
        "Longitudinal scan, 2.5 MHz of the chest",
        "The video shows it",
    )


@given(st.text())
def test_cutting_comments_loses_no_word(comments: str) -> None:
    assert set(" ".join(sentences(comments)).split()) >= {
        word for word in comments.replace("|", " ").split() if word.isalnum()
    }
