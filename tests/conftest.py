"""What many tests need: a node in this process, real files, and the shipped peers."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from pydicom.data import get_testdata_file

from dicom_node.config import Config
from dicom_node.listener import prepare_dicom
from dicom_node.node import Node

QUICK = {"series_quiet_s": 0.3, "study_quiet_s": 0.6, "quiet_s_by_modality": {}}


@pytest.fixture(scope="session", autouse=True)
def _prepared() -> None:
    prepare_dicom()


@pytest.fixture
def bundled() -> Callable[[str], Path]:
    """Return a file that came with pydicom or pydicom-data, never from the network."""

    def find(name: str) -> Path:
        path = get_testdata_file(name, download=False)
        assert path is not None, f"{name} is not bundled"
        return Path(path)

    return find


def quick_config(data: Path, **sections: Any) -> Config:
    """Return a node's configuration with free ports and short timers."""
    settings: dict[str, Any] = {
        "data": data,
        "dicom": {"port": 0, "query_port": 0},
        "lifecycle": QUICK,
        "encoder": {"threads": 2},
    }
    return Config.model_validate(settings | sections)


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
