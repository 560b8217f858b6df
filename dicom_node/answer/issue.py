"""Issues reports: one per study and destination, a new one when the ranking moves.

The files, its own and those beside it, are durable before its row exists; the row and the job that
sends them are one transaction.
"""

from collections.abc import Callable, Collection, Mapping, Sequence
from datetime import datetime
from pathlib import Path

import structlog
from pydicom import dcmread
from pydicom.dataset import Dataset, FileDataset
from pydicom.uid import UID

from dicom_node.answer.companions import Companions, Thumbnailer
from dicom_node.answer.evidence import text_of
from dicom_node.answer.modules import encode
from dicom_node.answer.query import Answered
from dicom_node.answer.report import (
    Algorithm,
    QueryEvidence,
    ReportIdentity,
    ReportOptions,
    build_report,
)
from dicom_node.config import Destination, Neighbours
from dicom_node.data_folder import Installation, write_durably
from dicom_node.errors import NotKnown
from dicom_node.receive.header import read_evidence
from dicom_node.receive.store import Store
from index.catalogue import Catalogue
from index.records import Ranking
from index.report_records import NewReport, ReportedCase, ReportFile, ReportRow, ReportState

log = structlog.get_logger()

# 99xx keeps the reports behind the modality's own series in every viewer's list.
_SERIES_NUMBER = 9901


