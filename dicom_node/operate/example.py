"""An example that is not kept: files in, vectors out, nothing written."""

from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from dicom_node.answer.query import Example
from dicom_node.errors import BadIdentity, NotUnderstood, ObjectRefused
from dicom_node.receive.header import read_file_header
from dicom_node.receive.turns import Caller
from dicom_node.receive.worker import Worker
from index.records import Header, PatientKey


def embed_example(
    worker: Worker, paths: Sequence[Path], *, caller: Caller | None = None
) -> Example:
    """Embed the files of one study, series by series.

    Raises `NotUnderstood` when no file gives a clip, `BadIdentity` when they are of two studies;
    else as `Worker.embed`.
    """
    series: dict[str, list[Path]] = defaultdict(list)
    headers: list[Header] = []
    for path in paths:
        try:
            header = read_file_header(path)
        except ObjectRefused as error:
            raise NotUnderstood(f"{path}: {error.reason}") from error
        headers.append(header)
        series[header.series_instance_uid].append(path)
    if len({header.study_instance_uid for header in headers}) > 1:
        raise BadIdentity("the files belong to several studies; give those of one")
    embedded = [worker.embed(tuple(files), caller=caller) for files in series.values()]
    vectors = [clip.vector for part in embedded for clip in part.clips]
    if not vectors:
        faults = [f.reason for part in embedded for f in (*part.unreadable, *part.skipped)]
        raise NotUnderstood(f"nothing to compare with: {faults[0] if faults else 'no files'}")
    first = headers[0]
    return Example(
        vectors=np.stack(vectors),
        study_instance_uid=first.study_instance_uid,
        patient=PatientKey(first.patient_id, first.issuer_of_patient_id),
    )
