"""Intake: one object in, kept and catalogued when the call returns.

The same door for a push over the network and for `similis import`. Success means that the bytes
and their row are on disk; everything after that is a job that can be repeated.
"""

from collections.abc import Callable
from functools import partial
from typing import BinaryIO

import structlog
from pydicom.dataset import FileMetaDataset

from dicom_node.config import Lifecycle
from dicom_node.errors import BadIdentity, NotUnderstood, OutOfResources
from dicom_node.receive.header import PARSE_ERRORS, read_header, split_file, with_meta
from dicom_node.receive.lifecycle import quiet_rule
from dicom_node.receive.own import is_own
from dicom_node.receive.rejection import KEY_OBJECT_SELECTION, read_rejection
from dicom_node.receive.store import Store
from index.catalogue import Catalogue
from index.errors import CatalogueError, KeptElsewhere
from index.records import Header, QuietRule, Receipt, Recorded, StoredFile
from index.rejections import Rejects

log = structlog.get_logger()


class Intake:
    """Takes objects into the store and the catalogue; safe to call from several threads."""

    def __init__(
        self,
        store: Store,
        catalogue: Catalogue,
        lifecycle: Lifecycle,
        *,
        rejection_notes: bool = True,
    ) -> None:
        self._store = store
        self._catalogue = catalogue
        self._lifecycle = lifecycle
        self._rejection_notes = rejection_notes

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

        That is a document of our own coming back and, with `asked_by`, the destination that sent
        it as a query, an instance of a kept study.
        `source` names the sender in the log, `check` may refuse the header before anything is
        kept; without `report` its study asks for none. Raises `ObjectRefused`; then nothing was
        acknowledged and nothing is lost.
        """
        header = read_header(dataset, str(meta.TransferSyntaxUID))
        check(header)
        if is_own(header, dataset):
            log.debug("own_report_ignored", sop_instance_uid=header.sop_instance_uid)
            return None
        rejects = None if asked_by else self._rejects(header, dataset)
        rule = quiet_rule(self._lifecycle, header.modality, report=report)
        complete = with_meta(header, meta, guest=bool(asked_by))
        try:
            stored = self._store.write(dataset, complete)
            recorded = self._record(header, stored, rule, rejects=rejects, asked_by=asked_by)
            if recorded is None:
                return None
            if not self._store.path(recorded.kept_path).exists():
                # Forgotten, or erased as part of a query, between the two: file gone, row new.
                self._store.write(dataset, complete)
        except CatalogueError as error:
            log.error("catalogue_refused", reason=str(error))
            raise OutOfResources("the catalogue cannot keep it now") from error
        _log(header, recorded, rejects, source)
        return recorded.receipt

    def _record(
        self,
        header: Header,
        stored: StoredFile,
        rule: QuietRule,
        *,
        rejects: Rejects | None,
        asked_by: str,
    ) -> Recorded | None:
        if not asked_by:
            return self._catalogue.record(header, stored, rule, rejects=rejects)
        erase = partial(self._store.erase, [stored.relative_path])
        try:
            return self._catalogue.record_query(
                header, stored, rule, asked_by=asked_by, erase=erase
            )
        except KeptElsewhere as error:
            reason = "the instance is kept as part of another study"
            raise BadIdentity(reason, keyword="SOPInstanceUID") from error

    def _rejects(self, header: Header, dataset: bytes) -> Rejects | None:
        if not self._rejection_notes or header.sop_class_uid != KEY_OBJECT_SELECTION:
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
    if recorded.stays_out:
        log.warning(
            "rejected_instance_stays_out", sop_instance_uid=header.sop_instance_uid, source=source
        )
    if recorded.rekeyed:
        log.warning("patient_changed", study=header.study_instance_uid, source=source)
    if rejects is not None and recorded.receipt is not Receipt.DUPLICATE:
        log.warning(
            "instances_rejected",
            code=rejects.code,
            named=len(rejects.instances),
            found=recorded.rejected,
            foreign=recorded.foreign,  # of another study or patient: not believed
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
