"""The graph file on a small disk: whatever ends a save or spoils it, answers are the oracle's."""

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from itertools import count
from pathlib import Path

import pytest
from disks import small_disk
from graphs import DIM, MODEL, assert_answers_like_the_oracle, fill, filled, reopen

from index.catalogue import Catalogue
from index.errors import IndexNotSaved

DISK_BYTES = 1 << 20
PAGE_BYTES = 4096
OTHER_MODEL = "fedcba9876543210"

SAVE = """
import os, resource, signal, sys
from datetime import UTC, datetime
from pathlib import Path
from index.catalogue import Catalogue
from index.config import IndexConfig
from index.db import connect
from index.hnsw import HnswIndex

url, folder, model_id, dim, step, most = sys.argv[1:]
index = HnswIndex.open(
    Path(folder), Catalogue(connect(url), lambda: datetime.now(UTC)),
    model_id=model_id, dim=int(dim), config=IndexConfig(exact_below=0),
)
left = int(step)

def die(event, arguments):
    global left
    if arguments and str(arguments[0]).startswith(folder):
        left -= 1
        if left == 0:
            os.kill(os.getpid(), signal.SIGKILL)

if int(most):
    signal.signal(signal.SIGXFSZ, signal.SIG_DFL)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_FSIZE, (int(most), int(most)))
sys.addaudithook(die)
index.save()
"""


@pytest.fixture
def catalogue(tmp_path: Path) -> Catalogue:
    return filled(tmp_path)


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    if os.geteuid() != 0:
        pytest.skip("only root mounts a small tmpfs")
    with small_disk(tmp_path / "disk", size_bytes=DISK_BYTES) as folder:
        yield folder


def save_and_die(catalogue: Catalogue, disk: Path, *, step: int = 0, most_bytes: int = 0) -> int:
    """Save in a process that is killed at a step, or as a file grows too large; how it ended."""
    arguments = (catalogue.engine.url, disk, MODEL, DIM, step, most_bytes)
    command = [sys.executable, "-c", SAVE, *map(str, arguments)]
    return subprocess.run(command, check=False).returncode


def assert_whole(catalogue: Catalogue, disk: Path, *, rebuilt: bool = False) -> None:
    """Open what lies there: it answers like the oracle, can be saved, and leaves two files."""
    index = reopen(catalogue, disk)
    assert bool(index.opened.rebuilt_because) == rebuilt
    assert_answers_like_the_oracle(index, catalogue)
    fill(catalogue, 1, series=1000 + len(index))  # so that there is something to save
    index.catch_up(catalogue)
    index.save()
    assert sorted(path.suffix for path in disk.iterdir()) == [".hnsw", ".json"]
    again = reopen(catalogue, disk)
    assert again.opened.rebuilt_because == ""
    assert_answers_like_the_oracle(again, catalogue)


def test_a_kill_before_every_step_of_a_save_leaves_a_good_file(
    catalogue: Catalogue, disk: Path
) -> None:
    reopen(catalogue, disk).save()
    for step in count(1):
        fill(catalogue, 1, series=1 + step)
        ended = save_and_die(catalogue, disk, step=step)
        assert_whole(catalogue, disk)
        if ended == 0:  # there is no such step
            break
        assert ended == -9
    assert step > 8


@pytest.mark.parametrize("share", [0.0, 0.3, 0.99])
def test_a_kill_while_the_graph_is_written_leaves_the_old_file(
    catalogue: Catalogue, disk: Path, share: float
) -> None:
    reopen(catalogue, disk).save()
    size = next(disk.glob("*.hnsw")).stat().st_size
    fill(catalogue, 20, series=2)

    assert save_and_die(catalogue, disk, most_bytes=int(size * share) + 1) == -25  # SIGXFSZ

    assert next(disk.glob("*.draft")).stat().st_size < size
    assert_whole(catalogue, disk)


