"""Parts come back from eight bits as near as eight bits come, and where they were."""

from pathlib import Path

import numpy as np
import pytest
from catalogues import MODEL, Clock, open_catalogue, receive
from hypothesis import given
from hypothesis import strategies as st

from index.catalogue import Catalogue
from index.errors import BadVector
from index.parts import MAX_PARTS, ClipParts, PartPlace, pack, quantised, restored, unpacked
from index.records import ClipRecord

SOURCES = ("1.2.1.1", "1.2.1.2", "1.2.1.3")
VECTOR = np.eye(8, dtype=np.float32)[0]


def unit_rows(seed: int, rows: int, dim: int, spread: float = 0.0) -> np.ndarray:
    random = np.random.default_rng(seed)
    drawn = random.standard_normal((rows, dim)) * np.exp(spread * random.standard_normal(dim))
    return (drawn / np.linalg.norm(drawn, axis=1, keepdims=True)).astype(np.float32)


def parts(seed: int = 0, count: int = 4, dim: int = 16) -> ClipParts:
    places = tuple(PartPlace(SOURCES[n % 3], n + 1, (n, 2 * n, 10, 20)) for n in range(count))
    return ClipParts(unit_rows(seed, count, dim), places)


@given(
    seed=st.integers(0, 9999), rows=st.integers(1, 32), dim=st.integers(1, 400),
    spread=st.floats(0, 3),
)  # fmt: skip
def test_eight_bits_lose_half_a_step_a_value(seed: int, rows: int, dim: int, spread: float) -> None:
    vectors = unit_rows(seed, rows, dim, spread)
    kept = restored(quantised(vectors))
    np.testing.assert_allclose(np.linalg.norm(kept, axis=1), 1, rtol=1e-5)
    half_step = np.abs(vectors).max(axis=1) / 127 / 2
    error = np.sqrt(dim) * half_step  # of the row before it is brought to length 1 again
    # Length 1 at most doubles the distance: the row's own length is off by no more than the error.
    assert (np.linalg.norm(kept - vectors, axis=1) <= 2 * error + 1e-6).all()
    others = unit_rows(seed + 1, 5, dim)
    assert (np.abs(kept @ others.T - vectors @ others.T) <= 2 * error[:, None] + 1e-6).all()


@given(data=st.data(), count=st.integers(1, MAX_PARTS))
def test_what_is_packed_comes_back_in_its_place(data: st.DataObject, count: int) -> None:
    number = st.integers(0, 2**31 - 1)
    place = st.none() | st.builds(
        PartPlace, st.sampled_from(SOURCES), number, st.tuples(number, number, number, number)
    )
    places = data.draw(st.tuples(*[place] * count))
    packed = pack(ClipParts(unit_rows(1, count, 24), places), SOURCES)
    back = unpacked(packed, SOURCES)
    assert back.places == places
    np.testing.assert_allclose(back.vectors, unit_rows(1, count, 24), atol=0.01)
    assert len(packed.vectors) == count * 24


def test_a_place_in_no_source_of_the_clip_is_unknown() -> None:
    stray = ClipParts(unit_rows(0, 1, 4), (PartPlace("1.9", 1, (0, 0, 1, 1)),))
    assert unpacked(pack(stray, SOURCES), SOURCES).places == (None,)


@pytest.mark.parametrize(
    "unfit",
    [
        ClipParts(np.zeros((0, 4), np.float32), ()),
        ClipParts(np.full((1, 4), np.nan, np.float32), (None,)),
        ClipParts(np.zeros((1, 4), np.float32), (None,)),
        ClipParts(unit_rows(0, MAX_PARTS + 1, 4), (None,) * (MAX_PARTS + 1)),
        ClipParts(unit_rows(0, 2, 4), (None,)),
    ],
)
def test_parts_that_are_none_are_refused_and_nothing_is_kept(
    tmp_path: Path, unfit: ClipParts
) -> None:
    catalogue = kept(tmp_path)
    with pytest.raises(BadVector):
        catalogue.save_clips(1, 1, MODEL, [ClipRecord("volume", 3, SOURCES, VECTOR, parts=unfit)])
    assert catalogue.counts().embeddings == {}


def kept(folder: Path) -> Catalogue:
    catalogue = open_catalogue(f"sqlite:///{folder / 'similis.db'}", Clock())
    receive(catalogue, 1)
    catalogue.close_quiet(force=True)
    return catalogue


def test_parts_are_kept_with_their_clip(tmp_path: Path) -> None:
    catalogue, given_parts = kept(tmp_path), parts()
    records = [
        ClipRecord("volume", 3, SOURCES, VECTOR, parts=given_parts),
        ClipRecord("still", 1, SOURCES[:1], VECTOR),
    ]
    first, second = catalogue.save_clips(1, 1, MODEL, records)
    assert list(catalogue.part_steps([first, second, 999])) == [first]
    assert catalogue.part_places([first, second]) == {first: given_parts.places}
    query = catalogue.study_query("1.2", MODEL)
    assert query is not None
    whole, none = query.parts
    assert none is None
    assert whole is not None
    assert whole.places == given_parts.places
    np.testing.assert_allclose(whole.vectors, given_parts.vectors, atol=0.01)


def test_parts_go_with_their_embedding(tmp_path: Path) -> None:
    catalogue = kept(tmp_path)
    record = ClipRecord("volume", 3, SOURCES, VECTOR, parts=parts())
    (old,) = catalogue.save_clips(1, 1, MODEL, [record])
    (new,) = catalogue.save_clips(1, 1, MODEL, [ClipRecord("volume", 3, SOURCES, VECTOR)])
    assert catalogue.part_steps([old, new]) == {}
    with catalogue.reading() as connection:
        assert connection.exec_driver_sql("SELECT count(*) FROM part").scalar() == 0
