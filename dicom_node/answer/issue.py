"""Issues reports: one per study and destination, a new one when the ranking moves.

The files, its own and those beside it, are durable before its row exists; the row and the job that
sends them are one transaction.
"""

from collections.abc import Callable, Mapping
from datetime import datetime
from pathlib import Path

import structlog
from pydicom import dcmread
from pydicom.dataset import Dataset
from pydicom.uid import UID

from dicom_node.answer.companions import Companions, Thumbnailer
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
from index.records import NewReport, Ranking, ReportedCase, ReportFile, ReportRow

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
        algorithm: Algorithm,
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
        self._algorithm = algorithm
        self._ae_title = ae_title
        self._clock = clock
        self._new_uid = new_uid
        self._companions = Companions(
            algorithm=algorithm,
            device_uid=installation.device_uid,
            thumbnailer=thumbnailer,
            find=self._find,
            new_uid=new_uid,
        )

    def issue(self, answered: Answered, destination: str) -> None:
        """Keep a report for `destination` and have it sent, unless the last one says the same."""
        study_id = answered.query.study_id
        last = self._catalogue.last_report(study_id, destination)
        if last is not None and _same_ranking(last, answered.ranking):
            return
        identity = self._identity(last)
        report, *beside = self._documents(answered, identity, self._destinations[destination])
        files = [self._keep(document) for document in (report, *beside)]
        self._catalogue.save_report(
            NewReport(
                study_id=study_id,
                destination=destination,
                sop_instance_uid=str(identity.sop_instance_uid),
                series_instance_uid=str(identity.series_instance_uid),
                relative_path=files[0].relative_path,
                model_id=answered.ranking.model_id,
                cases=tuple(
                    ReportedCase(case.rank, case.score, case.study_instance_uid)
                    for case in answered.ranking.cases
                ),
                attachments=tuple(files[1:]),
                predecessor=last.sop_instance_uid if last else "",
            )
        )
        log.info("report_issued", sop_instance_uid=identity.sop_instance_uid, to=destination)

    def paths(self, report: ReportRow) -> tuple[Path, ...]:
        """Return where the file of `report` lies, and those that go out beside it."""
        files = (report.relative_path, *(file.relative_path for file in report.attachments))
        return tuple(self._reports / file for file in files)

    def _documents(
        self, answered: Answered, identity: ReportIdentity, destination: Destination
    ) -> list[Dataset]:
        """Return the report, then what goes out beside it."""
        query, ranking = self._evidence(answered), answered.ranking
        report = build_report(
            query=query,
            ranking=ranking,
            algorithm=self._algorithm,
            options=ReportOptions(
                ae_title=self._ae_title,
                device_uid=self._installation.device_uid,
                title=destination.title,
            ),
            identity=identity,
            linked=self._linked(ranking) if destination.neighbours is Neighbours.LINKED else {},
        )
        beside = self._companions.beside(identity, destination, query=query, ranking=ranking)
        return [report, *beside]

    def _keep(self, document: Dataset) -> ReportFile:
        path = self._reports / f"{document.SOPInstanceUID}.dcm"
        write_durably(path, encode(document))
        return ReportFile(document.SOPInstanceUID, document.SOPClassUID, path.name)

    def _find(self, sop_instance_uid: str) -> Path | None:
        file = self._catalogue.instance_file(sop_instance_uid)
        return None if file is None else self._store.path(file.relative_path)

    def _linked(self, ranking: Ranking) -> dict[str, str]:
        """Return the SOP classes of the cases' images; those deleted meanwhile are left out."""
        files = [self._catalogue.instance_file(case.sop_instance_uid) for case in ranking.cases]
        return {file.sop_instance_uid: file.sop_class_uid for file in files if file is not None}

    def _predecessor(self, last: ReportRow | None) -> tuple[str, str] | None:
        """Return what the last report was sent as; none where its file is lost."""
        path = None if last is None else self._reports / last.relative_path
        if path is None or not path.exists():
            return None
        meta = dcmread(path, stop_before_pixels=True).file_meta
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
        """Return the headers of the query's key images: the middle one of every clip."""
        keys = tuple(row.sources[len(row.sources) // 2] for row in answered.query.rows)
        headers: dict[str, Dataset] = {}
        for uid in dict.fromkeys(keys):
            path = self._find(uid)
            if path is None:
                raise NotKnown("instance", uid, "it was deleted while its study was searched for")
            headers[uid] = read_evidence(path)
        return QueryEvidence(images=tuple(headers.values()), query_clip_image=keys)


def _same_ranking(last: ReportRow, ranking: Ranking) -> bool:
    """Whether the same studies stand in the same order: scores alone are no news."""
    return last.model_id == ranking.model_id and [
        case.study_instance_uid for case in last.cases
    ] == [case.study_instance_uid for case in ranking.cases]