@pytest.mark.parametrize("room", ["none", "half a graph", "a graph but no header"])
def test_a_disk_that_fills_up_leaves_the_old_file_and_no_half_one(
    catalogue: Catalogue, disk: Path, room: str
) -> None:
    reopen(catalogue, disk).save()
    before = sorted(path.name for path in disk.iterdir())
    fill(catalogue, 20, series=2)
    index = reopen(catalogue, disk)
    assert index._graph is not None
    whole = -(-index._graph.nodes.index_file_size() // PAGE_BYTES) * PAGE_BYTES
    rooms = {"none": 0, "half a graph": whole // 2, "a graph but no header": whole}
    fill_up(disk, leave_bytes=rooms[room])

    with pytest.raises(IndexNotSaved):
        index.save()

    assert_answers_like_the_oracle(index, catalogue)
    assert index.health()
    (disk / "ballast").unlink()
    assert sorted(path.name for path in disk.iterdir()) == before
    assert_whole(catalogue, disk)
    index.save()
    assert index.health() == ""


def fill_up(disk: Path, *, leave_bytes: int) -> None:
    found = os.statvfs(disk)
    (disk / "ballast").write_bytes(bytes(found.f_bavail * found.f_frsize - leave_bytes))


def flip(share: float) -> Callable[[Path, Path], None]:
    def flip_a_bit(graph: Path, _: Path) -> None:
        content = bytearray(graph.read_bytes())
        content[int(share * (len(content) - 1))] ^= 1
        graph.write_bytes(content)

    return flip_a_bit


def cut(size: int) -> Callable[[Path, Path], None]:
    """Cut a graph to that size, or off by it where it is negative."""
    return lambda graph, _: os.truncate(graph, size if size >= 0 else graph.stat().st_size + size)


def put_another_catalogues(graph: Path, header: Path) -> None:
    """Put the pair of a catalogue with other vectors in its place, whole and of the same kind."""
    folder = header.parent.parent / "elsewhere"
    folder.mkdir()
    reopen(filled(folder, series=3), folder / "vectors").save()
    graph.unlink()
    for path in (folder / "vectors").iterdir():
        (header.parent / path.name).write_bytes(path.read_bytes())


SPOILED: dict[str, Callable[[Path, Path], object]] = {
    "first bit flipped": flip(0),
    "bit in the middle flipped": flip(0.5),
    "last bit flipped": flip(1),
    "cut to nothing": cut(0),
    "cut in the head": cut(50),
    "cut at the end": cut(-2),
    "no graph": lambda graph, _: graph.write_bytes(bytes(PAGE_BYTES)),
    "header cut": lambda _, header: os.truncate(header, 40),
    "another model's header": lambda _, header: header.write_text(
        header.read_text().replace(MODEL, OTHER_MODEL)
    ),
    "another catalogue's files": put_another_catalogues,
}


@pytest.mark.parametrize("spoil", SPOILED.values(), ids=SPOILED.keys())
def test_a_spoiled_or_foreign_file_is_built_anew(
    catalogue: Catalogue, disk: Path, spoil: Callable[[Path, Path], object]
) -> None:
    reopen(catalogue, disk).save()
    spoil(next(disk.glob("*.hnsw")), disk / f"{MODEL}.json")

    assert_whole(catalogue, disk, rebuilt=True)


def test_a_clock_that_is_set_back_changes_no_answer(
    catalogue: Catalogue, disk: Path, tmp_path: Path
) -> None:
    reopen(catalogue, disk).save()
    future = datetime(2099, 1, 1, tzinfo=UTC).timestamp()
    for path in disk.iterdir():
        os.utime(path, (future, future))
    earlier = Catalogue(catalogue.engine, lambda: datetime(1999, 1, 1, tzinfo=UTC))
    follower = reopen(earlier, disk, read_only=True)
    fill(earlier, 20, series=2)

    assert follower.catch_up(earlier).added == 20
    assert_answers_like_the_oracle(follower, earlier)
    assert_whole(earlier, disk)
