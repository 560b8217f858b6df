"""Issues reports: one per study and destination, a new one when the ranking moves.

The file is durable before its row exists; the row and the job that sends it are one transaction.
"""

from collections.abc import Callable
from datetime import datetime
from io import BytesIO
from pathlib import Path

import structlog
from pydicom.dataset import Dataset
from pydicom.uid import UID

from dicom_node.answer.query import Answered
from dicom_node.answer.report import (
    Algorithm,
    QueryEvidence,
    ReportIdentity,
    ReportOptions,
    build_report,
)
from dicom_node.data_folder import Installation, write_durably
from dicom_node.errors import NotKnown
from dicom_node.receive.header import read_evidence
from dicom_node.receive.store import Store
from index.catalogue import Catalogue
from index.records import NewReport, Ranking, ReportedCase, ReportRow, ReportState

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
        algorithm: Algorithm,
        ae_title: str,
        clock: Callable[[], datetime],
        new_uid: Callable[[], UID],
    ) -> None:
        self._catalogue = catalogue
        self._store = store
        self._reports = reports
        self._installation = installation
        self._algorithm = algorithm
        self._options = ReportOptions(ae_title=ae_title, device_uid=installation.device_uid)
        self._clock = clock
        self._new_uid = new_uid

    def issue(self, answered: Answered, destination: str) -> None:
        """Keep a report for `destination` and have it sent, unless the last one says the same."""
        study_id = answered.query.study_id
        last = self._catalogue.last_report(study_id, destination)
        holds = last is not None and last.state is not ReportState.OUTDATED
        if last is not None and holds and _same_ranking(last, answered.ranking):
            return
        identity = self._identity(last)
        document = build_report(
            query=self._evidence(answered),
            ranking=answered.ranking,
            algorithm=self._algorithm,
            options=self._options,
            identity=identity,
        )
        path = self._reports / f"{identity.sop_instance_uid}.dcm"
        write_durably(path, encode(document))
        self._catalogue.save_report(
            NewReport(
                study_id=study_id,
                destination=destination,
                sop_instance_uid=str(identity.sop_instance_uid),
                series_instance_uid=str(identity.series_instance_uid),
                relative_path=path.name,
                model_id=answered.ranking.model_id,
                cases=tuple(
                    ReportedCase(case.rank, case.score, case.study_instance_uid)
                    for case in answered.ranking.cases
                ),
                predecessor=last.sop_instance_uid if last else "",
            )
        )
        log.info("report_issued", sop_instance_uid=identity.sop_instance_uid, to=destination)

    def paths(self, report: ReportRow) -> tuple[Path, ...]:
        """Return where the file of `report` lies, and those that go out beside it."""
        files = (report.relative_path, *(file.relative_path for file in report.attachments))
        return tuple(self._reports / file for file in files)

    def new_uid(self) -> UID:
        """Return a UID that nothing has."""
        return self._new_uid()

    def _identity(self, last: ReportRow | None) -> ReportIdentity:
        """Return fresh UIDs; a document that follows another stays in its series."""
        return ReportIdentity(
            sop_instance_uid=self._new_uid(),
            series_instance_uid=UID(last.series_instance_uid) if last else self._new_uid(),
            series_number=_SERIES_NUMBER,
            instance_number=last.number + 1 if last else 1,
            now=self._clock(),
            secret=self._installation.secret,
            predecessor=(last.sop_instance_uid,) if last else None,
        )

    def _evidence(self, answered: Answered) -> QueryEvidence:
        """Return the headers of the query's key images: the middle one of every clip."""
        keys = tuple(row.sources[len(row.sources) // 2] for row in answered.query.rows)
        headers: dict[str, Dataset] = {}
        for uid in dict.fromkeys(keys):
            file = self._catalogue.instance_file(uid)
            if file is None:
                raise NotKnown("instance", uid, "it was deleted while its study was searched for")
            path = self._store.path(file.relative_path)
            headers[uid] = read_evidence(path)
        return QueryEvidence(images=tuple(headers.values()), query_clip_image=keys)


def encode(document: Dataset) -> bytes:
    """Return the DICOM file of `document`."""
    buffer = BytesIO()
    document.save_as(buffer, enforce_file_format=True)
    return buffer.getvalue()


def _same_ranking(last: ReportRow, ranking: Ranking) -> bool:
    """Whether the same studies stand in the same order: scores alone are no news."""
    return last.model_id == ranking.model_id and [
        case.study_instance_uid for case in last.cases
    ] == [case.study_instance_uid for case in ranking.cases]
