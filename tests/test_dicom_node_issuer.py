"""Reports while they are written: the study changes, the patient changes, the destination changes.

The studies are real files in a real catalogue; their vectors are made up.
"""

from collections.abc import Callable, Iterator
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from pydicom import dcmread
from pydicom.dataset import Dataset
from pydicom.uid import UID

from dicom_node.answer.issue import Issuer
from dicom_node.answer.query import Filters, similar_to_study
from dicom_node.answer.report import Algorithm
from dicom_node.config import Config
from dicom_node.operate.check import Finding, Trouble, check
from dicom_node.operate.repair import Outcome, repair
from dicom_node.parts import Parts, open_parts, utc_now
from dicom_node.receive.worker import Thumbnail
from index.errors import CatalogueError, StudyChanged, UnknownKey
from index.generation import Made
from index.parts import PartPlace
from index.records import ClipRecord
from index.report_records import ReportRow, ReportState
from index.search import Search
from index.vectors import ExactIndex
from training import phantoms

MODEL, DIM = "0123456789abcdef", 8
UNIT = np.eye(1, DIM, dtype=np.float32)
NewUid = Callable[[], str]
ALGORITHM = Algorithm(
    name="Similis", version="test", manufacturer="Similis", parameters=(), trained=False
)


class NoPictures:
    """Decodes nothing: a contact sheet says so in its place."""

    def thumbnail(
        self, path: Path, side_px: int, *, of_another: bool, part: PartPlace | None
    ) -> Thumbnail:
        return Thumbnail(b"", "not shown")


class Desk:
    """A data folder with two indexed studies, and an issuer of reports on the first."""

    def __init__(self, folder: Path, new_uid: NewUid) -> None:
        self.new_uid = new_uid
        self.data = folder / "data"
        self.meanwhile: Callable[[], object] = lambda: None  # before the report has its UID
        self.parts = self.open()
        self.path = self.still(folder / "query", "QUERY")
        self.study = str(dcmread(self.path).StudyInstanceUID)
        self.index = ExactIndex(model_id=MODEL, dim=DIM)
        for path in (self.path, self.still(folder / "other", "OTHER")):
            self.take(path)
        self.embed()

    def open(self, **destination: object) -> Parts:
        pacs = {"ae_title": "PACS", "host": "127.0.0.1", "port": 1} | destination
        return open_parts(
            Config.model_validate({"data": self.data, "destinations": {"pacs": pacs}})
        )

    def configure(self, **destination: object) -> None:
        """Open the folder again with another configuration of the destination."""
        self.parts.close()
        self.parts = self.open(**destination)

    def still(self, folder: Path, patient_id: str) -> Path:
        return phantoms.still(folder, new_uid=self.new_uid, size=(64, 48), patient_id=patient_id)

    def take(self, source: Path | Dataset) -> None:
        if isinstance(source, Path):
            source = dcmread(source)
        file = BytesIO()
        source.save_as(file)
        file.seek(0)
        self.parts.intake.take_file(file, source="test")

    def embed(self) -> None:
        """Give every series a vector, as an encoder would."""
        catalogue = self.parts.catalogue
        made = Made(model_id=MODEL, name="none", version="none", trained=False, dim=DIM)
        catalogue.adopt_generation(made)
        catalogue.close_quiet(force=True)
        for series_id in range(1, 3):
            files = catalogue.series_files(series_id)
            sources = tuple(file.sop_instance_uid for file in files.files)
            clip = ClipRecord("still", 1, sources, UNIT[0])
            ids = catalogue.save_clips(series_id, files.revision, MODEL, [clip])
            self.index.add(np.array(ids), UNIT)
            catalogue.mark_indexed(series_id, files.revision)

    def uid(self) -> UID:
        self.meanwhile()
        return UID(self.new_uid())

    def issue(self) -> ReportRow | None:
        """Write a report on the study; return the newest."""
        parts = self.parts
        issuer = Issuer(
            catalogue=parts.catalogue,
            store=parts.store,
            reports=parts.folder.reports,
            installation=parts.folder.installation(),
            destinations=parts.config.destinations,
            thumbnailer=NoPictures(),
            ae_title="SIMILIS",
            clock=utc_now,
            new_uid=self.uid,
        )
        search = Search(parts.catalogue, self.index)
        answered = similar_to_study(parts.catalogue, search, self.study, Filters(k=3))
        assert answered is not None
        issuer.issue(answered, "pacs", ALGORITHM)
        return self.last(answered.query.study_id)

    def last(self, study_id: int = 1) -> ReportRow | None:
        return self.parts.catalogue.last_report(study_id, "pacs")

    def files(self) -> set[str]:
        return {path.name for path in self.parts.folder.reports.iterdir()}

    def document(self, row: ReportRow | None) -> Dataset:
        assert row is not None
        return dcmread(self.parts.folder.reports / row.relative_path)

    def corrected(self, patient_id: str) -> Dataset:
        """Return the image of the study as it is sent again for another patient."""
        image = dcmread(self.path)
        image.PatientID = patient_id
        return image


@pytest.fixture
def desk(tmp_path: Path, new_uid: NewUid) -> Iterator[Desk]:
    desk = Desk(tmp_path, new_uid)
    yield desk
    desk.parts.close()