class Issuer:
    """Builds, keeps and registers reports."""

    def __init__(
        self,
        *,
        catalogue: Catalogue,
        store: Store,
        reports: Path,
        installation: Installation,
        destinations: Mapping[str, Destination],
        thumbnailer: Thumbnailer,
        ae_title: str,
        clock: Callable[[], datetime],
        new_uid: Callable[[], UID],
    ) -> None:
        self._catalogue = catalogue
        self._store = store
        self._reports = reports
        self._installation = installation
        self._destinations = destinations
        self._ae_title = ae_title
        self._clock = clock
        self._new_uid = new_uid
        self._companions = Companions(
            device_uid=installation.device_uid,
            thumbnailer=thumbnailer,
            find=self._find,
            new_uid=new_uid,
        )

    def issue(self, answered: Answered, destination: str, algorithm: Algorithm) -> None:
        """Keep a report for `destination` and have it sent, unless the last one says the same.

        `algorithm` is what ranked the cases. Raises StudyChanged or UnknownKey when the study
        changed or was forgotten meanwhile.
        """
        last = self._catalogue.last_report(answered.query.study_id, destination)
        linked = self._destinations[destination].neighbours is Neighbours.LINKED
        if last is not None and last.linked is linked and _holds(last, answered.ranking):
            return
        query = self._evidence(answered)
        superseded = self._superseded(last, query)
        documents = self._documents(
            query,
            answered.ranking,
            self._identity(superseded),
            self._destinations[destination],
            algorithm,
        )
        report = NewReport(
            study_id=answered.query.study_id,
            revision=answered.query.revision,
            destination=destination,
            sop_instance_uid=str(documents[0].SOPInstanceUID),
            series_instance_uid=str(documents[0].SeriesInstanceUID),
            relative_path=self._path(documents[0]).name,
            model_id=answered.ranking.model_id,
            cases=_reported(answered.ranking),
            attachments=tuple(map(self._attachment, documents[1:])),
            predecessor=superseded.sop_instance_uid if superseded else "",
            linked=linked,
        )
        self._keep(report, documents)
        log.info("report_issued", sop_instance_uid=report.sop_instance_uid, to=destination)

    def paths(self, report: ReportRow) -> tuple[Path, ...]:
        """Return where the file of `report` lies, and those that go out beside it."""
        files = (report.relative_path, *(file.relative_path for file in report.attachments))
        return tuple(self._reports / file for file in files)

    def withdraw(self, report: ReportRow, sop_instance_uids: Collection[str]) -> None:
        """Let go of what the destination of a report does not take beside it."""
        self._catalogue.drop_attachments(report.id, sop_instance_uids)
        for file in report.attachments:
            if file.sop_instance_uid in sop_instance_uids:
                (self._reports / file.relative_path).unlink(missing_ok=True)
        log.warning("attachments_refused", objects=len(sop_instance_uids), to=report.destination)

    def new_uid(self) -> UID:
        """Return a UID that nothing has."""
        return self._new_uid()

    def _documents(
        self,
        query: QueryEvidence,
        ranking: Ranking,
        identity: ReportIdentity,
        destination: Destination,
        algorithm: Algorithm,
    ) -> list[Dataset]:
        """Return the report, then what goes out beside it."""
        report = build_report(
            query=query,
            ranking=ranking,
            algorithm=algorithm,
            options=ReportOptions(
                ae_title=self._ae_title,
                device_uid=self._installation.device_uid,
                title=destination.title,
            ),
            identity=identity,
            linked=self._linked(ranking) if destination.neighbours is Neighbours.LINKED else {},
        )
        beside = self._companions.beside(
            identity, destination, query=query, ranking=ranking, algorithm=algorithm
        )
        return [report, *beside]

    def _keep(self, report: NewReport, documents: Sequence[Dataset]) -> None:
        """Keep files and row, or neither; a crash between leaves files, which `check` finds."""
        try:
            for document in documents:
                write_durably(self._path(document), encode(document))
            self._catalogue.save_report(report)
        except BaseException:
            # An answer may have been lost, not the row; `DatabaseUnavailable` if none can tell.
            if self._catalogue.report_of(report.sop_instance_uid) is None:
                for document in documents:
                    self._path(document).unlink(missing_ok=True)
            raise

    def _attachment(self, document: Dataset) -> ReportFile:
        uid, sop_class = str(document.SOPInstanceUID), str(document.SOPClassUID)
        return ReportFile(uid, sop_class, self._path(document).name)

    def _path(self, document: Dataset) -> Path:
        return self._reports / f"{document.SOPInstanceUID}.dcm"

    def _find(self, sop_instance_uid: str) -> Path | None:
        file = self._catalogue.instance_file(sop_instance_uid)
        return None if file is None else self._store.path(file.relative_path)

    def _linked(self, ranking: Ranking) -> dict[str, str]:
        """Return the SOP classes of the cases' images; those deleted meanwhile are left out."""
        files = [self._catalogue.instance_file(case.sop_instance_uid) for case in ranking.cases]
        return {file.sop_instance_uid: file.sop_class_uid for file in files if file is not None}

    def _superseded(self, last: ReportRow | None, query: QueryEvidence) -> ReportRow | None:
        """Return the last report, unless it is on the patient whom the study belonged to before."""
        # Only a report that holds no longer can be on another patient.
        if last is None or last.state is not ReportState.OUTDATED:
            return last
        document = self._document(last)
        same = document is not None and _same_patient(document, query.images[0])
        return last if same else None

    def _document(self, report: ReportRow) -> FileDataset | None:
        """Return a report as it was sent; None where its file is lost."""
        path = self._reports / report.relative_path
        return dcmread(path, stop_before_pixels=True) if path.exists() else None

    def _predecessor(self, last: ReportRow | None) -> tuple[str, str] | None:
        """Return what the last report was sent as; none where its file is lost."""
        document = None if last is None else self._document(last)
        if document is None:
            return None
        meta = document.file_meta
        return meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID

    def _identity(self, last: ReportRow | None) -> ReportIdentity:
        """Return fresh UIDs; a document that follows another stays in its series."""
        return ReportIdentity(
            sop_instance_uid=self._new_uid(),
            series_instance_uid=UID(last.series_instance_uid) if last else self._new_uid(),
            series_number=_SERIES_NUMBER,
            instance_number=last.number + 1 if last else 1,
            now=self._clock(),
            secret=self._installation.secret,
            predecessor=self._predecessor(last),
        )

    def _evidence(self, answered: Answered) -> QueryEvidence:
        """Return the headers of the query's key images: of every clip and of the best parts."""
        keys = tuple(row.sources[len(row.sources) // 2] for row in answered.query.rows)
        parts = (case.query_part for case in answered.ranking.cases)
        best = (part.sop_instance_uid for part in parts if part is not None)
        headers: dict[str, Dataset] = {}
        for uid in dict.fromkeys((*keys, *best)):
            path = self._find(uid)
            if path is None:
                raise NotKnown("instance", uid, "it was deleted while its study was searched for")
            headers[uid] = read_evidence(path)
        return QueryEvidence(images=tuple(headers.values()), query_clip_image=keys)


def _holds(last: ReportRow, ranking: Ranking) -> bool:
    """Whether the same studies stand in the same order: scores alone are no news."""
    return (
        last.state is not ReportState.OUTDATED
        and last.model_id == ranking.model_id
        and [case.study_instance_uid for case in last.cases]
        == [case.study_instance_uid for case in ranking.cases]
    )


def _reported(ranking: Ranking) -> tuple[ReportedCase, ...]:
    return tuple(
        ReportedCase(case.rank, case.score, case.study_instance_uid) for case in ranking.cases
    )


def _same_patient(report: Dataset, image: Dataset) -> bool:
    """Whether both name one patient; an issuer counts where both have one."""
    issuers = {text_of(each, "IssuerOfPatientID") for each in (report, image)} - {""}
    return text_of(report, "PatientID") == text_of(image, "PatientID") and len(issuers) <= 1
