"""The files of guests: written before their rows, gone after them, whatever stands in the way."""

from collections.abc import Callable, Iterator, MutableMapping
from dataclasses import replace
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest
from catalogues import Clock
from pydicom import dcmread
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import UID

from dicom_node.config import Config
from dicom_node.errors import BadIdentity
from dicom_node.operate.check import Finding, Trouble, check
from dicom_node.operate.forget import Guests, forget_guests
from dicom_node.operate.repair import repair
from dicom_node.parts import Parts, open_parts
from dicom_node.receive.header import split_file
from dicom_node.receive.intake import Intake
from dicom_node.receive.spool import Note, Spool
from dicom_node.receive.store import Store
from index.jobs import JobKind
from index.records import Receipt, StoredFile
from training import phantoms

NewUid = Callable[[], str]
Events = list[MutableMapping[str, Any]]
WAITS = Note("00/other.dcm", "PACS", report=True)
QUICK = {"series_quiet_s": 0.0, "study_quiet_s": 0.0, "quiet_s_by_modality": {}}


@pytest.fixture
def parts(tmp_path: Path, clock: Clock) -> Iterator[Parts]:
    settings = {"data": tmp_path / "data", "lifecycle": QUICK, "answer": {"guest_minutes": 0}}
    parts = open_parts(Config.model_validate(settings), clock=clock)
    yield parts
    parts.close()


@pytest.fixture
def images(tmp_path: Path, new_uid: NewUid) -> list[Dataset]:
    """Return two studies of one image each."""
    return [
        dcmread(phantoms.still(tmp_path / str(number), new_uid=new_uid, size=(64, 48)))
        for number in range(2)
    ]


class Meddled(Store):
    """A store after each write of which something happens."""

    def __init__(self, folder: Path, then: Callable[[], object]) -> None:
        super().__init__(folder)
        self._then = then

    def write(self, dataset: bytes, meta: FileMetaDataset) -> StoredFile:
        stored = super().write(dataset, meta)
        self._then()
        return stored


def meddled(parts: Parts, then: Callable[[], object]) -> Intake:
    """Return an intake to which something happens between file and row."""
    return Intake(Meddled(parts.folder.store, then), parts.catalogue, parts.config.lifecycle)


def take(intake: Intake, image: Dataset, *, asked_by: str = "") -> Receipt | None:
    meta, dataset = split_file(BytesIO(_bytes(image)))
    return intake.take(dataset, meta, source="test", asked_by=asked_by)


def another(image: Dataset, new_uid: NewUid) -> Dataset:
    """Return another image of the same series."""
    copy = dcmread(BytesIO(_bytes(image)))
    copy.SOPInstanceUID = copy.file_meta.MediaStorageSOPInstanceUID = UID(new_uid())
    return copy


def _bytes(image: Dataset) -> bytes:
    file = BytesIO()
    image.save_as(file)
    return file.getvalue()


def files(parts: Parts) -> set[Path]:
    return set(parts.folder.store.glob("??/*.dcm"))


def answer(parts: Parts, images: list[Dataset]) -> None:
    """Take the images in as guests, and pass over them: there is nothing left to answer."""
    for image in images:
        assert take(parts.intake, image, asked_by="ward") is Receipt.NEW
    parts.catalogue.close_quiet(force=True)
    for series_id in range(1, len(images) + 1):
        parts.catalogue.skip(series_id, 1, "nothing to embed")
    parts.catalogue.close_inquiries(force=True)
    for kind in JobKind:
        while job := parts.jobs.claim([kind], "tester", 60):
            parts.jobs.finish(job)


def test_a_guest_forgotten_during_a_long_read_leaves_the_log_when_it_is_over(
    parts: Parts, images: list[Dataset], clock: Clock
) -> None:
    answer(parts, images)
    guests = Guests(parts)
    log = parts.folder.root / "catalogue.sqlite-wal"
    with parts.catalogue.reading() as reader:
        reader.exec_driver_sql("SELECT count(*) FROM study").scalar_one()
        guests.forget_due()
    assert parts.catalogue.counts().guests == 0
    assert log.stat().st_size > 0

    clock.advance(60)
    guests.forget_due()
    assert log.stat().st_size == 0


def test_a_guest_whose_file_cannot_be_removed_does_not_keep_the_others(
    parts: Parts, images: list[Dataset], events: Events, clock: Clock
) -> None:
    answer(parts, images)
    stuck = images[0]
    (kept,) = parts.catalogue.series_files(1).files
    path = parts.store.path(kept.relative_path)
    content = path.read_bytes()
    path.unlink()
    path.mkdir()  # nobody can unlink a folder, not even root

    forget_guests(parts)
    forget_guests(parts)

    assert parts.catalogue.counts().guests == 1
    assert parts.catalogue.study_row(str(stuck.StudyInstanceUID)) is not None
    failed = [line for line in events if line["event"] == "guest_not_forgotten"]
    assert [line["study"] for line in failed] == [stuck.StudyInstanceUID]

    path.rmdir()
    path.write_bytes(content)
    clock.advance(3600)
    forget_guests(parts)
    assert parts.catalogue.counts().guests == 0
    assert files(parts) == set()


