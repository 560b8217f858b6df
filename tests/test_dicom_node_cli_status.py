"""`similis status --index`, in this process and over vectors that no encoder made."""

import json
import os
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from dicom_node.cli.app import app
from dicom_node.cli.options import print_table
from dicom_node.cli.status import index_rows
from dicom_node.config import Config
from dicom_node.parts import configured_encoder, open_index, open_parts
from index.health import Drift, Health, Recall
from index.hubness import Hubness
from index.records import ClipRecord, Header, QuietRule, StoredFile
from index.vectors import IndexStats

GOLDEN = Path(__file__).parent / "golden" / "status-index.txt"
RULE = QuietRule(series_s=30, study_s=120, cap_s=600)


def populate(data: Path, count: int) -> None:
    """Keep so many patients of one vector each, and save the graph."""
    parts = open_parts(Config(data=data))
    model = configured_encoder(parts.config.encoder)
    for number in range(count):
        head = Header(
            study_instance_uid=f"1.2.{number}",
            series_instance_uid=f"1.2.{number}.1",
            sop_instance_uid=f"1.2.{number}.1.1",
            sop_class_uid="1.2.840.10008.5.1.4.1.1.2",
            transfer_syntax_uid="1.2.840.10008.1.2.1",
            patient_id=f"P{number}",
        )
        recorded = parts.catalogue.record(head, StoredFile("a.dcm", f"{number:064}", 1), RULE)
        vector = np.eye(model.dim, dtype=np.float32)[number]
        clip = ClipRecord("still", 1, (head.sop_instance_uid,), vector)
        parts.catalogue.save_clips(recorded.series_id, 1, model.model_id, [clip])
    open_index(parts, model).save()
    parts.close()


def test_status_measures_the_index(tmp_path: Path) -> None:
    populate(tmp_path, 12)
    said = CliRunner().invoke(app, ["status", "--index", "--json", "--data", str(tmp_path)])
    found = json.loads(said.stdout)["index"]
    assert (found["stats"]["vectors"], found["stats"]["deleted"]) == (12, 0)
    assert found["recall"] == {"queries": 12, "k": 10, "recall": 1.0, "exact": True}
    assert found["hubness"]["sampled"] == 12
    assert found["drift"] == [], "all of it came this month"
    assert found["file_bytes"] > 0
    assert found["rebuilt_because"] == ""

    said = CliRunner().invoke(app, ["status", "--index", "--data", str(tmp_path)])
    assert "of the 10 nearest, 12 questions; every vector is compared" in said.stdout
    assert "Vector index" not in CliRunner().invoke(app, ["status", "--data", str(tmp_path)]).stdout


def test_an_empty_node_has_few_figures(tmp_path: Path) -> None:
    open_parts(Config(data=tmp_path)).close()
    said = CliRunner().invoke(app, ["status", "--index", "--json", "--data", str(tmp_path)])
    found = json.loads(said.stdout)["index"]
    assert (found["recall"], found["hubness"], found["file_bytes"]) == (None, None, None)
    assert found["rebuilt_because"] == "there is none yet"
    said = CliRunner().invoke(app, ["status", "--index", "--data", str(tmp_path)])
    assert said.exit_code == 0


def test_the_table_of_the_index_is_the_golden_one(capsys: pytest.CaptureFixture[str]) -> None:
    figures = Health(
        model_id="0123456789abcdef",
        stats=IndexStats(vectors=100_000, nodes=99_000, deleted=1_000),
        recall=Recall(queries=100, k=10, recall=0.992, exact=False),
        hubness=Hubness(sampled=2_000, k=10, skewness=1.9, antihubs=0.06, largest=84),
        drift=(Drift("2025-12", 500, 0.05, 0.086), Drift("2026-01", 480, 0.31, 0.087)),
    )
    file = {"file_bytes": 168_400_000, "saved_at": "2026-01-15T06:00:00+00:00"}
    rows = index_rows(asdict(figures) | file | {"rebuilt_because": ""})
    print_table("Vector index", ("what", "figure", "meaning"), rows)
    said = capsys.readouterr().out
    if os.environ.get("UPDATE_GOLDEN"):
        GOLDEN.write_text(said)
    assert said == GOLDEN.read_text()
