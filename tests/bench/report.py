"""Reports: how long the Structured Report of 20 cases takes to build and to write, in CPU time.

    make bench-report

The query is a bundled CT image of pydicom's. Times are printed, never asserted.
"""

import sys
import time
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from io import BytesIO
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

import numpy as np
import pydicom.data
from cases import case
from pydicom import dcmread
from pydicom.dataset import Dataset

from dicom_node.answer.report import (
    Algorithm,
    QueryEvidence,
    ReportIdentity,
    ReportOptions,
    build_report,
)
from dicom_node.listener import prepare_dicom
from index.records import Ranking

K = 20
TIMES, WARM_UP = 50, 5
ALGORITHM = Algorithm(
    name="Similis",
    version="similis-tiny 4f3c9a1e0b7d2c58",
    manufacturer="Similis",
    parameters=("metric=cosine", "index=hnsw m=16 ef=100", f"k={K}"),
    trained=True,
)


def ranking() -> Ranking:
    """Return K cases of other patients."""
    known = {"body_part": "CHEST", "study_date": "20240101", "study_description": "Thorax",
             "patient_sex": "F", "patient_age": "064Y"}  # fmt: skip
    cases = tuple(
        replace(case(rank, 1 - rank / 100), kind="volume", patient_id=f"P{rank}", **known)
        for rank in range(1, K + 1)
    )
    return Ranking(cases=cases, complete=True, exact=True, model_id="0" * 16, searched=100_000)


def report() -> Callable[[], Dataset]:
    """Return what builds the report, as a job of the node would."""
    path = pydicom.data.get_testdata_file("CT_small.dcm", download=False)
    image = dcmread(str(path), stop_before_pixels=True)
    query = QueryEvidence(images=(image,), query_clip_image=(str(image.SOPInstanceUID),))
    found = ranking()
    options = ReportOptions(ae_title="SIMILIS", device_uid="2.25.1")
    identity = ReportIdentity(
        sop_instance_uid="2.25.3",
        series_instance_uid="2.25.2",
        series_number=9901,
        instance_number=1,
        now=datetime(2026, 1, 1, tzinfo=UTC),
        secret=bytes(range(32)),
    )
    return lambda: build_report(
        query=query, ranking=found, algorithm=ALGORITHM, options=options, identity=identity
    )


def cpu_ms(work: Callable[[], object]) -> str:
    """Return the median and the slowest CPU time of a call, after some to warm up."""
    taken = []
    for _ in range(WARM_UP + TIMES):
        began = time.process_time()
        work()
        taken.append(1000 * (time.process_time() - began))
    return f"{np.median(taken[WARM_UP:]):.1f} ms CPU (slowest {max(taken[WARM_UP:]):.1f})"


def main() -> None:
    """Build and write the report, and print how long each takes."""
    prepare_dicom()
    build = report()
    built = build()
    print(f"report of {K} cases: built in {cpu_ms(build)}")
    print(f"written in {cpu_ms(lambda: built.save_as(BytesIO(), enforce_file_format=True))}")


if __name__ == "__main__":
    main()
