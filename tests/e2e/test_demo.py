"""`similis demo`: what a newcomer runs first."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest


@pytest.mark.slow
def test_the_demo_prints_three_rankings_and_leaves_nothing_behind(tmp_path: Path) -> None:
    scratch, out = tmp_path / "scratch", tmp_path / "out"
    scratch.mkdir()

    said = subprocess.run(
        [sys.executable, "-m", "dicom_node", "demo", "--out", out],
        capture_output=True,
        env={**os.environ, "TMPDIR": str(scratch)},
        text=True,
        timeout=180,
        check=False,
    )

    assert said.returncode == 0, said.stderr
    assert re.findall(r"Similar to the (.*) \(report", said.stdout) == [
        "CT slice",
        "MR slice",
        "ultrasound cine",
    ]
    assert said.stdout.count("│ 1 ") == 3, "every ranking has a first"
    assert "Traceback" not in said.stderr
    assert list(scratch.iterdir()) == []
    assert list(out.glob("report-*.dcm"))
