"""Made-up vectors with the structure of an archive, and the rows of a catalogue for them.

2,000 Gaussians of rank 24 with noise around 60 body parts, on the unit sphere in 384 dimensions.
A patient has one to three studies, a study one to three series, a series one to three clips (8
clips a patient on average), the nearer in the tree the likelier alike. How alike is our choice:
a third of the ten nearest vectors are the asking patient's own. Rows come in order of patients.
"""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import insert

from index.attributes import SERIES_ATTRIBUTES, STUDY_ATTRIBUTES
from index.catalogue import Catalogue
from index.embeddings import STORED
from index.models import Clip, Embedding, Series, Study
from index.states import State

DIM, CLUSTERS, PARTS, RANK = 384, 2_000, 60, 24
MODEL = "0" * 16
DAYS = 3_650
# Of the studies; each cluster has one.
MODALITIES = {"CT": 0.30, "CR": 0.26, "MR": 0.25, "US": 0.13, "MG": 0.05, "NM": 0.01}

_SPREAD, _NOISE = 0.75, 0.30  # length of what a Gaussian, and noise, adds to a centre of length 1
_SHARES = {"patient": 0.40, "study": 0.35, "series": 0.15, "clip": 0.10}  # of the variance
_ELSEWHERE = 0.4  # of the studies show another body part than the patient's first
_ROWS = 5_000

Rows = NDArray[np.int64]
Vectors = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Tree:
    """Which patient, study and series each row (N,) belongs to, and what each study shows."""

    patient: Rows
    study: Rows
    series: Rows
    cluster: Rows  # of each study (S,)
    day: Rows  # of each study (S,), from 0


@dataclass(frozen=True)
class Archive:
    """Rows 0..size are kept, `size`..`known` come later; beyond are patients who only ask."""

    tree: Tree
    vectors: Vectors
    size: int
    known: int

    @cached_property
    def modality(self) -> NDArray[np.str_]:
        """Return the modality of each study."""
        bounds = np.cumsum(list(MODALITIES.values())).round(6)
        return np.array(list(MODALITIES))[
            np.searchsorted(bounds, self.tree.cluster / CLUSTERS, side="right")
        ]

    @cached_property
    def date(self) -> NDArray[np.str_]:
        """Return the DA date of each study."""
        return self.date_of(self.tree.day)

    @staticmethod
    def date_of(day: Rows | int) -> NDArray[np.str_]:
        """Return days, counted from 0, as DA dates."""
        days = np.datetime64("2015-01-01") + day
        return np.char.replace(np.datetime_as_string(days, unit="D"), "-", "")


