"""What an import finds in a folder that holds anything, and in archives that mean harm."""

import os
import socket
import struct
import tempfile
import tracemalloc
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from dicom_node.operate.sources import LeftOut, files_below, sources
from training import phantoms

LARGEST = 1 << 20
Bundled = Callable[[str], Path]


@pytest.fixture
def still(tmp_path: Path) -> Path:
    return phantoms.still(tmp_path / "still", new_uid=phantoms.uid_source(1), size=(64, 48))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = tmp_path / "folder"
    made.mkdir()
    return made


def found(*paths: Path, data: Path | None = None) -> dict[str, str]:
    """Return name and reason of what lies below; "" for what is to be opened."""
    below = files_below(paths, data=data)
    return {
        Path(each.name).name if isinstance(each, LeftOut) else each.name: each.reason
        if isinstance(each, LeftOut)
        else ""
        for each in below
    }


def inside(archive: Path, *, largest_bytes: int = LARGEST) -> dict[str, bytes | str]:
    """Return the bytes of what an archive gives, the reason for what it does not."""
    return {
        each.name.removeprefix(str(archive)).removeprefix("!"): each.reason
        if isinstance(each, LeftOut)
        else each.stream.read()
        for each in sources(archive, largest_bytes=largest_bytes)
    }


def zipped(folder: Path, members: dict[str, bytes], method: int = zipfile.ZIP_DEFLATED) -> Path:
    path = folder / "a.zip"
    with zipfile.ZipFile(path, "w", method) as archive:
        for name, data in members.items():
            archive.writestr(zipfile.ZipInfo(name), data, method)
    return path


def test_only_regular_files_are_opened_and_the_rest_is_named(folder: Path) -> None:
    (folder / "deep/er").mkdir(parents=True)
    (folder / "deep/er/file").write_bytes(b"")
    os.mkfifo(folder / "fifo")
    (folder / "device").symlink_to("/dev/zero")
    (folder / "circle").symlink_to(folder)
    (folder / "itself").symlink_to("itself")
    (folder / "nowhere").symlink_to("gone")
    (folder / "link").symlink_to("deep/er/file")
    (folder / "data").mkdir()
    (folder / "data/kept").write_bytes(b"")
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(os.path.relpath(folder / "socket"))

    assert found(folder, data=folder / "data") == {
        "file": "",
        "link": "",
        "fifo": "not a regular file",
        "device": "not a regular file",
        "socket": "not a regular file",
        "circle": "a link to a folder; name the folder to take it in",
        "itself": "Too many levels of symbolic links",
        "nowhere": "No such file or directory",
        "data": "the data folder itself",
    }
    assert found(folder / "circle")["file"] == "", "a link that is named is followed"
    assert found(Path("/dev/zero")) == {"zero": "not a regular file"}


def test_what_may_not_be_read_is_named() -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        folder.chmod(0o755)
        (folder / "locked").mkdir(mode=0)
        (folder / "file").touch(mode=0)
        root = os.geteuid() == 0
        if root:
            os.seteuid(65534)  # root may read everything
        try:
            below = found(folder)
            (opened,) = sources(folder / "file", largest_bytes=LARGEST)
        finally:
            if root:
                os.seteuid(0)
    assert below == {"file": "", "locked": "Permission denied"}
    assert isinstance(opened, LeftOut) and opened.reason == "Permission denied"


def test_a_folder_deeper_than_python_can_recurse_is_walked(folder: Path) -> None:
    bottom = folder
    for _ in range(1200):
        bottom /= "d"
        bottom.mkdir()
    (bottom / "file").touch()
    assert found(folder) == {"file": ""}
    (bottom / "file").unlink()
    for path in [bottom, *bottom.parents][:1200]:  # nor can those who tidy up recurse that deep
        path.rmdir()


def test_members_of_an_archive_are_read_as_they_were(folder: Path, still: Path) -> None:
    data = still.read_bytes()
    for method in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        archive = zipped(folder, {"1": data, "a/b.dcm": data, "notes": b"n" * 500}, method)
        assert inside(archive) == {"1": data, "a/b.dcm": data, "notes": b"n" * 132}


