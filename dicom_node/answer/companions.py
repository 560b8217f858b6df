"""What goes out beside a report where its destination asks for it: contact sheet, PDF.

Owns their identities and their pictures. They show what the report says and refer to the query's
images, not to the report, so that it may change its SOP class without them.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import structlog
from pydicom.dataset import Dataset
from pydicom.uid import UID

from dicom_node.answer.contact_sheet import SIDE_PX, Tile, contact_sheet
from dicom_node.answer.evidence import QueryEvidence
from dicom_node.answer.modules import Identity
from dicom_node.answer.pdf import encapsulated_pdf
from dicom_node.answer.pseudonym import pseudonymous_uid
from dicom_node.answer.report import ReportIdentity
from dicom_node.answer.secondary_capture import secondary_capture
from dicom_node.answer.tree import Algorithm
from dicom_node.config import Destination
from dicom_node.errors import WorkerFailed
from dicom_node.receive.worker import Thumbnail
from index.parts import PartPlace
from index.records import Ranking

log = structlog.get_logger()

# 99xx keeps the documents behind the modality's own series in every viewer's list.
_SHEET_SERIES, _PDF_SERIES = 9902, 9903
_MOST_PAGES = 10  # of one sheet; its layout makes fewer
_GONE, _DAMAGED = "it is no longer kept", "it cannot be read"


class Thumbnailer(Protocol):
    """What decodes pictures: a worker, in a process of its own."""

    def thumbnail(
        self, path: Path, side_px: int, *, of_another: bool, part: PartPlace | None
    ) -> Thumbnail:
        """Return an instance, or a part of it, as a small picture; raises `WorkerFailed`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Companions:
    """Makes the documents of one installation; `find` returns the file of a kept instance."""

    device_uid: str
    thumbnailer: Thumbnailer
    find: Callable[[str], Path | None]
    new_uid: Callable[[], UID]

    def beside(
        self,
        report: ReportIdentity,
        destination: Destination,
        *,
        query: QueryEvidence,
        ranking: Ranking,
        algorithm: Algorithm,
    ) -> Iterator[Dataset]:
        """Yield what `destination` gets beside a report; nothing where no case was found."""
        if not (destination.contact_sheet or destination.pdf):
            return
        pages = contact_sheet(
            query, ranking, algorithm, secret=report.secret, picture=self._picture
        )
        if destination.contact_sheet:
            for number, page in enumerate(pages):
                yield secondary_capture(
                    page,
                    query=query,
                    algorithm=algorithm,
                    device_uid=self.device_uid,
                    identity=self._identity(report, _SHEET_SERIES, number),
                )
        if destination.pdf and pages:
            yield encapsulated_pdf(
                pages,
                query=query,
                algorithm=algorithm,
                device_uid=self.device_uid,
                identity=self._identity(report, _PDF_SERIES, 0),
            )

    def _identity(self, report: ReportIdentity, series_number: int, page: int) -> Identity:
        """Return a fresh UID in the series that all documents of a kind share beside a report."""
        series = f"series {series_number} beside {report.series_instance_uid}"
        return Identity(
            sop_instance_uid=self.new_uid(),
            series_instance_uid=pseudonymous_uid(report.secret, series),
            series_number=series_number,
            instance_number=report.instance_number * _MOST_PAGES + page,
            now=report.now,
        )

    def _picture(self, tile: Tile) -> Thumbnail:
        """Return what a tile shows; a picture that cannot be had is no reason to hold a report."""
        path = self.find(tile.sop_instance_uid)
        if path is None or not path.exists():
            return Thumbnail(b"", _GONE)
        try:
            return self.thumbnailer.thumbnail(
                path, SIDE_PX, of_another=tile.of_another, part=tile.part
            )
        except WorkerFailed as error:
            log.warning("not_pictured", sop_instance_uid=tile.sop_instance_uid, reason=error.reason)
            return Thumbnail(b"", _DAMAGED)
