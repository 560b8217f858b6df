"""What many tests need: a node in this process, real files, and the shipped peers."""

from collections.abc import Callable, Iterator, MutableMapping
from contextlib import nullcontext
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import structlog
from catalogues import Clock, NewDatabase, open_catalogue
from hypothesis import settings
from peers import quick_config, stopped_at_the_end
from postgres import Server, closed_connections, running_server
from pydicom.data import get_testdata_file
from pydicom.uid import generate_uid
from pynetdicom import _config
from retrievals import Archive, filled_archive
from structlog.testing import capture_logs
from webs import Library, filled_library
from word_searches import WordLibrary, encoder_with_space, filled

from dicom_node.listener import prepare_dicom
from dicom_node.node import Node
from index.catalogue import Catalogue
from index.db import connect, migrate

# What is true of any input is no statement of how long it takes on a busy machine.
settings.register_profile("unhurried", deadline=None)
settings.load_profile("unhurried")


@pytest.fixture(scope="session", autouse=True)
def _prepared() -> None:
    prepare_dicom()
    _config.STORE_SEND_CHUNKED_DATASET = True  # files go out byte for byte


@pytest.fixture(autouse=True)
def _logging_ends_with_the_test() -> Iterator[None]:
    """A command run in this process logs to a stderr that its runner closes."""
    yield
    structlog.reset_defaults()


@pytest.fixture
def bundled() -> Callable[[str], Path]:
    """Return a file that came with pydicom or pydicom-data, never from the network."""

    def find(name: str) -> Path:
        path = get_testdata_file(name, download=False)
        assert path is not None, f"{name} is not bundled"
        return Path(path)

    return find


@pytest.fixture
def new_uid() -> Callable[[], str]:
    """Return a source of UIDs that nothing else has."""
    return lambda: str(generate_uid(prefix=None))


@pytest.fixture
def events() -> Iterator[list[MutableMapping[str, Any]]]:
    """Return what the node logs while the test runs."""
    with capture_logs() as captured:
        yield captured


@pytest.fixture
def start_node(tmp_path: Path) -> Iterator[Callable[..., Node]]:
    """Return a function that starts a node; all are stopped at the end."""
    started: list[Node] = []

    def start(**sections: Any) -> Node:
        node = Node(quick_config(tmp_path / "data", **sections))
        node.start()
        started.append(node)
        return node

    yield start
    for node in started:
        node.stop()


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Node]:
    """Return a node that the tests of one module share; none may count on what it holds."""
    shared = Node(quick_config(tmp_path_factory.mktemp("node") / "data"))
    try:
        shared.start()
        yield shared
    finally:
        shared.stop()


@pytest.fixture(scope="session")
def library(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Library]:
    """A node that answers over HTTP; nothing is added to what it holds."""
    with filled_library(tmp_path_factory.mktemp("web")) as filled:
        yield filled


@pytest.fixture(scope="session")
def words(tmp_path_factory: pytest.TempPathFactory) -> Iterator[WordLibrary]:
    """A node that is asked in words; nothing is added to what it holds."""
    folder = tmp_path_factory.mktemp("words")
    sections = encoder_with_space(folder)
    with stopped_at_the_end(node := filled(folder, sections)):
        yield WordLibrary(node, sections)


@pytest.fixture
def clock() -> Clock:
    """A clock that stands still."""
    return Clock()


@pytest.fixture(scope="session")
def postgresql() -> Iterator[Server]:
    """A PostgreSQL server; its database `migrated` is an empty catalogue to copy."""
    with running_server() as server:
        server.execute("CREATE DATABASE migrated")
        engine = connect(server.url("migrated"))
        migrate(engine)
        engine.dispose()
        yield server


@pytest.fixture(scope="session", params=["sqlite", "postgresql"])
def new_database(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> NewDatabase:
    """A source of empty databases, by URL: of SQLite first, then of PostgreSQL."""
    if request.param == "postgresql":
        server: Server = request.getfixturevalue("postgresql")
        return partial(server.database, template="migrated")
    return lambda: nullcontext(f"sqlite:///{tmp_path_factory.mktemp('sqlite') / 'similis.db'}")


@pytest.fixture
def database_url(new_database: NewDatabase) -> Iterator[str]:
    """An empty database of each kind."""
    with new_database() as url, closed_connections():
        yield url


@pytest.fixture
def catalogue(database_url: str, clock: Clock) -> Catalogue:
    """An empty catalogue on that clock, in each kind of database."""
    return open_catalogue(database_url, clock)


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Archive]:
    """Return a node with studies to retrieve, and its peers."""
    with filled_archive(tmp_path_factory.mktemp("retrieve")) as filled:
        yield filled
