"""The Structured Report: valid for three readers, and silent about who the neighbours are."""

import os
import re
import subprocess
from collections.abc import Iterator
from dataclasses import replace
from datetime import datetime, timedelta, timezone
from io import BytesIO
from pathlib import Path

import data_store
import highdicom.sr
import pydicom.data
import pytest
from pydicom import dcmread
from pydicom.dataset import Dataset
from pydicom.errors import InvalidDicomError
from pydicom.sr.coding import Code

from dicom_node.answer import codes
from dicom_node.answer.evidence import text_of
from dicom_node.answer.report import (
    Algorithm,
    QueryEvidence,
    ReportIdentity,
    ReportOptions,
    SopClass,
    Title,
    build_report,
)
from index.records import Case, Ranking

# pydicom warns of the odd values that its own test images hold; they are what is tested here.
pytestmark = pytest.mark.filterwarnings("ignore::UserWarning:pydicom")

GOLDEN = Path(__file__).parent / "golden" / "report-ct.txt"
BUNDLED = Path(pydicom.data.__file__).parent
IDENTITY_UIDS = ("StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID", "SOPClassUID")

ALGORITHM = Algorithm(
    name="Similis",
    version="similis-tiny 4f3c9a1e0b7d2c58",
    manufacturer="Similis",
    parameters=("metric=cosine", "index=hnsw m=16 ef=100", "k=10"),
    trained=True,
)
OPTIONS = ReportOptions(ae_title="SIMILIS", device_uid="2.25.1234567890")
IDENTITY = ReportIdentity(
    sop_instance_uid="2.25.1001",
    series_instance_uid="2.25.1000",
    series_number=9901,
    instance_number=1,
    now=datetime(2026, 3, 4, 15, 6, 7, tzinfo=timezone(timedelta(hours=1))),
    secret=bytes(range(32)),
)

# One of each kind that a PACS sends: CT, MR, enhanced, cine, colour, palette, big endian, RLE,
# deflated, truncated, segmentation, dose.
SAMPLE = (
    "CT_small.dcm", "MR_small.dcm", "MR_small_expb.dcm", "eCT_Supplemental.dcm",
    "emri_small_RLE.dcm", "examples_palette.dcm", "examples_ybr_color.dcm", "image_dfl.dcm",
    "693_UNCI.dcm", "SC_rgb_small_odd.dcm", "SC_rgb_expb_32bit.dcm", "JPEG2000.dcm",
    "MR_truncated.dcm", "liver_expb_1frame.dcm", "rtdose.dcm",
)  # fmt: skip


def bundled(name: str) -> Path:
    found = pydicom.data.get_testdata_file(name, download=False)
    path = Path(str(found)) if found else BUNDLED / "charset_files" / name
    assert path.exists(), f"{name} is not bundled with pydicom or pydicom-data"
    return path


def header(name: str = "CT_small.dcm") -> Dataset:
    return dcmread(bundled(name), stop_before_pixels=True, force=True)


def evidence(*images: Dataset) -> QueryEvidence:
    return QueryEvidence(
        images=images, query_clip_image=tuple(text_of(i, "SOPInstanceUID") for i in images)
    )


def ranking(count: int = 3, clips: int = 1) -> Ranking:
    modalities = ("CT", "MR", "XX")
    cases = tuple(
        Case(
            rank=rank,
            score=1 - rank * 0.12,
            study_instance_uid=f"1.2.276.0.7230010.3.1.2.{rank}",
            series_instance_uid=f"1.2.276.0.7230010.3.1.3.{rank}",
            sop_instance_uid=f"1.2.276.0.7230010.3.1.4.{rank}",
            query_clip=(rank - 1) % clips,
            kind="volume",
            modality=modalities[(rank - 1) % 3],
            body_part="CHEST",
            study_date="20190517",
            study_description=f"Thorax of Neighbour {rank}",
            patient_id=f"NEIGHBOUR-{rank}",
            issuer_of_patient_id="NEIGHBOUR-HOSPITAL",
            patient_sex="F",
            patient_age="064Y",
        )
        for rank in range(1, count + 1)
    )
    return Ranking(cases=cases, complete=True, exact=True, model_id="4f3c", searched=1234)


def build(
    *images: Dataset,
    found: Ranking | None = None,
    algorithm: Algorithm = ALGORITHM,
    options: ReportOptions = OPTIONS,
    identity: ReportIdentity = IDENTITY,
) -> Dataset:
    return build_report(
        query=evidence(*(images or (header(),))),
        ranking=ranking() if found is None else found,
        algorithm=algorithm,
        options=options,
        identity=identity,
    )


def encoded(document: Dataset) -> bytes:
    buffer = BytesIO()
    document.save_as(buffer, enforce_file_format=True)
    return buffer.getvalue()