def test_a_file_whose_preamble_looks_like_a_zip_is_dicom(folder: Path, still: Path) -> None:
    data = b"PK\x03\x04" + still.read_bytes()[4:]
    (folder / "polyglot.dcm").write_bytes(data)
    assert inside(folder / "polyglot.dcm") == {"": data}
    assert inside(zipped(folder, {"p": data})) == {"p": data}


@pytest.mark.parametrize("name", ["../up", "/root", "a/../../b", "..\\up", "C:\\x", "\\\\host\\x"])
def test_a_name_that_leads_out_of_the_archive_is_left_out(folder: Path, name: str) -> None:
    assert inside(zipped(folder, {name: b"x"})) == {name: "a name that leads out of its zip file"}


def test_an_archive_in_an_archive_is_named(folder: Path, still: Path) -> None:
    inner = zipped(folder, {"1": still.read_bytes()}).read_bytes()
    archive = zipped(folder, {"inner.zip": inner})
    assert inside(archive) == {"inner.zip": "a zip file in a zip file; unpack it first"}


def test_a_member_that_grows_beyond_measure_is_never_inflated(folder: Path, still: Path) -> None:
    head = still.read_bytes()[:132]
    archive = zipped(folder, {"bomb": head + bytes(65 << 20), "good": still.read_bytes()})
    assert inside(archive, largest_bytes=1 << 40)["bomb"] == "grows like a zip bomb"
    assert inside(archive)["good"] == still.read_bytes()


def test_a_member_that_lies_about_its_size_is_inflated_no_further(
    folder: Path, still: Path
) -> None:
    archive = zipped(folder, {"liar": still.read_bytes()[:132] + bytes(64 << 20)})
    data = bytearray(archive.read_bytes())
    struct.pack_into("<I", data, data.index(b"PK\x01\x02") + 24, 100_000)
    archive.write_bytes(data)
    tracemalloc.start()
    try:
        assert inside(archive) == {"liar": "in a damaged zip file"}
        assert tracemalloc.get_traced_memory()[1] < 4 << 20
    finally:
        tracemalloc.stop()


def test_a_member_or_file_above_the_limit_is_left_out(folder: Path, still: Path) -> None:
    large = still.read_bytes() + os.urandom(LARGEST)
    (folder / "large.dcm").write_bytes(large)
    reason = "larger than storage.maximum_object_mb"
    assert inside(zipped(folder, {"large": large})) == {"large": reason}
    assert inside(folder / "large.dcm") == {"": reason}


@pytest.mark.parametrize("method", [zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_a_method_that_inflates_without_a_limit_is_not_read(folder: Path, method: int) -> None:
    archive = zipped(folder, {"1": b"x" * 1000}, method)
    assert inside(archive) == {"1": "packed in a way that is not read here"}


def test_an_encrypted_member_is_named(folder: Path, still: Path) -> None:
    archive = zipped(folder, {"1": still.read_bytes()})
    data = bytearray(archive.read_bytes())
    for signature, offset in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        data[data.index(signature) + offset] |= 1
    archive.write_bytes(data)
    assert inside(archive) == {"1": "an encrypted member of a zip file"}


def test_members_that_share_their_bytes_are_a_bomb(folder: Path, still: Path) -> None:
    archive = zipped(folder, {"1": still.read_bytes(), "2": still.read_bytes()})
    data = bytearray(archive.read_bytes())
    second = data.index(b"PK\x01\x02", data.index(b"PK\x01\x02") + 4)
    struct.pack_into("<I", data, second + 42, 0)  # where its local header lies
    archive.write_bytes(data)
    assert inside(archive) == {"": "a zip file whose members overlap, as in a zip bomb"}


def test_a_damaged_member_does_not_harm_its_neighbour(folder: Path, still: Path) -> None:
    whole = still.read_bytes()
    archive = zipped(folder, {"1": whole, "2": whole}, zipfile.ZIP_STORED)
    data = bytearray(archive.read_bytes())
    data[data.index(whole) + 1000] ^= 1
    archive.write_bytes(data)
    assert inside(archive) == {"1": "in a damaged zip file", "2": whole}


def test_a_cut_archive_is_named(folder: Path, still: Path) -> None:
    archive = zipped(folder, {"1": still.read_bytes()})
    for size in (4, 100, archive.stat().st_size - 3):
        os.truncate(archive, size)
        assert inside(archive) == {"": "a damaged zip file"}
        archive = zipped(folder, {"1": still.read_bytes()})