def send_a_late_instance(desk: Desk) -> None:
    late = dcmread(desk.path)
    late.SOPInstanceUID = UID(desk.new_uid())
    late.file_meta.MediaStorageSOPInstanceUID = late.SOPInstanceUID
    desk.take(late)


def send_it_for_another_patient(desk: Desk) -> None:
    desk.take(desk.corrected("MERGED"))


def forget_it(desk: Desk) -> None:
    desk.parts.catalogue.forget_study(desk.study, lambda kept: None)


@pytest.mark.parametrize(
    ("happens", "refusal"),
    [
        (send_a_late_instance, StudyChanged),
        (send_it_for_another_patient, StudyChanged),
        (forget_it, UnknownKey),
    ],
)
def test_a_report_whose_study_changes_while_it_is_written_is_not_kept_and_leaves_no_file(
    desk: Desk, happens: Callable[[Desk], None], refusal: type[CatalogueError]
) -> None:
    def once() -> None:
        desk.meanwhile = lambda: None
        happens(desk)

    desk.meanwhile = once

    with pytest.raises(refusal):
        desk.issue()

    assert desk.last() is None
    assert desk.files() == set()


def test_a_report_that_was_overtaken_is_written_the_next_time(desk: Desk) -> None:
    desk.meanwhile = lambda: send_a_late_instance(desk)
    with pytest.raises(StudyChanged):
        desk.issue()

    desk.meanwhile = lambda: None
    row = desk.issue()

    assert row is not None
    assert row.state is ReportState.CREATED
    assert desk.files() == {row.relative_path, *(file.relative_path for file in row.attachments)}


def test_a_report_for_another_patient_begins_a_series_and_has_no_predecessor(desk: Desk) -> None:
    first = desk.document(desk.issue())
    desk.take(desk.corrected("MERGED"))
    desk.embed()

    row = desk.issue()
    second = desk.document(row)

    assert (first.PatientID, second.PatientID) == ("QUERY", "MERGED")
    assert second.SeriesInstanceUID != first.SeriesInstanceUID
    assert "PredecessorDocumentsSequence" not in second
    assert row is not None
    assert row.predecessor == ""


def test_a_report_on_the_same_patient_stays_in_its_series_and_names_its_predecessor(
    desk: Desk,
) -> None:
    first = desk.document(desk.issue())
    row = desk.last()
    assert row is not None
    desk.parts.catalogue.move_report(row.id, ReportState.OUTDATED)

    second = desk.document(desk.issue())

    assert second.SeriesInstanceUID == first.SeriesInstanceUID
    (study,) = second.PredecessorDocumentsSequence
    (named,) = study.ReferencedSeriesSequence[0].ReferencedSOPSequence
    assert named.ReferencedSOPInstanceUID == first.SOPInstanceUID


@pytest.mark.parametrize(("before", "after"), [("linked", "opaque"), ("opaque", "linked")])
def test_a_destination_that_is_configured_otherwise_gets_a_report_that_names_cases_so(
    desk: Desk, before: str, after: str
) -> None:
    desk.configure(neighbours=before)
    first = desk.document(desk.issue())
    assert ("PertinentOtherEvidenceSequence" in first) is (before == "linked")

    desk.configure(neighbours=after)
    second = desk.document(desk.issue())

    assert second.SOPInstanceUID != first.SOPInstanceUID
    assert ("PertinentOtherEvidenceSequence" in second) is (after == "linked")


def test_check_names_reports_without_file_and_files_without_report_and_deletes_nothing(
    desk: Desk,
) -> None:
    row = desk.issue()
    assert row is not None and row.attachments
    assert findings(desk) == []
    reports = desk.parts.folder.reports
    (reports / row.relative_path).unlink()
    (reports / row.attachments[0].relative_path).rename(reports / "orphan.dcm")

    found = findings(desk)

    assert {(each.trouble, each.subject) for each in found} == {
        (Trouble.REPORT_UNKNOWN, "orphan.dcm"),
        (Trouble.REPORT_MISSING, row.relative_path),
        (Trouble.REPORT_MISSING, row.attachments[0].relative_path),
    }
    outcomes = {each.subject: repair(desk.parts, each).outcome for each in found}
    assert outcomes["orphan.dcm"] is Outcome.LEFT
    assert set(outcomes.values()) == {Outcome.LEFT, Outcome.REPAIRED}, "another is asked for once"
    assert findings(desk) == found
    assert desk.last().state is ReportState.OUTDATED  # type: ignore[union-attr]
    again = desk.issue()
    assert again is not None and again.sop_instance_uid != row.sop_instance_uid


def test_a_report_that_comes_or_goes_while_check_looks_is_no_finding(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    row = desk.issue()
    assert row is not None
    catalogue, reports = desk.parts.catalogue, desk.parts.folder.reports
    look = catalogue.report_files
    files = look()
    written = "written.dcm"
    (reports / written).touch()
    (reports / row.relative_path).unlink()
    looks = iter([files, tuple({*files, written} - {row.relative_path})])
    monkeypatch.setattr(catalogue, "report_files", lambda: next(looks))

    assert findings(desk) == []


def findings(desk: Desk) -> list[Finding]:
    found = check(desk.parts, lambda number: None)
    return [each for each in found if each.trouble.name.startswith(("FILE", "REPORT"))]