def read(document: Dataset) -> Dataset:
    return dcmread(BytesIO(encoded(document)))


def items(node: Dataset) -> Iterator[Dataset]:
    for item in node.get("ContentSequence", []):
        yield item
        yield from items(item)


def named(node: Dataset, concept: codes.CodedConcept) -> list[Dataset]:
    return [i for i in items(node) if i.ConceptNameCodeSequence[0].CodeValue == concept.value]


def dciodvfy(document: Dataset, folder: Path) -> list[str]:
    """Return what dciodvfy says beyond the IOD's name and the private scheme's designator."""
    path = folder / "report.dcm"
    path.write_bytes(encoded(document))
    run = subprocess.run(
        ["/usr/bin/dciodvfy", "-new", str(path)], capture_output=True, text=True, check=False
    )
    names = {"Comprehensive3DSR", "ComprehensiveSR", "EnhancedSR"}
    lines = (run.stdout + run.stderr).splitlines()
    assert names & set(lines), f"dciodvfy did not recognise the report: {lines}"
    return [
        line
        for line in lines
        if line not in names and "Unrecognized defined term = <99SIMILIS>" not in line
    ]


@pytest.mark.peer
@pytest.mark.parametrize("sop_class", list(SopClass))
@pytest.mark.parametrize("title", list(Title))
@pytest.mark.parametrize("count", [0, 1, 20])
def test_dciodvfy_finds_no_fault(
    sop_class: SopClass, title: Title, count: int, tmp_path: Path
) -> None:
    options = replace(OPTIONS, sop_class=sop_class, title=title)
    assert dciodvfy(build(found=ranking(count), options=options), tmp_path) == []


@pytest.mark.peer
@pytest.mark.parametrize("name", SAMPLE)
def test_dciodvfy_finds_no_fault_in_reports_on_any_image(name: str, tmp_path: Path) -> None:
    faults = dciodvfy(build(header(name)), tmp_path)
    assert [line for line in faults if not line.startswith("Warning")] == []


@pytest.mark.peer
def test_dciodvfy_finds_the_fault_of_a_broken_report(tmp_path: Path) -> None:
    broken = build()
    del broken.CompletionFlag
    assert any("CompletionFlag" in line for line in dciodvfy(broken, tmp_path))


