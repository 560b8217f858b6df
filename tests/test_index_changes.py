"""Whoever follows the changes of the catalogue holds what a fresh look at it shows."""

import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from catalogues import RULE, Clock, open_catalogue
from hypothesis import given, settings
from hypothesis import strategies as st
from sqlalchemy import func, select

from index.catalogue import Catalogue
from index.changes import Bookmark
from index.config import IndexConfig
from index.facets import Facets
from index.gallery import conditions
from index.hnsw import HnswIndex
from index.records import ClipRecord, Header, PatientKey, Query, SeriesFiles, StoredFile
from index.rejections import Rejects
from index.vector_models import Change

MODEL, DIM = "m" * 16, 8
MODALITIES, PARTS = ("CT", "MR"), ("HEAD", "")
QUERIES: list[dict[str, Any]] = [
    {},
    {"modality": "CT"},
    {"body_part": "HEAD", "exclude_patient": PatientKey("P1", "A")},
    {"patient_sex": "F", "date_from": "20240101", "date_to": "20241231"},
    {"exclude_study_uid": "1.2.1", "age_from_years": 40},
    {"description": "thorax", "institution": "nord"},
]


class Script:
    """Operations on a catalogue by small numbers, as a node would do them."""

    def __init__(self, catalogue: Catalogue) -> None:
        self.catalogue = catalogue
        self.received = 0

    def receive(self, study: int, series: int) -> None:
        """Take in a new instance; its number decides what it says of study and series."""
        number = self.received = self.received + 1
        head = Header(
            study_instance_uid=f"1.2.{study}",
            series_instance_uid=f"1.2.{study}.{series}",
            sop_instance_uid=f"1.2.{study}.{series}.{number}",
            sop_class_uid="1.2.840.10008.5.1.4.1.1.2",
            transfer_syntax_uid="1.2.840.10008.1.2.1",
            patient_id=f"P{number % 3}" if number % 4 else "",
            issuer_of_patient_id=("A", "", "B")[number % 3],
            patient_sex=("F", "M", "")[number % 3],
            patient_age=("045Y", "030Y", "")[number % 3],
            study_date=("20240503", "20230101", "")[number % 3],
            study_description=("CT Thorax", "Skull", "")[number % 3],
            institution_name=("Nord", "")[number % 2],
            modality=MODALITIES[number % 2],
            body_part_examined=PARTS[number % 2],
        )
        self.catalogue.record(head, StoredFile(f"{number}.dcm", f"{number:064}", 1), RULE)

    def embed(self, study: int, series: int) -> None:
        """Embed a series as it stands, under one of two models."""
        for row in self.rows(study, series):
            model = MODEL if self.received % 5 else "other"
            rng = np.random.default_rng(self.received)
            vectors = rng.standard_normal((1 + self.received % 3, DIM)).astype(np.float32)
            vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
            sources = tuple(file.sop_instance_uid for file in row.files[:1])
            clips = [ClipRecord("still", 1, sources, vector) for vector in vectors]
            self.catalogue.save_clips(row.series_id, row.revision, model, clips)

    def skip(self, study: int, series: int) -> None:
        """Find nothing in a series any more."""
        for row in self.rows(study, series):
            self.catalogue.skip(row.series_id, row.revision, "Withdrawn.")

    def forget(self, study: int, series: int) -> None:
        """Forget a study, whatever the series."""
        self.catalogue.forget_study(f"1.2.{study}", lambda _: None)

    def reject(self, study: int, series: int) -> None:
        """Take all instances of a series out."""
        for row in self.rows(study, series):
            named = tuple((row.study_instance_uid, file.sop_instance_uid) for file in row.files)
            patient = self.catalogue.study_row(row.study_instance_uid)
            assert patient is not None
            number = self.received = self.received + 1
            head = Header(
                study_instance_uid=row.study_instance_uid,
                series_instance_uid=f"1.2.{study}.9",
                sop_instance_uid=f"1.2.{study}.9.{number}",
                sop_class_uid="1.2.840.10008.5.1.4.1.1.88.59",
                transfer_syntax_uid="1.2.840.10008.1.2.1",
                patient_id=patient.patient_id,
            )
            stored = StoredFile(f"{number}.dcm", f"{number:064}", 1)
            rejects = Rejects(code="113001", instances=named, lasting=False)
            self.catalogue.record(head, stored, RULE, rejects=rejects)

    def prune(self, study: int, series: int) -> None:
        """Drop all but a few changes."""
        self.catalogue.prune_changes(keep=1 + series)

    def rows(self, study: int, series: int) -> list[SeriesFiles]:
        known = self.catalogue.study_row(f"1.2.{study}")
        if known is None:
            return []
        every = map(self.catalogue.series_files, self.catalogue.study_series(known.id))
        return [each for each in every if each.series_instance_uid == f"1.2.{study}.{series}"]


