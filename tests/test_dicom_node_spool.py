"""A database server that is away: intake goes on keeping, and catalogues when it is back."""

import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from peers import quick_config
from postgres import Server, closed_connections, running_server

from dicom_node.errors import NotUnderstood, OutOfResources
from dicom_node.parts import Parts, open_parts
from dicom_node.receive.spool import Note, Spool
from index.db import connect
from index.errors import DatabaseUnavailable
from index.records import Receipt


@pytest.fixture
def server() -> Iterator[Server]:
    """A server of its own, since it is stopped."""
    with running_server() as server, closed_connections():
        server.execute("CREATE DATABASE similis")
        yield server


def open_node(folder: Path, server: Server) -> Parts:
    return open_parts(quick_config(folder, storage={"database_url": server.url("similis")}))


def send(parts: Parts, path: Path) -> Receipt | None:
    with path.open("rb") as file:
        return parts.intake.take_file(file, source="PACS")


def test_what_comes_while_the_server_is_away_is_catalogued_when_it_is_back(
    server: Server, tmp_path: Path, bundled: Callable[[str], Path]
) -> None:
    first, second, third = (bundled(n) for n in ("CT_small.dcm", "MR_small.dcm", "rtplan.dcm"))
    parts = open_node(tmp_path, server)
    assert send(parts, first) is Receipt.NEW
    server.stop(kill=True)
    assert send(parts, second) is Receipt.NEW
    assert send(parts, second) is Receipt.NEW
    with pytest.raises(DatabaseUnavailable):
        parts.intake.make_up()
    parts.close()
    with pytest.raises(DatabaseUnavailable, match="running"):
        open_node(tmp_path, server)

    server.start()
    again = open_node(tmp_path, server)
    assert send(again, third) is Receipt.NEW, "it waits behind the others"
    assert again.catalogue.counts().instances == 1
    assert again.intake.make_up()
    assert again.catalogue.counts().instances == 3
    kept = [file.relative_path for file in again.catalogue.kept_files()]
    assert len(kept) == 3
    assert all(again.store.path(path).exists() for path in kept)
    assert not again.intake.make_up()
    assert send(again, third) is Receipt.DUPLICATE
    again.close()


def test_a_query_is_refused_while_the_server_is_away(
    server: Server, tmp_path: Path, bundled: Callable[[str], Path]
) -> None:
    """Its sender waits for an answer, and can ask again."""
    from dicom_node.receive.header import split_file

    parts = open_node(tmp_path, server)
    server.stop()
    with bundled("CT_small.dcm").open("rb") as file:
        meta, dataset = split_file(file)
    with pytest.raises(OutOfResources):
        parts.intake.take(dataset, meta, source="PACS", asked_by="ward")
    parts.close()


def test_a_query_waits_for_what_was_kept_before_it(
    server: Server, tmp_path: Path, bundled: Callable[[str], Path]
) -> None:
    """Not yet catalogued, the object looks like one that only the query brought."""
    from dicom_node.receive.header import split_file

    path = bundled("CT_small.dcm")
    parts = open_node(tmp_path, server)
    server.stop()
    assert send(parts, path) is Receipt.NEW
    server.start()
    with path.open("rb") as file:
        meta, dataset = split_file(file)
    with pytest.raises(OutOfResources):
        parts.intake.take(dataset, meta, source="PACS", asked_by="ward")
    assert parts.intake.make_up()
    assert parts.catalogue.counts().instances == 1
    assert parts.intake.take(dataset, meta, source="PACS", asked_by="ward") is None
    parts.close()


def test_a_server_that_comes_back_is_used_by_the_connections_of_before(server: Server) -> None:
    engine = connect(server.url("similis"))
    server.stop()
    server.start()
    with engine.connect() as connection:
        assert connection.exec_driver_sql("SELECT 1").scalar() == 1
    engine.dispose()


