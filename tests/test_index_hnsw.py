import json
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import pytest
from graphs import COUNT, DIM, assert_answers_like_the_oracle, fill, reopen

from index.catalogue import Catalogue
from index.config import IndexConfig
from index.db import connect, migrate
from index.errors import IndexNotSaved


@pytest.fixture
def catalogue(catalogue: Catalogue) -> Catalogue:
    fill(catalogue, COUNT, series=1)
    return catalogue


def test_a_saved_index_is_taken_as_it_is(catalogue: Catalogue, tmp_path: Path) -> None:
    first = reopen(catalogue, tmp_path / "vectors")
    assert first.opened.rebuilt_because == "there is none yet"
    first.save()

    second = reopen(catalogue, tmp_path / "vectors")
    assert second.opened.rebuilt_because == ""
    assert_answers_like_the_oracle(second, catalogue)


def test_saving_again_leaves_one_graph(catalogue: Catalogue, tmp_path: Path) -> None:
    index = reopen(catalogue, tmp_path / "vectors")
    index.save()
    fill(catalogue, 10, series=2)
    index.catch_up(catalogue)
    index.save()
    assert sorted(path.suffix for path in (tmp_path / "vectors").iterdir()) == [".hnsw", ".json"]


def truncate(graph: Path, _: Path) -> None:
    graph.write_bytes(graph.read_bytes()[:-1000])


def flip_a_bit(graph: Path, _: Path) -> None:
    content = bytearray(graph.read_bytes())
    content[len(content) // 2] ^= 1
    graph.write_bytes(content)


def empty(graph: Path, _: Path) -> None:
    graph.write_bytes(b"")


def lose_the_graph(graph: Path, _: Path) -> None:
    graph.unlink()


def lose_the_header(_: Path, header: Path) -> None:
    header.unlink()


def garble_the_header(_: Path, header: Path) -> None:
    header.write_text('{"format": 1, "model_id":')


def change_in_header(**changes: object) -> Callable[[Path, Path], None]:
    def change(_: Path, header: Path) -> None:
        header.write_text(json.dumps(json.loads(header.read_text()) | changes))

    return change


DAMAGES = {
    "truncated": truncate,
    "bit flip": flip_a_bit,
    "empty": empty,
    "graph lost": lose_the_graph,
    "header lost": lose_the_header,
    "header garbled": garble_the_header,
    "foreign dim": change_in_header(dim=DIM * 2),
    "foreign model": change_in_header(model_id="another"),
    "foreign space": change_in_header(space="l2"),
    "newer format": change_in_header(format=3),
    "odd effort": change_in_header(efforts={"great": 1}),
    "wrong count": change_in_header(nodes=COUNT - 1),
    "unknown field": change_in_header(colour="red"),
    "odd deleted": change_in_header(deleted=["x"]),
}


@pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES.keys())
def test_a_damaged_or_foreign_file_is_rebuilt(
    catalogue: Catalogue, tmp_path: Path, damage: Callable[[Path, Path], None]
) -> None:
    folder = tmp_path / "vectors"
    reopen(catalogue, folder).save()
    damage(next(folder.glob("*.hnsw")), next(folder.glob("*.json")))

    index = reopen(catalogue, folder)
    assert index.opened.rebuilt_because != ""
    assert_answers_like_the_oracle(index, catalogue)
    index.save()
    assert reopen(catalogue, folder).opened.rebuilt_because == ""


def test_a_flipped_bit_is_seen_before_the_file_is_loaded(
    catalogue: Catalogue, tmp_path: Path
) -> None:
    folder = tmp_path / "vectors"
    reopen(catalogue, folder).save()
    flip_a_bit(next(folder.glob("*.hnsw")), folder)
    assert "checksum" in reopen(catalogue, folder).opened.rebuilt_because


