"""The files of guests: written before their rows, gone after them, whatever stands in the way."""

from collections.abc import Callable, Iterator, MutableMapping
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest
from catalogues import Clock
from pydicom import dcmread
from pydicom.dataset import Dataset
from pydicom.uid import UID

from dicom_node.config import Config
from dicom_node.errors import BadIdentity, OutOfResources
from dicom_node.operate.forget import forget_guests
from dicom_node.parts import Parts, open_parts
from dicom_node.receive.header import split_file
from index.jobs import JobKind
from index.records import Receipt
from training import phantoms

NewUid = Callable[[], str]
Events = list[MutableMapping[str, Any]]
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


def take(parts: Parts, image: Dataset, *, asked_by: str = "") -> Receipt | None:
    file = BytesIO()
    image.save_as(file)
    file.seek(0)
    meta, dataset = split_file(file)
    return parts.intake.take(dataset, meta, source="test", asked_by=asked_by)


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
        assert take(parts, image, asked_by="ward") is Receipt.NEW
    parts.catalogue.close_quiet(force=True)
    for series_id in range(1, len(images) + 1):
        parts.catalogue.skip(series_id, 1, "nothing to embed")
    parts.catalogue.close_inquiries(force=True)
    for kind in JobKind:
        while job := parts.jobs.claim([kind], "tester", 60):
            parts.jobs.finish(job)


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