def test_notes_come_back_in_order_and_stay_until_they_are_taken(tmp_path: Path) -> None:
    notes = [Note(f"aa/{n}.dcm", "PACS", n % 2 == 0) for n in range(12)]
    spool = Spool(tmp_path)
    assert not spool
    for note in notes:
        spool.put(note)
    taken: list[Note] = []

    def take(note: Note) -> None:
        if len(taken) == 5:
            raise DatabaseUnavailable("postgresql://", "gone")
        taken.append(note)

    with pytest.raises(DatabaseUnavailable):
        Spool(tmp_path).drain(take)
    assert taken == notes[:5]
    rest: list[Note] = []
    assert Spool(tmp_path).drain(rest.append)
    assert rest == notes[5:]
    assert not spool


@pytest.mark.parametrize(
    "error", [FileNotFoundError("gone"), PermissionError("closed"), NotUnderstood("no DICOM")]
)
def test_a_note_that_cannot_be_followed_is_set_aside(tmp_path: Path, error: Exception) -> None:
    spool = Spool(tmp_path)
    bad, good = Note("aa/bad.dcm", "PACS", True), Note("aa/good.dcm", "PACS", True)
    spool.put(bad)
    spool.put(good)
    taken: list[Note] = []

    def take(note: Note) -> None:
        if note == bad:
            raise error
        taken.append(note)

    assert spool.drain(take)
    assert taken == [good]
    assert not spool
    (aside,) = tmp_path.iterdir()
    aside.rename(aside.with_suffix(".json"))
    assert spool.drain(taken.append)
    assert taken == [good, bad], "under its old name it is tried again"


@pytest.mark.parametrize("content", [b"{", b"\xff", b"[]", b'{"path": 1}'])
def test_a_damaged_note_does_not_hold_up_the_rest(tmp_path: Path, content: bytes) -> None:
    spool = Spool(tmp_path)
    spool.put(Note("aa/1.dcm", "PACS", True))
    (damaged,) = tmp_path.iterdir()
    damaged.write_bytes(content)
    spool.put(Note("aa/2.dcm", "PACS", True))
    taken: list[Note] = []

    assert spool.drain(taken.append)

    assert taken == [Note("aa/2.dcm", "PACS", True)]
    assert [path.read_bytes() for path in tmp_path.iterdir()] == [content]


def test_a_note_that_another_process_took_is_passed_over(tmp_path: Path) -> None:
    spool = Spool(tmp_path)
    spool.put(Note("aa/1.dcm", "PACS", True))
    spool.put(Note("aa/2.dcm", "PACS", True))

    def take_all(_: Note) -> None:
        for path in tmp_path.iterdir():
            path.unlink()

    assert spool.drain(take_all)
    assert list(tmp_path.iterdir()) == []


def test_only_the_first_put_looks_through_the_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    Spool(tmp_path).put(Note("aa/1.dcm", "PACS", True))
    spool = Spool(tmp_path)
    spool.put(Note("aa/2.dcm", "PACS", True))
    with monkeypatch.context() as patch:
        patch.delattr(Path, "glob")
        spool.put(Note("aa/3.dcm", "PACS", True))
    assert [int(path.name[:12]) for path in sorted(tmp_path.iterdir())] == [1, 2, 3]


def test_a_spool_that_cannot_be_locked_is_out_of_resources(tmp_path: Path) -> None:
    folder = tmp_path / "spool"
    folder.mkdir()
    spool = Spool(folder)
    folder.rmdir()

    with pytest.raises(OutOfResources, match="locked"):
        spool.put(Note("aa/1.dcm", "PACS", True))


def test_no_note_is_put_while_another_process_needs_those_that_stand(tmp_path: Path) -> None:
    node, command = Spool(tmp_path), Spool(tmp_path)
    note = Note("aa/file.dcm", "PACS", report=True)
    putting = threading.Thread(target=node.put, args=(note,))
    with command.standing() as waiting:
        assert waiting == set()
        putting.start()
        putting.join(0.5)
        assert putting.is_alive()
        assert not command
    putting.join(10.0)
    with command.standing() as waiting:
        assert waiting == {"aa/file.dcm"}
