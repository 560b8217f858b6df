"""Intake: one object in, kept and catalogued when the call returns.

The same door for a push over the network and for `similis import`. Success means that the bytes
and their row are on disk, or a note that the row is to be made while a database server is away;
everything after that is a job that can be repeated.
"""

from collections.abc import Callable, Iterable
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
from dicom_node.receive.spool import Note, Spool
from dicom_node.receive.store import Store
from index.catalogue import Catalogue
from index.errors import CatalogueError, CatalogueFull, DatabaseUnavailable, KeptElsewhere
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
        spool: Spool | None = None,
    ) -> None:
        self._store = store
        self._catalogue = catalogue
        self._lifecycle = lifecycle
        self._rejection_notes = rejection_notes
        self._spool = spool

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

        That is a document of our own and, with `asked_by` (who sent it as a query), an instance of
        a kept study. `source` is for the log, `check` may refuse the header; without `report` no
        report is asked for. Raises `ObjectRefused`; then nothing was acknowledged or is lost.
        """
        header = read_header(dataset, str(meta.TransferSyntaxUID))
        check(header)
        self._check_turn(asked_by)
        if is_own(header, dataset):
            log.debug("own_report_ignored", sop_instance_uid=header.sop_instance_uid)
            return None
        rejects = None if asked_by else self._rejects(header, dataset)
        complete = with_meta(header, meta, guest=bool(asked_by))
        stored = self._store.write(dataset, complete)
        note = Note(stored.relative_path, source, report)
        spool = None if asked_by else self._spool
        if spool:  # those that wait come first
            return self._put(spool, note, dataset, complete)
        try:
            recorded = self._record(header, stored, note, rejects=rejects, asked_by=asked_by)
        except CatalogueError as error:
            log.error("catalogue_refused", reason=str(error))
            if spool is None or not _is_away(error):
                raise OutOfResources("the catalogue cannot keep it now") from error
            return self._put(spool, note, dataset, complete)
        if recorded is not None:
            self._keep(recorded.kept_path, dataset, complete)
        return None if recorded is None else recorded.receipt

    def _put(self, spool: Spool, note: Note, dataset: bytes, meta: FileMetaDataset) -> Receipt:
        receipt = spool.put(note)
        self._keep(note.relative_path, dataset, meta)
        return receipt

    def _keep(self, relative_path: str, dataset: bytes, meta: FileMetaDataset) -> None:
        """Write a file again that was forgotten, or erased as part of a query, before its row."""
        if not self._store.path(relative_path).exists():
            self._store.write(dataset, meta)

    def erase(self, relative_paths: Iterable[str]) -> None:
        """Remove files, but for those that wait to be catalogued: they were acknowledged."""
        if self._spool is None:
            self._store.erase(relative_paths)
            return
        with self._spool.standing() as waiting:
            self._store.erase(set(relative_paths) - waiting)

    def _check_turn(self, asked_by: str) -> None:
        """Let a query wait for what is not yet catalogued: it would erase the file as its own."""
        if asked_by and self._spool:
            raise OutOfResources("what came while the database was away is still to be catalogued")

    def make_up(self) -> bool:
        """Catalogue what was kept while the database was away; tell whether there was anything.

        Raises `DatabaseUnavailable` while it is away; what is left waits.
        """
        return self._spool is not None and self._spool.drain(self._take_up)

    def _take_up(self, note: Note) -> None:
        with self._store.path(note.relative_path).open("rb") as file:
            meta, dataset = split_file(file)
        header = read_header(dataset, str(meta.TransferSyntaxUID))
        stored = self._store.write(dataset, meta)
        self._record(header, stored, note, rejects=self._rejects(header, dataset), asked_by="")

    def _record(
        self,
        header: Header,
        stored: StoredFile,
        note: Note,
        *,
        rejects: Rejects | None,
        asked_by: str,
    ) -> Recorded | None:
        """Make the rows of a file, and say so."""
        rule = quiet_rule(self._lifecycle, header.modality, report=note.report)
        recorded: Recorded | None
        if asked_by:
            recorded = self._record_query(header, stored, rule, asked_by)
        else:
            recorded = self._catalogue.record(header, stored, rule, rejects=rejects)
        if recorded is not None:
            _log(header, recorded, rejects, note.source)
        return recorded

    def _record_query(
        self, header: Header, stored: StoredFile, rule: QuietRule, asked_by: str
    ) -> Recorded | None:
        erase = partial(self.erase, [stored.relative_path])
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
            return read_rejection(dataset, header.transfer_syntax_uid, self.erase)
        except PARSE_ERRORS as error:  # a sequence that holds no items
            raise NotUnderstood("the rejection note cannot be read") from error

    def take_file(self, file: BinaryIO, *, source: str, report: bool = True) -> Receipt | None:
        """Keep a DICOM file as if it had been pushed; raises `ObjectRefused`, `OSError`."""
        meta, dataset = split_file(file)
        return self.take(dataset, meta, source=source, report=report)


def _is_away(error: CatalogueError) -> bool:
    """Tell whether the database may be back soon, unlike one that is full."""
    return isinstance(error, DatabaseUnavailable) and not isinstance(error, CatalogueFull)


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
