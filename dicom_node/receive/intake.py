"""Intake: one object in, kept and catalogued when the call returns.

The same door for a push over the network and for `similis import`. Success means that the bytes
and their row are on disk; everything after that is a job that can be repeated.
"""

from collections.abc import Callable
from typing import BinaryIO

import structlog
from pydicom.dataset import FileMetaDataset

from dicom_node import PRODUCT
from dicom_node.config import Lifecycle
from dicom_node.errors import BadIdentity, NotUnderstood, OutOfResources
from dicom_node.receive.header import PARSE_ERRORS, read_header, split_file, with_meta
from dicom_node.receive.lifecycle import quiet_rule
from dicom_node.receive.rejection import KEY_OBJECT_SELECTION, read_rejection
from dicom_node.receive.store import Store
from index.catalogue import Catalogue
from index.errors import CatalogueError, KeptElsewhere
from index.records import Header, QuietRule, Receipt, Recorded
from index.rejections import Rejects

log = structlog.get_logger()


class Intake:
    """Takes objects into the store and the catalogue; safe to call from several threads."""

    def __init__(self, store: Store, catalogue: Catalogue, lifecycle: Lifecycle) -> None:
        self._store = store
        self._catalogue = catalogue
        self._lifecycle = lifecycle

    def take(
        self,
        dataset: bytes,
        meta: FileMetaDataset,
        *,
        source: str,
        check: Callable[[Header], None] = lambda header: None,
        report: bool = True,
        asked_by: str = "",
    ) -> Receipt | None:
        """Keep an encoded dataset and catalogue it; None where nothing more is to be kept.

        That is a report of our own coming back and, with `asked_by`, the destination that sent it
        as a query, an instance of a kept study.
        `source` names the sender in the log, `check` may refuse the header before anything is
        kept; without `report` its study asks for none. Raises `ObjectRefused`; then nothing was
        acknowledged and nothing is lost.
        """
        header = read_header(dataset, str(meta.TransferSyntaxUID))
        check(header)
        rejects = None if asked_by else self._rejects(header, dataset)
        rule = quiet_rule(self._lifecycle, header.modality, report=report)
        try:
            if self._is_own_report(header):
                log.debug("own_report_ignored", sop_instance_uid=header.sop_instance_uid)
                return None
            if asked_by and self._is_kept(header, asked_by, rule):
                return None
            stored = self._store.write(dataset, with_meta(header, meta))
            recorded = self._catalogue.record(
                header, stored, rule, rejects=rejects, asked_by=asked_by
            )
            if not self._store.path(recorded.kept_path).exists():
                # Its study was forgotten between the two: file gone, row new.
                self._store.write(dataset, meta)
        except CatalogueError as error:
            log.error("catalogue_refused", reason=str(error))
            raise OutOfResources("the catalogue cannot keep it now") from error
        _log(header, recorded, rejects, source)
        return recorded.receipt

    def _is_own_report(self, header: Header) -> bool:
        return header.manufacturer == PRODUCT and self._catalogue.known_report(
            header.sop_instance_uid
        )

    def _is_kept(self, header: Header, asked_by: str, rule: QuietRule) -> bool:
        try:
            return self._catalogue.inquire_about_kept(header, asked_by, rule)
        except KeptElsewhere as error:
            reason = "the instance is kept as part of another study"
            raise BadIdentity(reason, keyword="SOPInstanceUID") from error

    def _rejects(self, header: Header, dataset: bytes) -> Rejects | None:
        if header.sop_class_uid != KEY_OBJECT_SELECTION:
            return None
        try:
            return read_rejection(dataset, header.transfer_syntax_uid, self._store.erase)
        except PARSE_ERRORS as error:  # a sequence that holds no items
            raise NotUnderstood("the rejection note cannot be read") from error

    def take_file(self, file: BinaryIO, *, source: str, report: bool = True) -> Receipt | None:
        """Keep a DICOM file as if it had been pushed; raises `ObjectRefused`, `OSError`."""
        meta, dataset = split_file(file)
        return self.take(dataset, meta, source=source, report=report)


def _log(header: Header, recorded: Recorded, rejects: Rejects | None, source: str) -> None:
    """Say what was kept, and what it changed beyond itself, without names."""
    event = "stored" if recorded.receipt is Receipt.NEW else recorded.receipt.value
    # Other bytes under a known UID are worth an operator's look; the rest is daily bread.
    emit = log.warning if recorded.receipt is Receipt.REPLACED else log.debug
    emit(event, sop_instance_uid=header.sop_instance_uid, source=source)
    if recorded.rekeyed:
        log.warning("patient_changed", study=header.study_instance_uid, source=source)
    if rejects is not None and recorded.receipt is not Receipt.DUPLICATE:
        log.warning(
            "instances_rejected",
            code=rejects.code,
            named=len(rejects.sop_instance_uids),
            found=recorded.rejected,
            source=source,
        )


def same_identity(sop_class_uid: str, sop_instance_uid: str) -> Callable[[Header], None]:
    """Return a check that the dataset is the object its C-STORE command announced (PS3.4 B.2.3)."""

    def check(header: Header) -> None:
        for keyword, announced, found in (
            ("SOPInstanceUID", sop_instance_uid, header.sop_instance_uid),
            ("SOPClassUID", sop_class_uid, header.sop_class_uid),
        ):
            if announced != found:
                raise BadIdentity(f"{keyword} is not the one announced", keyword=keyword)

    return check