OPERATIONS = ("receive", "receive", "embed", "embed", "skip", "forget", "reject", "prune", "follow")
steps = st.lists(
    st.tuples(st.sampled_from(OPERATIONS), st.integers(1, 3), st.integers(1, 2)), max_size=40
)


@settings(max_examples=25)
@given(steps)
def test_following_changes_equals_a_fresh_look(script: list[tuple[str, int, int]]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        catalogue = open_catalogue(f"sqlite:///{Path(folder) / 'similis.db'}", Clock())
        try:
            follow_a_script(catalogue, script)
        finally:
            catalogue.engine.dispose()


def follow_a_script(catalogue: Catalogue, script: list[tuple[str, int, int]]) -> None:
    does = Script(catalogue)
    index = HnswIndex(Path("unused"), model_id=MODEL, dim=DIM, config=IndexConfig(exact_below=0))
    facets = Facets(MODEL)
    for operation, study, series in (*script, ("follow", 0, 0)):
        if operation != "follow":
            act: Callable[[int, int], None] = getattr(does, operation)
            act(study, series)
            continue
        index.catch_up(catalogue)
        facets.follow(catalogue)
        fresh = Facets(MODEL)
        fresh.follow(catalogue)
        assert index.ids().tolist() == catalogue.embedding_ids(MODEL).tolist()
        assert not index.verify(catalogue)
        assert (len(facets), facets.newest()) == (len(fresh), fresh.newest())
        for filters in QUERIES:
            assert_alike(catalogue, facets, fresh, filters)


def assert_alike(
    catalogue: Catalogue, facets: Facets, fresh: Facets, filters: dict[str, Any]
) -> None:
    """Ask columns that were followed, columns that were just read, and the rows themselves."""
    wanted = conditions(Query(vectors=np.eye(1, DIM, dtype=np.float32), **filters))
    ids = catalogue.embedding_ids(MODEL)
    rows, unread = catalogue.case_rows(ids.tolist(), catalogue.bookmark())
    passing = [key for key in ids.tolist() if wanted.pass_row(rows[key])]
    assert unread == 0
    assert sorted(facets.allowed(wanted).tolist()) == passing
    few = facets.few_allowed(wanted, len(passing))
    assert few is not None and sorted(few.tolist()) == passing
    assert facets.few_allowed(wanted, len(passing) - 1) is None
    assert sorted(fresh.allowed(wanted).tolist()) == passing
    assert ids[facets.filtered(ids, wanted)].tolist() == passing
    studies = dict(zip(ids.tolist(), facets.studies(ids).tolist(), strict=True))
    same = {rows[key].study_instance_uid: studies[key] for key in ids.tolist()}
    assert all(same[rows[key].study_instance_uid] == studies[key] for key in ids.tolist())
    assert len(set(same.values())) == len(same)


def standing(catalogue: Catalogue, does: Script) -> Bookmark:
    """Return a bookmark behind a first change, as every reader's is."""
    does.receive(9, 1)
    does.embed(9, 1)
    return catalogue.bookmark()


def test_the_changes_stay_bounded_and_who_is_too_far_behind_is_told(catalogue: Catalogue) -> None:
    does = Script(catalogue)
    start = standing(catalogue, does)
    for number in range(1, 9):
        does.receive(number, 1)
        does.embed(number, 1)
    everything = catalogue.changes(start)
    assert everything.ids is not None and len(everything.ids) > 4
    assert catalogue.prune_changes(keep=4) > 0
    with catalogue.reading() as connection:
        assert connection.execute(select(func.count()).select_from(Change)).scalar_one() == 4
    assert catalogue.changes(start).ids is None
    level = catalogue.changes(everything.bookmark)
    assert level.ids is not None and level.ids.tolist() == []


def test_changes_are_read_in_parts(catalogue: Catalogue) -> None:
    does, seen = Script(catalogue), set[int]()
    start = standing(catalogue, does)
    for number in range(1, 9):
        does.receive(number, 1)
        does.embed(number, 1)
    whole = catalogue.changes(start)
    part = catalogue.changes(start, limit=3)
    rounds = 1
    while part.more:
        assert part.ids is not None
        seen |= set(part.ids.tolist())
        part, rounds = catalogue.changes(part.bookmark, limit=3), rounds + 1
    assert part.ids is not None and whole.ids is not None
    assert seen | set(part.ids.tolist()) == set(whole.ids.tolist())
    assert rounds > 2
    assert part.bookmark == whole.bookmark