def test_other_settings_build_another_graph(catalogue: Catalogue, tmp_path: Path) -> None:
    reopen(catalogue, tmp_path / "vectors").save()
    other = reopen(catalogue, tmp_path / "vectors", config=IndexConfig(m=8, exact_below=0))
    assert other.opened.rebuilt_because == "it was made by another model or with other settings"


def test_a_file_of_another_catalogue_is_not_trusted(catalogue: Catalogue, tmp_path: Path) -> None:
    """A restored backup gives the same ids to other vectors."""
    folder = tmp_path / "vectors"
    reopen(catalogue, folder).save()
    (tmp_path / "restored").mkdir()
    engine = connect(f"sqlite:///{tmp_path / 'restored' / 'similis.db'}")
    migrate(engine)
    restored = Catalogue(engine, lambda: datetime(2026, 1, 1, tzinfo=UTC))
    fill(restored, COUNT, series=7)

    index = reopen(restored, folder)
    assert "backup" in index.opened.rebuilt_because
    assert_answers_like_the_oracle(index, restored)


def test_an_older_file_catches_up_after_a_crash(catalogue: Catalogue, tmp_path: Path) -> None:
    folder = tmp_path / "vectors"
    fill(catalogue, 30, series=2)
    reopen(catalogue, folder).save()
    fill(catalogue, 50, series=3)  # rows written, then a crash before the next save
    catalogue.quarantine(2, 1, "Rejected.")

    index = reopen(catalogue, folder)
    assert index.opened.rebuilt_because == ""
    assert len(index) == COUNT + 50
    assert index.stats().deleted == 30
    assert_answers_like_the_oracle(index, catalogue)


def test_deleted_marks_survive_a_save(catalogue: Catalogue, tmp_path: Path) -> None:
    folder = tmp_path / "vectors"
    fill(catalogue, 30, series=2)
    reopen(catalogue, folder).save()
    catalogue.skip(2, 1, "Withdrawn.")
    reopen(catalogue, folder).save()
    index = reopen(catalogue, folder)
    assert (index.opened.rebuilt_because, index.stats().deleted) == ("", 30)
    assert_answers_like_the_oracle(index, catalogue)


def test_a_graph_of_mostly_deleted_nodes_is_built_anew(
    catalogue: Catalogue, tmp_path: Path
) -> None:
    folder = tmp_path / "vectors"
    fill(catalogue, 100, series=2)
    reopen(catalogue, folder).save()
    catalogue.skip(1, 1, "Withdrawn.")
    index = reopen(catalogue, folder)
    assert index.opened.rebuilt_because == "most of its vectors were deleted"
    assert (index.stats().nodes, index.stats().deleted) == (100, 0)
    assert_answers_like_the_oracle(index, catalogue)


def test_vectors_of_another_model_stay_out(catalogue: Catalogue, tmp_path: Path) -> None:
    fill(catalogue, 20, series=2, model_id="another")
    assert len(reopen(catalogue, tmp_path / "vectors")) == COUNT


def test_a_second_process_catches_up_in_memory_and_writes_nothing(
    catalogue: Catalogue, tmp_path: Path
) -> None:
    folder = tmp_path / "vectors"
    reopen(catalogue, folder).save()
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    fill(catalogue, 20, series=2)
    index = reopen(catalogue, folder, read_only=True)
    index.save()
    assert len(index) == COUNT + 20
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before


def test_the_same_vectors_build_the_same_file(catalogue: Catalogue, tmp_path: Path) -> None:
    graphs = []
    for name in ("one", "two"):
        reopen(catalogue, tmp_path / name).save()
        graphs.append(next((tmp_path / name).glob("*.hnsw")).read_bytes())
    assert graphs[0] == graphs[1]


def test_a_folder_that_cannot_be_written_is_told(catalogue: Catalogue, tmp_path: Path) -> None:
    (tmp_path / "vectors").write_text("a file stands where the folder should be")
    index = reopen(catalogue, tmp_path / "vectors")
    with pytest.raises(IndexNotSaved, match="no vector is lost"):
        index.save()
    assert_answers_like_the_oracle(index, catalogue)