@pytest.mark.peer
def test_dsrdump_prints_the_golden_tree(tmp_path: Path) -> None:
    path = tmp_path / "report.dcm"
    path.write_bytes(encoded(build()))
    run = subprocess.run(
        ["/usr/bin/dsrdump", "+Pc", "+Pl", "+Pt", str(path)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == 0, run.stderr
    if os.environ.get("UPDATE_GOLDEN") == "1":
        GOLDEN.write_text(run.stdout)
    assert run.stdout == GOLDEN.read_text()


def test_highdicom_reads_the_report_back(tmp_path: Path) -> None:
    path = tmp_path / "report.dcm"
    path.write_bytes(encoded(build()))
    content = highdicom.sr.srread(path).content
    groups = content.get_image_measurement_groups()
    scores = [
        group.get_measurements(name=Code(codes.SIMILARITY_SCORE.value, codes.SCHEME, ""))[0].value
        for group in groups
    ]
    assert scores == pytest.approx([0.88, 0.76, 0.64])
    assert [group.tracking_identifier for group in groups] == [
        "Similar case 1", "Similar case 2", "Similar case 3",
    ]  # fmt: skip


@pytest.mark.parametrize("count", [0, 3])
def test_ohif_can_load_the_report(count: int) -> None:
    document = read(build(found=ranking(count)))
    assert document.ConceptNameCodeSequence[0].CodeValue == "126000"
    children = {i.ConceptNameCodeSequence[0].CodeValue for i in document.ContentSequence}
    assert {codes.IMAGE_LIBRARY.value, codes.IMAGING_MEASUREMENTS.value} <= children
    groups = named(document, codes.MEASUREMENT_GROUP)
    assert len(groups) == count
    assert all(len(named(group, codes.TRACKING_UID)) == 1 for group in groups)
    (measurements,) = named(document, codes.IMAGING_MEASUREMENTS)
    numbers = [item for item in items(measurements) if item.ValueType == "NUM"]
    assert len(numbers) == 2 * count
    assert all(item.get("ContentSequence") for item in numbers)


def test_no_identifier_of_a_neighbour_is_in_the_file() -> None:
    found = ranking(20)
    content = encoded(build(found=found))
    assert header().PatientID.encode() in content  # the scan does find what is there
    for case in found.cases:
        for secret in (
            case.study_instance_uid, case.series_instance_uid, case.sop_instance_uid,
            case.patient_id, case.issuer_of_patient_id, case.study_description, case.study_date,
            case.patient_age,
        ):  # fmt: skip
            assert secret.encode() not in content


def test_every_image_referred_to_is_evidence_of_the_query_study() -> None:
    first, second = header(), header("MR_small.dcm")
    second.StudyInstanceUID = first.StudyInstanceUID
    document = build(first, second)
    referred = {
        item.ReferencedSOPSequence[0].ReferencedSOPInstanceUID
        for item in items(document)
        if item.ValueType == "IMAGE"
    }
    (study,) = document.CurrentRequestedProcedureEvidenceSequence
    assert study.StudyInstanceUID == document.StudyInstanceUID == first.StudyInstanceUID
    evident = {
        instance.ReferencedSOPInstanceUID
        for series in study.ReferencedSeriesSequence
        for instance in series.ReferencedSOPSequence
    }
    assert evident == referred == {first.SOPInstanceUID, second.SOPInstanceUID}
    assert len(study.ReferencedSeriesSequence) == 2
    assert "PertinentOtherEvidenceSequence" not in document


def test_the_same_arguments_give_the_same_bytes() -> None:
    assert encoded(build()) == encoded(build())


def test_building_does_not_change_the_query_images() -> None:
    image, untouched = header(), header()
    build(image)
    assert image == untouched


def test_the_clock_is_told_in_the_zone_of_the_study() -> None:
    image = header()
    image.TimezoneOffsetFromUTC = "-0500"
    document = build(image)
    assert (document.ContentDate, document.ContentTime) == ("20260304", "090607")
    assert document.TimezoneOffsetFromUTC == "-0500"
    del image.TimezoneOffsetFromUTC
    document = build(image)
    assert (document.ContentDate, document.ContentTime) == ("20260304", "150607")
    assert document.TimezoneOffsetFromUTC == "+0100"


def test_a_time_without_zone_is_refused() -> None:
    with pytest.raises(ValueError, match="time zone"):
        replace(IDENTITY, now=datetime(2026, 3, 4))


def test_a_report_says_which_one_it_supersedes() -> None:
    last = (SopClass.ENHANCED.value, "2.25.999")
    document = build(identity=replace(IDENTITY, predecessor=last, instance_number=2))
    (study,) = document.PredecessorDocumentsSequence
    (series,) = study.ReferencedSeriesSequence
    assert series.SeriesInstanceUID == IDENTITY.series_instance_uid
    superseded = series.ReferencedSOPSequence[0]
    assert (superseded.ReferencedSOPClassUID, superseded.ReferencedSOPInstanceUID) == last
    assert "PredecessorDocumentsSequence" not in build()


def test_the_order_is_referred_to_when_it_is_known() -> None:
    image = header()
    image.AccessionNumber = "ACC-1"
    attributes = Dataset()
    attributes.RequestedProcedureID = "RP-7"
    image.RequestAttributesSequence = [attributes]
    (request,) = build(image).ReferencedRequestSequence
    assert (request.AccessionNumber, request.RequestedProcedureID) == ("ACC-1", "RP-7")
    assert "ReferencedRequestSequence" not in build(header("MR_small.dcm"))


def test_every_bundled_image_can_be_reported_on() -> None:
    folders = (BUNDLED / "test_files", BUNDLED / "charset_files", Path(data_store.__file__).parent)
    reported = 0
    for path in (file for folder in folders for file in folder.rglob("*") if file.is_file()):
        try:
            image = dcmread(path, stop_before_pixels=True)
        except InvalidDicomError:
            continue
        if all(re.fullmatch("[0-9.]{1,64}", str(image.get(keyword))) for keyword in IDENTITY_UIDS):
            assert read(build(image, found=ranking(1))).StudyInstanceUID == image.StudyInstanceUID
            reported += 1
    assert reported > 150


def test_what_a_header_lacks_or_garbles_is_left_empty() -> None:
    image = header()
    for keyword in ("AccessionNumber", "StudyID", "PatientBirthDate", "StudyTime", "PatientName",
                    "FrameOfReferenceUID", "Modality", "Manufacturer", "Rows"):  # fmt: skip
        if keyword in image:
            del image[keyword]
    image.PatientSex = "X"
    document = build(image)
    for keyword in ("AccessionNumber", "StudyID", "PatientBirthDate", "StudyTime", "PatientSex"):
        assert not document[keyword].value
    assert "ContributingEquipmentSequence" not in document
    (library,) = named(document, codes.IMAGE_LIBRARY)
    assert not named(library, codes.FRAME_OF_REFERENCE_UID)
    assert named(library, codes.MODALITY)[0].ConceptCodeSequence[0].CodeValue == "OT"


def test_the_private_scheme_is_declared() -> None:
    (scheme,) = build().CodingSchemeIdentificationSequence
    assert scheme.CodingSchemeDesignator == codes.SCHEME