def test_a_study_that_becomes_kept_while_it_is_sent_as_a_query_is_only_asked_about(
    parts: Parts, images: list[Dataset], new_uid: NewUid
) -> None:
    image = images[0]
    query = meddled(parts, lambda: take(parts.intake, image))

    assert take(query, another(image, new_uid), asked_by="ward") is None

    row = parts.catalogue.study_row(str(image.StudyInstanceUID))
    assert row is not None
    assert row.instances == 1
    assert parts.catalogue.counts().guests == 0
    assert len(files(parts)) == 1, "what was sent as a query is not kept"
    parts.catalogue.close_quiet(force=True)
    parts.catalogue.skip(1, 1, "nothing to embed")
    assert parts.catalogue.close_inquiries(force=True) == 1


def test_the_same_bytes_that_become_kept_while_they_are_sent_as_a_query_stay(
    parts: Parts, images: list[Dataset]
) -> None:
    query = meddled(parts, lambda: take(parts.intake, images[0]))

    assert take(query, images[0], asked_by="ward") is None

    assert len(files(parts)) == 1
    assert parts.catalogue.counts().instances == 1


def test_an_instance_that_becomes_kept_elsewhere_is_refused_as_part_of_a_query(
    parts: Parts, images: list[Dataset]
) -> None:
    guest, kept = images
    kept.SOPInstanceUID = guest.SOPInstanceUID
    query = meddled(parts, lambda: take(parts.intake, kept))

    with pytest.raises(BadIdentity, match="kept as part of another study"):
        take(query, guest, asked_by="ward")

    assert parts.catalogue.study_row(str(guest.StudyInstanceUID)) is None
    assert len(files(parts)) == 1


def test_what_is_spooled_while_the_same_is_sent_as_a_query_stays(
    parts: Parts, images: list[Dataset], new_uid: NewUid
) -> None:
    """Its study is kept: of the query's file the catalogue knows nothing."""
    assert take(parts.intake, another(images[0], new_uid)) is Receipt.NEW
    spool = Spool(parts.folder.spool)

    def push() -> None:
        spool.put(WAITS)
        assert take(spooling(parts, spool, lambda: None), images[0]) is Receipt.NEW

    assert take(spooling(parts, spool, push), images[0], asked_by="ward") is None

    assert len(files(parts)) == 2
    assert parts.catalogue.counts().instances == 1


def test_a_file_that_a_query_erased_before_its_note_is_written_again(
    parts: Parts, images: list[Dataset]
) -> None:
    spool = Spool(parts.folder.spool)
    spool.put(WAITS)

    def erase() -> None:
        for path in files(parts) - erased:
            erased.add(path)
            path.unlink()

    erased: set[Path] = set()
    assert take(spooling(parts, spool, erase), images[0]) is Receipt.NEW

    assert files(parts) == erased
    assert len(spool.waiting()) == 2


def test_what_waits_for_its_row_outlives_the_guest_that_it_was(
    parts: Parts, images: list[Dataset], clock: Clock
) -> None:
    answer(parts, images[:1])
    (path,) = files(parts)
    spool = Spool(parts.folder.spool)
    spool.put(replace(WAITS, relative_path=str(path.relative_to(parts.folder.store))))

    forget_guests(replace(parts, intake=spooling(parts, spool, lambda: None)))

    assert parts.catalogue.counts().guests == 0
    assert path.exists()


def spooling(parts: Parts, spool: Spool, then: Callable[[], object]) -> Intake:
    """Return an intake with a spool, to which something happens between file and row."""
    store = Meddled(parts.folder.store, then)
    return Intake(store, parts.catalogue, parts.config.lifecycle, spool=spool)


class PowerFailure(Exception):
    """The node ends here."""


def fail() -> None:
    raise PowerFailure


@pytest.mark.parametrize("asked_by", ["ward", ""])
def test_a_file_without_a_row_is_taken_in_by_repair_unless_it_was_sent_as_a_query(
    parts: Parts, images: list[Dataset], asked_by: str
) -> None:
    with pytest.raises(PowerFailure):
        take(meddled(parts, fail), images[0], asked_by=asked_by)
    (orphan,) = files(parts)

    (finding,) = findings(parts)
    done = repair(parts, finding).what

    assert finding.subject == str(orphan.relative_to(parts.folder.store))
    if asked_by:
        assert finding.trouble is Trouble.FILE_OF_GUEST
        assert "`similis import` takes it in" in done
        assert (parts.catalogue.counts().instances, findings(parts)) == (0, [finding])
    else:
        assert done == "taken in"
        assert (parts.catalogue.counts().instances, findings(parts)) == (1, [])


@pytest.mark.parametrize("senders", [("ward", ""), ("", "ward")])
def test_a_file_that_was_kept_too_is_taken_in_by_repair(
    parts: Parts, images: list[Dataset], senders: tuple[str, str]
) -> None:
    for asked_by in senders:
        with pytest.raises(PowerFailure):
            take(meddled(parts, fail), images[0], asked_by=asked_by)
    (orphan,) = files(parts)

    (finding,) = findings(parts)

    assert repair(parts, finding).what == "taken in"
    assert (parts.catalogue.counts().instances, findings(parts)) == (1, [])
    assert split_file(BytesIO(orphan.read_bytes()))[1] == split_file(BytesIO(_bytes(images[0])))[1]


def test_a_file_with_a_damaged_head_does_not_keep_its_image_from_being_sent_again(
    parts: Parts, images: list[Dataset]
) -> None:
    take(parts.intake, images[0])
    (kept,) = files(parts)
    kept.write_bytes(b"torn")

    assert take(parts.intake, images[0]) is Receipt.DUPLICATE


def findings(parts: Parts) -> list[Finding]:
    return list(check(parts, lambda number: None, read=True))