def make_tree(rng: np.random.Generator, rows: int) -> Tree:
    """Deal rows to series, studies and patients."""

    def grown(parents: Rows) -> Rows:
        """Return the parent of each of one to three children."""
        return np.repeat(parents, rng.integers(1, 4, len(parents)))

    patient_of_study = grown(np.arange(rows // 4 + 9))  # eight rows each: twice as many
    study_of_series = grown(np.arange(len(patient_of_study)))
    series = grown(np.arange(len(study_of_series)))[:rows]
    study = study_of_series[series]
    patient = patient_of_study[study]
    home = rng.integers(CLUSTERS, size=patient[-1] + 1)
    elsewhere = rng.random(study[-1] + 1) < _ELSEWHERE
    cluster = home[patient_of_study[: len(elsewhere)]]
    cluster[elsewhere] = rng.integers(CLUSTERS, size=elsewhere.sum())
    return Tree(patient, study, series, cluster, rng.integers(DAYS, size=len(cluster)))


def make_archive(size: int, *, later: int, asking: int, seed: int = 0) -> Archive:
    """Make an archive; the same numbers give the same archive."""
    rng = np.random.default_rng(seed)
    tree = make_tree(rng, size + later + asking)
    places = sum(
        np.sqrt(_SHARES[level]) * rng.standard_normal((keys[-1] + 1, RANK), np.float32)[keys]
        for level, keys in (
            ("patient", tree.patient),
            ("study", tree.study),
            ("series", tree.series),
            ("clip", np.arange(len(tree.study))),
        )
    )
    parts = unit(rng.standard_normal((PARTS, DIM), np.float32))
    cluster = tree.cluster[tree.study]
    rows_of = np.split(np.argsort(cluster), np.cumsum(np.bincount(cluster, minlength=CLUSTERS)))
    vectors = np.empty((len(cluster), DIM), np.float32)
    for number, rows in enumerate(rows_of[:CLUSTERS]):
        offset = unit(rng.standard_normal((1, DIM), np.float32))
        centre = unit(parts[number % PARTS] + 0.8 * offset)
        axes = unit(rng.standard_normal((RANK, DIM), np.float32)) * (_SPREAD / RANK**0.5)
        noise = rng.standard_normal((len(rows), DIM), np.float32) * (_NOISE / DIM**0.5)
        vectors[rows] = unit(centre + places[rows] @ axes + noise)
    return Archive(tree, vectors, size, size + later)


def unit(rows: Vectors) -> Vectors:
    """Bring rows to length one."""
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def fill(catalogue: Catalogue, archive: Archive, start: int, stop: int) -> None:
    """Write the rows start..stop; row n has the keys n + 1, and so have studies and series."""
    tree = archive.tree
    for first in range(start, stop, _ROWS):
        rows = range(first, min(first + _ROWS, stop))
        with catalogue.writing() as connection:
            for table, rows_of in (
                (Study, [_study(archive, row) for row in _firsts(tree.study, rows)]),
                (Series, [_series(archive, row) for row in _firsts(tree.series, rows)]),
                (Clip, [_clip(archive, row) for row in rows]),
                (Embedding, [_embedding(archive, row) for row in rows]),
            ):
                if rows_of:
                    connection.execute(insert(table), rows_of)


def _firsts(keys: Rows, rows: range) -> list[int]:
    """Return the rows with which a key begins."""
    return [row for row in rows if row == 0 or keys[row] != keys[row - 1]]


_TIMED = {"burst_started_at": 0.0, "last_received_at": 0.0, "quiet_at": None}


def _study(archive: Archive, row: int) -> dict[str, object]:
    number = int(archive.tree.study[row])
    return {a.column: "" for a in STUDY_ATTRIBUTES} | {
        "id": number + 1,
        "state": State.INDEXED,
        "study_instance_uid": study_uid(number),
        "patient_id": patient_id(int(archive.tree.patient[row])),
        "study_date": str(archive.date[number]),
        "guest": False,
        **_TIMED,
    }


def _series(archive: Archive, row: int) -> dict[str, object]:
    study, number = int(archive.tree.study[row]), int(archive.tree.series[row])
    return {a.column: "" for a in SERIES_ATTRIBUTES} | {
        "id": number + 1,
        "study_id": study + 1,
        "series_instance_uid": f"{study_uid(study)}.{number}",
        "modality": str(archive.modality[study]),
        "state": State.INDEXED,
        "revision": 1,
        "reason": "",
        **_TIMED,
    }


def _clip(archive: Archive, row: int) -> dict[str, object]:
    series = int(archive.tree.series[row])
    return {
        "id": row + 1,
        "series_id": series + 1,
        "position": row,
        "kind": "still",
        "frames": 1,
        "sources": [f"{study_uid(int(archive.tree.study[row]))}.{series}.{row}"],
    }


def _embedding(archive: Archive, row: int) -> dict[str, object]:
    return {
        "id": row + 1,
        "clip_id": row + 1,
        "model_id": MODEL,
        "revision": 1,
        "decoder": "",
        "vector": archive.vectors[row].astype(STORED).tobytes(),
    }


def study_uid(number: int) -> str:
    """Return the Study Instance UID of a study."""
    return f"1.9.{number}"


def patient_id(number: int) -> str:
    """Return the Patient ID of a patient."""
    return f"P{number}"
