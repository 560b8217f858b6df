"""The steps of the route, one by one."""

from pathlib import Path

import pytest

from dicom_node.config import Config, Encoding
from dicom_node.generation import Generation
from dicom_node.parts import open_parts
from dicom_node.pipeline import EmbedStep
from dicom_node.receive.worker import Worker
from index.errors import UnknownKey
from index.jobs import Job, JobKind
from training import phantoms


def test_a_job_that_fails_before_its_series_is_known_puts_no_other_aside(tmp_path: Path) -> None:
    encoder = Encoding(device="cpu", threads=1)
    parts = open_parts(Config(data=tmp_path / "data", encoder=encoder))
    still = phantoms.still(tmp_path, new_uid=phantoms.uid_source(1), size=(64, 48))
    with still.open("rb") as file:
        parts.intake.take_file(file, source="test")
    parts.catalogue.close_quiet(force=True)
    worker = Worker(encoder)
    step = EmbedStep(
        worker,
        catalogue=parts.catalogue,
        store=parts.store,
        current=Generation(parts, [worker]).now,
        timeout_s=encoder.timeout_s,
    )
    try:
        step.run(job(subject_id=1))
        with pytest.raises(UnknownKey):
            step.run(job(subject_id=2))
        step.give_up(job(subject_id=2), "its series is gone")
        assert parts.catalogue.counts().series == {"indexed": 1}
    finally:
        worker.stop()
        parts.close()


def job(*, subject_id: int) -> Job:
    return Job(subject_id, JobKind.EMBED, subject_id, destination="", attempts=1, claims=1)
