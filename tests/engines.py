"""The engines that pass the contract suite, and a gallery of patients and studies to ask them."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from shards import shard
from sqlalchemy import insert

from index.attributes import SERIES_ATTRIBUTES, STUDY_ATTRIBUTES
from index.catalogue import Catalogue
from index.config import IndexConfig
from index.hnsw import HnswIndex
from index.models import Clip, Embedding, Series, Study
from index.pgvector import PgVectorIndex
from index.states import State
from index.vectors import ExactIndex, VectorIndex

DIM = 48
MODEL = "0123456789abcdef"
GRAPH = IndexConfig(exact_below=0)  # else so few vectors would all be compared

# Opens an engine, level with the catalogue; called again on the same folder it is a restart.
Engine = Callable[[Path, Catalogue, str], VectorIndex]


def exact(_: Path, catalogue: Catalogue, model_id: str) -> VectorIndex:
    index = ExactIndex(model_id=model_id, dim=DIM)
    index.catch_up(catalogue)
    return index


def hnsw(folder: Path, catalogue: Catalogue, model_id: str) -> VectorIndex:
    return HnswIndex.open(folder, catalogue, model_id=model_id, dim=DIM, config=GRAPH)


def pgvector(_: Path, catalogue: Catalogue, model_id: str) -> VectorIndex:
    return PgVectorIndex.open(catalogue, model_id=model_id, dim=DIM, config=GRAPH)


def sharded(_: Path, catalogue: Catalogue, model_id: str) -> VectorIndex:
    shard(catalogue.engine, model_id, DIM)
    return PgVectorIndex.open(catalogue, model_id=model_id, dim=DIM, config=GRAPH)


# With the database under it.
ENGINES: dict[str, tuple[Engine, str]] = {
    "exact": (exact, "sqlite"),
    "hnswlib": (hnsw, "sqlite"),
    "hnswlib on PostgreSQL": (hnsw, "postgresql"),
    "pgvector": (pgvector, "postgresql"),
    "two shards": (sharded, "postgresql"),
}


def unit(rows: np.ndarray) -> np.ndarray:
    rows = np.asarray(rows, dtype=np.float32)
    return rows / np.linalg.norm(rows, axis=-1, keepdims=True)


@dataclass(frozen=True)
class Shown:
    """One vector's series and study, as plain texts."""

    study: str
    patient: tuple[str, str]
    modality: str
    body_part: str
    series_description: str
    study_description: str
    date: str
    birth_date: str
    age: str
    sex: str
    institution: str
    guest: bool = False


@dataclass(frozen=True)
class Gallery:
    vectors: np.ndarray  # (N, D)
    shown: list[Shown]  # of each vector


def clustered(count: int, *, seed: int = 0) -> Gallery:
    """Return so many vectors: near in a patient, nearer in a study, two to a series."""
    rng = np.random.default_rng(seed)
    parts = unit(rng.standard_normal((20, DIM)))
    patients = unit(
        parts[rng.integers(20, size=count // 8 + 1)] + 0.10 * noise(rng, count // 8 + 1)
    )
    studies = unit(patients[np.arange(count // 4 + 1) // 2] + 0.06 * noise(rng, count // 4 + 1))
    vectors = unit(studies[np.arange(count) // 4] + 0.05 * noise(rng, count))
    return Gallery(vectors, [shown(at // 4, at // 2) for at in range(count)])


def noise(rng: np.random.Generator, count: int) -> np.ndarray:
    return rng.standard_normal((count, DIM))


def shown(study: int, series: int) -> Shown:
    patient = study // 2
    return Shown(
        study=f"1.9.{study}",
        patient=("" if patient % 10 == 0 else f"P{patient}", ("A", "B", "")[patient % 3]),
        modality=("CT", "MR", "CR")[series % 3],
        body_part=("CHEST", "HEAD", "")[study % 3],
        series_description=("Axial", "coronal MPR", "")[series % 3],
        study_description=("CT of the Thorax", "Skull", "follow-up thorax")[study % 3],
        date="" if study % 7 == 0 else f"2024{1 + study % 12:02}{1 + study % 28:02}",
        birth_date=("19700229", "19610517", "")[patient % 3],
        age=("045Y", "006M", "", "??")[study % 4],
        sex=("M", "F", "")[patient % 3],
        institution=("Nordklinik", "Südklinik", "")[study % 3],
        guest=study % 50 == 49,
    )


def enter(catalogue: Catalogue, gallery: Gallery, *, model_id: str = MODEL) -> np.ndarray:
    """Write a gallery's rows into an empty catalogue; return the embedding ids."""
    timed = {"burst_started_at": 0.0, "last_received_at": 0.0, "quiet_at": None}
    state = {"state": State.INDEXED, **timed}
    studies = {row.study: row for row in gallery.shown}
    keys = {study: number for number, study in enumerate(studies, start=1)}
    series = range(1, (len(gallery.shown) + 1) // 2 + 1)
    with catalogue.writing() as connection:
        connection.execute(
            insert(Study), [study_row(keys[r.study], r) | state for r in studies.values()]
        )
        connection.execute(
            insert(Series),
            [
                dict.fromkeys((a.column for a in SERIES_ATTRIBUTES), "")
                | {"id": key, "study_id": keys[row.study], "series_instance_uid": f"1.8.{key}"}
                | {"modality": row.modality, "body_part_examined": row.body_part}
                | {"series_description": row.series_description, "revision": 1, "reason": ""}
                | state
                for key, row in ((key, gallery.shown[2 * key - 2]) for key in series)
            ],
        )
        numbers = range(1, len(gallery.shown) + 1)
        connection.execute(
            insert(Clip),
            [
                {"id": n, "series_id": (n + 1) // 2, "position": n, "kind": "still"}
                | {"frames": 1, "sources": [f"1.7.{n}"]}
                for n in numbers
            ],
        )
        connection.execute(insert(Embedding), [embedding(n, gallery, model_id) for n in numbers])
    return np.array(numbers, dtype=np.int64)


def embedding(number: int, gallery: Gallery, model_id: str) -> dict[str, object]:
    vector = gallery.vectors[number - 1].astype("<f4").tobytes()
    return {"id": number, "clip_id": number, "model_id": model_id, "vector": vector} | {
        "revision": 1,
        "decoder": "",
    }


def study_row(key: int, row: Shown) -> dict[str, object]:
    patient_id, issuer = row.patient
    return dict.fromkeys((a.column for a in STUDY_ATTRIBUTES), "") | {
        "id": key,
        "study_instance_uid": row.study,
        "patient_id": patient_id,
        "issuer_of_patient_id": issuer,
        "patient_birth_date": row.birth_date,
        "patient_sex": row.sex,
        "patient_age": row.age,
        "study_date": row.date,
        "study_description": row.study_description,
        "institution_name": row.institution,
        "guest": row.guest,
        "purge_at": None,
    }
