"""Reports as others read them: three validators, of which each must find a broken one, and viewers.

PixelMed's validator is the one that the connectathons of IHE name; it takes a Java process, and so
half a minute, a file.
"""

import re
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import peers
import pytest
from pydicom.dataset import Dataset
from test_dicom_node_report import (
    ALGORITHM,
    IDENTITY,
    OPTIONS,
    build,
    encoded,
    evidence,
    header,
    items,
    named,
    ranking,
    read,
)

from dicom_node.answer import codes
from dicom_node.answer.report import SopClass, Title, build_report

CT = "1.2.840.10008.5.1.4.1.1.2"
_JAVA = [
    *(f"-Djdk.xml.xpath{limit}Limit=0" for limit in ("TotalOp", "ExprOp", "ExprGrp")),
    "-cp", "/usr/share/java/pixelmed.jar",
    "com.pixelmed.validate.DicomSRValidator",
    "-checkcontentitemorder", "-checktemplateid", "-checkambiguoustemplate",
]  # fmt: skip


def linked(count: int = 3, **options: object) -> Dataset:
    found = ranking(count)
    return build_report(
        query=evidence(header()),
        ranking=found,
        algorithm=ALGORITHM,
        options=replace(OPTIONS, **options),
        identity=IDENTITY,
        linked={case.sop_instance_uid: CT for case in found.cases},
    )


def broken() -> Dataset:
    """Return a report with a wrong relation, a unit without scheme and an observer of no kind."""
    report = build()
    named(report, codes.TRACKING_IDENTIFIER)[0].RelationshipType = "CONTAINS"
    score = named(report, codes.SIMILARITY_SCORE)[0]
    del score.MeasuredValueSequence[0].MeasurementUnitsCodeSequence[0].CodingSchemeDesignator
    named(report, codes.OBSERVER_TYPE)[0].ConceptCodeSequence[0].CodeValue = "121006"
    return report


def dciodvfy(path: Path) -> list[str]:
    said = peers.run("dciodvfy", "-new", path, check=False).stdout
    assert re.search(r"SR$", said, re.M), said
    return re.findall(r"^(?:Error|Abort).*", said, re.M)


def dsrdump(path: Path) -> list[str]:
    said = peers.run("dsrdump", path, check=False).stdout
    return re.findall(r"^(?:E|F): .*", said, re.M)


def pixelmed(path: Path) -> list[str]:
    said = subprocess.run(
        [peers.tool("java"), *_JAVA, str(path)],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=300,
        check=False,
    ).stdout
    assert "IOD validation complete" in said, said
    assert "Found Root Template TID_1500" in said
    return re.findall(r"^Error.*", said, re.M)


QUICK = [dciodvfy, dsrdump]
SLOW = [pytest.param(pixelmed, marks=pytest.mark.slow)]


@pytest.mark.peer
@pytest.mark.parametrize("validate", QUICK)
@pytest.mark.parametrize("sop_class", list(SopClass))
@pytest.mark.parametrize("title", list(Title))
def test_a_linked_report_is_valid_in_every_class(
    validate: Callable[[Path], list[str]], sop_class: SopClass, title: Title, tmp_path: Path
) -> None:
    path = tmp_path / "report.dcm"
    path.write_bytes(encoded(linked(sop_class=sop_class, title=title)))
    assert validate(path) == []


@pytest.mark.peer
@pytest.mark.slow
@pytest.mark.parametrize(
    "document",
    [
        pytest.param(lambda: build(found=ranking(2)), id="opaque"),
        pytest.param(
            lambda: linked(2, sop_class=SopClass.ENHANCED, title=Title.SIMILAR_CASES_REPORT),
            id="linked, enhanced, private title",
        ),
    ],
)
def test_the_validator_of_the_connectathons_finds_no_error(
    document: Callable[[], Dataset], tmp_path: Path
) -> None:
    path = tmp_path / "report.dcm"
    path.write_bytes(encoded(document()))
    assert pixelmed(path) == []


@pytest.mark.peer
@pytest.mark.parametrize("validate", [*QUICK, *SLOW])
def test_every_validator_finds_the_errors_of_a_broken_report(
    validate: Callable[[Path], list[str]], tmp_path: Path
) -> None:
    path = tmp_path / "report.dcm"
    path.write_bytes(encoded(broken()))
    assert validate(path) != []


def test_a_linked_report_has_every_image_it_names_in_its_evidence() -> None:
    document = read(linked())
    referred = {
        item.ReferencedSOPSequence[0].ReferencedSOPInstanceUID
        for item in items(document)
        if item.ValueType == "IMAGE"
    }
    own = instances(document.CurrentRequestedProcedureEvidenceSequence)
    others = instances(document.PertinentOtherEvidenceSequence)
    assert own == {header().SOPInstanceUID}
    assert others == {case.sop_instance_uid for case in ranking(3).cases}
    assert referred == own | others


def test_a_linked_report_names_studies_but_no_person() -> None:
    found = ranking(3)
    content = encoded(linked())
    for case in found.cases:
        for uid in (case.study_instance_uid, case.series_instance_uid, case.sop_instance_uid):
            assert uid.encode() in content
        for secret in (case.patient_id, case.issuer_of_patient_id, case.study_description,
                       case.study_date, case.patient_age):  # fmt: skip
            assert secret.encode() not in content


def test_a_case_whose_image_is_gone_is_named_by_its_pseudonym() -> None:
    found = ranking(2)
    gone, there = found.cases
    document = build_report(
        query=evidence(header()),
        ranking=found,
        algorithm=ALGORITHM,
        options=OPTIONS,
        identity=IDENTITY,
        linked={there.sop_instance_uid: CT},
    )
    content = encoded(document)
    assert there.study_instance_uid.encode() in content
    assert gone.study_instance_uid.encode() not in content
    assert instances(document.PertinentOtherEvidenceSequence) == {there.sop_instance_uid}


@pytest.mark.parametrize("document", [build, linked])
def test_weasis_prints_the_report_so_that_it_can_be_read(document: Callable[[], Dataset]) -> None:
    lines = list(printed(read(document())))
    assert "Similarity score: 0.8800 1" in lines
    assert "Similarity rank: 1 1" in lines
    assert "Similarity category: High" in lines
    assert any(line.startswith("Similar cases summary: #1 case R-") for line in lines)
    assert sum(line == "Reference case" for line in lines) == 3
    assert all(name and value for name, _, value in (x.partition(": ") for x in lines if ": " in x))


def printed(node: Dataset) -> Iterator[str]:
    """Yield what Weasis makes of the items below a node: it knows these value types only."""
    for item in node.get("ContentSequence", []):
        name = item.ConceptNameCodeSequence[0].CodeMeaning
        value = {
            "CONTAINER": lambda item: "",
            "TEXT": lambda item: item.TextValue,
            "CODE": lambda item: item.ConceptCodeSequence[0].CodeMeaning,
            "NUM": number,
            "UIDREF": lambda item: item.UID,
            "IMAGE": lambda item: item.ReferencedSOPSequence[0].ReferencedSOPInstanceUID,
        }[item.ValueType](item)
        yield f"{name}: {value}" if value else name
        yield from printed(item)


def number(item: Dataset) -> str:
    measured = item.MeasuredValueSequence[0]
    return f"{measured.NumericValue} {measured.MeasurementUnitsCodeSequence[0].CodeValue}"


def instances(studies: list[Dataset]) -> set[str]:
    return {
        instance.ReferencedSOPInstanceUID
        for study in studies
        for series in study.ReferencedSeriesSequence
        for instance in series.ReferencedSOPSequence
    }
